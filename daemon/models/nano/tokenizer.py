"""nano's tokenizer: a token for every word of its world, and bytes for everything else.

A word that is one token can be copied in one step, which is most of what nano has to do; and no vocabulary goes into
the pieces of words that never occur on their own. Any text can be written, in bytes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from daemon.models.nano.grammar import CHAT_TEMPLATE, Grammar

PAD, START, END, TEXT = "<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"
SPECIAL = (PAD, START, END, TEXT)


def make_tokenizer(*, dialogues: int = 20_000, rarest: int = 3, seed: int = 9) -> Any:
    """Make the tokenizer from dialogues of the grammar. The same arguments always give the same tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    counts: Counter[str] = Counter()
    grammar = Grammar(seed)
    for _ in range(dialogues):
        for role, content in grammar.sample():
            # as the chat template writes it
            counts.update(word for word, _ in split.pre_tokenize_str(f"{role}\n{content}"))
            counts.update(word for word, _ in split.pre_tokenize_str("\n"))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = sorted(word for word, n in counts.items() if n >= rarest and len(word) > 1)
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *letters, *words))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    core.pre_tokenizer = split
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=TEXT,
        eos_token=END,
        additional_special_tokens=[START],
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
    )

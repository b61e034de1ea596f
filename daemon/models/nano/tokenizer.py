"""nano's tokenizer: byte-level BPE over its own world, so every text can be written and common words are one token."""

from __future__ import annotations

from typing import Any

from daemon.models.nano.grammar import CHAT_TEMPLATE, Grammar

VOCABULARY = 1024
PAD, START, END, TEXT = "<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"


def make_tokenizer(*, size: int = VOCABULARY, dialogues: int = 8000, seed: int = 9) -> Any:
    """Train the tokenizer on dialogues of the grammar. The same arguments always give the same tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    grammar = Grammar(seed)
    texts = [content for _ in range(dialogues) for _, content in grammar.sample()]
    roles = ["system", "user", "assistant"] * 500
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, START, END, TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator([*texts, *roles], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=TEXT,
        eos_token=END,
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
    )

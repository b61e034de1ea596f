"""A tiny random Qwen3.5 hybrid (3 GDN layers, 1 full attention), or a dense Qwen3, with a BPE tokenizer.

Real parts, made in a second.
"""

from __future__ import annotations

from pathlib import Path

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = "the quick brown fox sorts a list with grep and then says yes or no to you . ? , please do it now instead"


def save(folder: Path, *, template: str | None = TEMPLATE, seed: int = 0, dense: bool = False, **other: int) -> Path:
    """Write config, weights and tokenizer into `folder` and return it. `other` are keys of the config."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen3_5ForCausalLM,
        Qwen3_5TextConfig,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    special = ["<pad>", "<|im_start|>", "<|im_end|>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([WORDS, "system user assistant"] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", eos_token="<|im_end|>", additional_special_tokens=["<|im_start|>"]
    )
    if template is not None:
        tokenizer.chat_template = template
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 2,
        **other,
    }
    hybrid = {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "mrope_section": [2, 1, 1],
        },
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = (
            Qwen3ForCausalLM(Qwen3Config(**sizes))
            if dense
            else Qwen3_5ForCausalLM(Qwen3_5TextConfig(**sizes, **hybrid))
        )
        with torch.no_grad():  # larger than the default, so that answers differ from each other
            for name, parameter in net.named_parameters():
                if "embed" in name:
                    parameter.mul_(8)
    net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

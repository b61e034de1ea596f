"""What is inside a model: the one file that knows module names, layer kinds and where recurrent state lives.

Known: transformers 5.16-5.23. Qwen3.5's hybrid of Gated DeltaNet (GDN, arXiv 2412.06464) and full attention, and the
dense models with the usual projection names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from daemon.errors import ConfigError, ModelMissing

GDN = ("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")  # Qwen3.5's q_proj holds the output gate too: double width
MLP = ("gate_proj", "up_proj", "down_proj")
CPU_CHUNK = 16  # transformers' default is 64; 16 is 1.1-1.5x faster on short sequences on a CPU


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The linear projections of an architecture, by the part of the layer that they belong to."""

    gdn: tuple[str, ...]
    attention: tuple[str, ...]
    mlp: tuple[str, ...]

    @property
    def linear(self) -> tuple[str, ...]:
        """Every linear projection that LoRA can target."""
        return self.gdn + self.attention + self.mlp


_DENSE = Anatomy((), ATTENTION, MLP)
KNOWN = {
    "qwen3_5_text": Anatomy(GDN, ATTENTION, MLP),
    "qwen3": _DENSE,
    "qwen2": _DENSE,
    "llama": _DENSE,
    "mistral": _DENSE,
}


def of(net: nn.Module) -> Anatomy:
    """The anatomy of a loaded causal language model, checked against its modules before LoRA wraps them.

    Raises ModelMissing for an architecture that this file does not know.
    """
    config: Any = net.config
    kind = config.model_type
    if kind not in KNOWN:
        raise ModelMissing(
            f'architecture "{kind}" is not known to daemon/models/anatomy.py (known: {", ".join(KNOWN)}); add its '
            "projection names there"
        )
    names = {name.rpartition(".")[2] for name, module in backbone(net).named_modules() if isinstance(module, nn.Linear)}
    unknown = names - set(KNOWN[kind].linear)
    if unknown:
        raise ModelMissing(f'architecture "{kind}" has linear layers that anatomy.py does not know: {sorted(unknown)}')
    return KNOWN[kind]


def targets(net: nn.Module, anatomy: Anatomy, wished: Sequence[str]) -> list[str]:
    """The module names that LoRA is put on. `wished` is ("all-linear",), groups ("gdn", "attention", "mlp") or names.

    Raises ConfigError naming a wish that matches no module.
    """
    groups = {"all-linear": anatomy.linear, "gdn": anatomy.gdn, "attention": anatomy.attention, "mlp": anatomy.mlp}
    present = {name.rpartition(".")[2] for name, module in backbone(net).named_modules()}
    chosen: dict[str, None] = {}
    for wish in wished:
        for name in groups.get(wish, (wish,)) or (wish,):
            if name not in present or name not in anatomy.linear:
                raise ConfigError(
                    f'`learn.targets`: this model has no "{name}"; use {", ".join(groups)} or {anatomy.linear}'
                )
            chosen[name] = None
    return list(chosen)


def with_gdn() -> list[str]:
    """The known architectures that have GDN layers."""
    return [name for name, anatomy in KNOWN.items() if anatomy.gdn]


def kinds(net: nn.Module) -> list[str]:
    """Per decoder layer "linear_attention" (GDN) or "full_attention"."""
    config: Any = net.config
    return list(getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers)


def layers(net: nn.Module) -> nn.ModuleList:
    """The decoder layers. Hook the last one for the last hidden state: `hidden_states[-1]` is after the final norm."""
    return backbone(net).layers  # type: ignore[return-value]


def mixers(net: nn.Module) -> list[nn.Module]:
    """Per decoder layer what mixes its tokens: GDN returns (batch, tokens, hidden), attention that and its weights."""
    names = {"linear_attention": "linear_attn"}
    return [
        layer.get_submodule(names.get(kind, "self_attn")) for layer, kind in zip(layers(net), kinds(net), strict=True)
    ]


@contextlib.contextmanager
def eager_attention(net: nn.Module) -> Iterator[None]:
    """Compute attention step by step for a while: fused kernels return no weights. The numbers agree to rounding."""
    config: Any = net.config
    before = config._attn_implementation
    config._attn_implementation = "eager"  # masks and layers look it up at each forward
    try:
        yield
    finally:
        config._attn_implementation = before


def place(parameter: str) -> tuple[int, str]:
    """The block, counted from 1, and the projection that a saved LoRA parameter belongs to.

    >>> place("base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight")
    (4, 'q_proj')
    """
    parts = parameter.split(".")
    return int(parts[parts.index("layers") + 1]) + 1, parts[-3]


def backbone(net: nn.Module) -> nn.Module:
    """The model without its head: returns hidden states after the final norm, shape (batch, tokens, hidden)."""
    return net.model  # type: ignore[return-value]


def logits(net: nn.Module, hidden: Tensor) -> Tensor:
    """Hidden states of any leading shape to fp32 logits over the vocabulary, computed only where they are needed."""
    head: Any = net.lm_head
    return head(hidden).float()  # type: ignore[no-any-return]


def new_cache(net: nn.Module) -> Any:
    """An empty cache with the right kind of layer at each place: keys and values, or convolution and GDN state."""
    from transformers import DynamicCache

    return DynamicCache(config=net.config)


def keep_rows(cache: Any, rows: Tensor) -> None:
    """Keep only these rows of the batch in a cache (in this order): finished answers cost nothing more."""
    for layer in cache.layers:
        layer.reorder_cache(rows)  # an index_select along the batch: fewer rows are as good as reordered ones


def recurrent_state(cache: Any, layer: int) -> Tensor:
    """A GDN layer's state after a forward with a cache: (batch, heads, d_key, d_value), fp32.

    Left-pad and pass the attention mask; read it at the end of the user's text. Raises ValueError for a layer without.
    """
    states = getattr(cache.layers[layer], "recurrent_states", None)
    if not states or states[0] is None:
        raise ValueError(f"layer {layer} has no recurrent state: it is not a GDN layer, or nothing ran through it")
    return states[0]  # type: ignore[no-any-return]


def short_chunks() -> None:
    """Make the pure-torch GDN path use short chunks on a CPU: it is a module global looked up at each call."""
    from transformers.models.qwen3_5 import modeling_qwen3_5 as module

    original: Any = module.torch_chunk_gated_delta_rule
    if getattr(original, "short_chunks", False):
        return

    def chunked(query: Tensor, *args: Any, **options: Any) -> Any:
        if query.device.type == "cpu":
            options.setdefault("chunk_size", CPU_CHUNK)
        return original(query, *args, **options)

    chunked.short_chunks = True  # type: ignore[attr-defined]
    module.torch_chunk_gated_delta_rule = chunked


def release_memory() -> None:
    """Give freed memory back: the accelerator's cache, and the C library's arenas on a CPU."""
    import gc

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""CPU only: an adapter is added to the tokens that ask for it, and to no others.

vLLM's CPU build copies the adapters' matrices once for every token of a step, picked by the token's slot. For a token
without an adapter that is -1, which picks the last slot: once all slots (--max-loras) are taken, whoever asks for the
base while adapters run in the same step is answered by the adapter of the last slot, with HTTP 200. Here each slot's
tokens are multiplied together, and the others are left alone. It is faster, too: nothing is copied per token.

Relies on PunicaWrapperCPU: update_metadata, token_lora_indices, sampler_indices, and the three methods replaced here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

_MENDED = "dreamloop_groups"
Groups = list[tuple[int, Tensor | None]]  # a slot and its rows; None are all of them


def mend() -> str | None:
    """Replace the sums; what was done in words, None when this vLLM has other internals."""
    try:
        from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU as Wrapper

        original = Wrapper.update_metadata
        _ = Wrapper.add_lora_linear, Wrapper.add_lora_logits, Wrapper.add_lora_embedding
        _ = Wrapper.token_lora_indices, Wrapper.sampler_indices
    except (ImportError, AttributeError):
        return None
    if not hasattr(original, _MENDED):

        def update_metadata(self: Any, *rest: Any, **more: Any) -> None:
            original(self, *rest, **more)
            self.dreamloop_tokens = grouped(self.token_lora_indices)
            self.dreamloop_samples = grouped(self.sampler_indices)

        setattr(update_metadata, _MENDED, True)
        Wrapper.update_metadata = update_metadata
        Wrapper.add_lora_linear = _add_lora_linear
        Wrapper.add_lora_logits = _add_lora_logits
        Wrapper.add_lora_embedding = _add_lora_embedding
        Wrapper.dreamloop_tokens = Wrapper.dreamloop_samples = ()  # before the first step
    return "the base stays the base beside adapters that fill every slot"


def grouped(slots: Tensor) -> Groups:
    """The rows of each slot; those of -1, which stands for no adapter, are in none."""
    present = sorted(set(slots.tolist()))
    if len(present) == 1:
        return [] if present[0] < 0 else [(present[0], None)]
    return [(slot, (slots == slot).nonzero().flatten()) for slot in present if slot >= 0]


def _add_lora_linear(
    self: Any,
    y: Tensor,
    x: Tensor,
    lora_a_stacked: Sequence[Tensor],
    lora_b_stacked: Sequence[Tensor],
    scale: float,
    output_slices: Sequence[int],
    **_: Any,
) -> None:
    """y (tokens, out) += x (tokens, in) A' B' * scale, slice by slice of y."""
    y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
    for slot, rows in self.dreamloop_tokens:
        some = (x if rows is None else x[rows]).float()
        begin = 0
        for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            _expand(y, _shrink(some, a, slot, scale), b, slot, rows, begin, width)
            begin += width


def _add_lora_logits(
    self: Any, y: Tensor, x: Tensor, lora_a_stacked: Tensor, lora_b_stacked: Tensor, scale: float, **_: Any
) -> None:
    """The same for the logits of what is sampled: y (samples, vocabulary)."""
    y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
    for slot, rows in self.dreamloop_samples:
        b = _of(lora_b_stacked, slot)
        if b.any():  # most adapters do not touch the output layer
            some = (x if rows is None else x[rows]).float()
            width = min(len(b), y.shape[1])  # the two may be padded differently
            _expand(y, _shrink(some, lora_a_stacked, slot, scale), lora_b_stacked, slot, rows, 0, width)


def _add_lora_embedding(
    self: Any, y: Tensor, x: Tensor, lora_b_stacked: Tensor, add_inputs: bool = True, **_: Any
) -> None:
    """y (tokens, width) += x B', where x (tokens, rank) are the rows of A that the tokens picked."""
    if not add_inputs:
        y.zero_()
    for slot, rows in self.dreamloop_tokens:
        some = (x if rows is None else x[rows]).float()
        _expand(y, some, lora_b_stacked, slot, rows, 0, min(_of(lora_b_stacked, slot).shape[0], y.shape[1]))


def _of(stacked: Tensor, slot: int) -> Tensor:
    """One adapter's matrix of a stack (slots, 1, out, in)."""
    return stacked[slot].view(stacked.shape[-2:])


def _shrink(x: Tensor, a: Tensor, slot: int, scale: float) -> Tensor:
    """(rows, rank) in float32, as vLLM's own."""
    return x @ _of(a, slot).float().T * scale


def _expand(y: Tensor, x: Tensor, b: Tensor, slot: int, rows: Tensor | None, begin: int, width: int) -> None:
    """Add x (rows, rank) B' to `width` columns of y from `begin` on."""
    added = (x @ _of(b, slot)[:width].float().T).to(y.dtype)
    columns = y[:, begin : begin + width]
    if rows is None:
        columns += added
    else:
        columns.index_add_(0, rows, added)

"""CPU only: Gated DeltaNet heads whose size is no multiple of 64.

vLLM's CPU kernels for GDN read heads in tiles of 64. A smaller head is padded with zeros around the kernel: zeros
change neither the norms of queries and keys nor any product. The kernel divides by the root of the size it sees, so
what comes out is multiplied by the root of (padded size / real size). The state in vLLM's cache keeps its real size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

TILE = 64
_MENDED = "dreamloop_pads"


def mend() -> str | None:
    """Put padding around both kernels; what was done in words, None when this vLLM has other kernels."""
    try:
        from vllm import _custom_ops as kernels

        chunk = kernels.chunk_gated_delta_rule_cpu
        step = kernels.fused_sigmoid_gating_delta_rule_update_cpu
    except (ImportError, AttributeError):
        return None
    if not hasattr(chunk, _MENDED):
        kernels.chunk_gated_delta_rule_cpu = _padded(
            chunk, ("query", "key", "value"), state="initial_state", places="initial_state_indices"
        )
        kernels.fused_sigmoid_gating_delta_rule_update_cpu = _padded(
            step, ("q", "k", "v"), state="initial_state_source", places="initial_state_indices"
        )
    return f"GDN heads are padded to multiples of {TILE}"


def _padded(kernel: Any, inputs: tuple[str, str, str], *, state: str, places: str) -> Any:
    """The kernel for heads of any size. vLLM calls it with keywords; it returns the output, or (output, state)."""

    def padded(**given: Any) -> Any:
        keys, values = given[inputs[0]].shape[-1], given[inputs[2]].shape[-1]
        if keys % TILE == 0 and values % TILE == 0:
            return kernel(**given)
        # the kernel changes the rows of the state that it is told: it gets a padded copy of them, numbered anew
        pool, rows = given[state], given[places]
        copy = _grow(pool[rows], -2, -1)
        given |= {name: _grow(given[name], -1) for name in inputs}
        given |= {state: copy, places: torch.arange(len(rows), dtype=rows.dtype, device=rows.device)}
        found = kernel(**given)
        pool[rows] = copy[..., :keys, :values]
        scale = math.sqrt(_up(keys) / keys)
        if isinstance(found, tuple):
            return found[0][..., :values] * scale, pool
        return found[..., :values] * scale

    setattr(padded, _MENDED, True)
    return padded


def _grow(values: Tensor, *dims: int) -> Tensor:
    """Zeros behind these dimensions (counted from the end, the last one last), up to a multiple of the tile."""
    margins: list[int] = []
    for dim in reversed(dims):
        margins += [0, _up(values.shape[dim]) - values.shape[dim]]
    return functional.pad(values, margins).contiguous()


def _up(size: int) -> int:
    return -(-size // TILE) * TILE

"""CPU only: a prompt of one token, alone in its step, on a model with Gated DeltaNet.

vLLM's CPU convolution wants its input transposed, asks so by `is_contiguous`, and one column is contiguous either way:
it raises, and that ends the engine. It gets a second column, which belongs to no sequence.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_MENDED = "dreamloop_widens"


def mend() -> str | None:
    """Never hand the kernel a single column; what was done in words, None when this vLLM has another kernel."""
    try:
        from vllm import _custom_ops as kernels

        original = kernels.causal_conv1d_fwd_cpu
    except (ImportError, AttributeError):
        return None
    if not hasattr(original, _MENDED):

        def causal_conv1d_fwd_cpu(x: Tensor, *rest: Any, **more: Any) -> Any:
            if x.dim() != 2 or x.shape[1] != 1:
                return original(x, *rest, **more)
            column = x.transpose(0, 1)
            return original(torch.cat([column, column]).transpose(0, 1), *rest, **more)[:, :1]

        setattr(causal_conv1d_fwd_cpu, _MENDED, True)
        kernels.causal_conv1d_fwd_cpu = causal_conv1d_fwd_cpu
    return "a prompt of one token does not end the engine"

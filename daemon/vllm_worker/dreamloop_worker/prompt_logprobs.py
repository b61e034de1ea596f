"""CPU only: `prompt_logprobs` while LoRA is enabled.

The logits of a prompt are computed with one row per prompt token, but vLLM's LoRA step for logits has one index per
*sampled* row. The CPU kernel raises when the two numbers differ, and that ends the engine. Where the adapters loaded do
not touch the output layer, as dreamloop's never do, there is nothing to add.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

_MENDED = "dreamloop_minds_rows"


def mend() -> str | None:
    """Skip the step where it has nothing to add; what was done in words, None when this vLLM has no such step."""
    try:
        from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

        original = PunicaWrapperCPU.add_lora_logits
    except (ImportError, AttributeError):
        return None
    if not hasattr(original, _MENDED):

        def add_lora_logits(
            self: Any, y: Tensor, x: Tensor, lora_a_stacked: Tensor, lora_b_stacked: Tensor, *rest: Any, **more: Any
        ) -> None:
            if x.numel() // x.shape[-1] == self.sampler_indices.shape[0]:
                original(self, y, x, lora_a_stacked, lora_b_stacked, *rest, **more)
            elif lora_b_stacked.any():
                raise RuntimeError(
                    "an adapter changes the output layer: vLLM's CPU build cannot give prompt_logprobs with it; "
                    "train without lm_head"
                )

        setattr(add_lora_logits, _MENDED, True)
        PunicaWrapperCPU.add_lora_logits = add_lora_logits
    return "prompt_logprobs do not end the engine when LoRA is enabled"

"""dreamloop's extension of a vLLM worker: steering per request, and what an adapter really holds.

Loaded by vLLM in its own environment, before the worker is made:

    PYTHONPATH=.../daemon/vllm_worker VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enforce-eager
        --worker-extension-cls dreamloop_worker.Worker

It imports only the standard library, torch and vllm. Importing it mends what vLLM's CPU build gets wrong (see
`small_heads`, `one_token`, `lora_rows`, `prompt_logprobs` and `seeded`); on any other platform nothing of vLLM's is
changed but one thing: adapters remember their names (see `adapters`).
"""

from __future__ import annotations

from . import adapters, lora_rows, one_token, prompt_logprobs, seeded, small_heads
from .worker import Worker

__all__ = ["REPAIRS", "Worker"]


def _on_cpu() -> bool:
    try:
        from vllm.platforms import current_platform
    except ImportError:
        return False
    return bool(current_platform.is_cpu())


adapters.remember_names()
# What was mended in this process, in words: part of `dreamloop_hello`. prompt_logprobs wraps a part of lora_rows.
REPAIRS: list[str] = [
    said
    for part in (
        small_heads,
        one_token,
        lora_rows,
        prompt_logprobs,
        seeded,
    )
    if _on_cpu() and (said := part.mend()) is not None
]
Worker.dreamloop_repairs = REPAIRS

"""CPU only: a request with a seed whose prompt is computed in several steps.

After each step but the last vLLM takes the sampled token back by winding the request's random generator back. A CPU
generator cannot be wound, which ends the engine. It is seeded anew instead: nothing was drawn from it before. (One that
was preempted after its first tokens draws from the beginning again, which changes its luck and nothing else.)
"""

from __future__ import annotations

from typing import Any

_MENDED = "dreamloop_seeds"


def mend() -> str | None:
    """Seed anew where vLLM would wind back; what was done in words, None when this vLLM has other internals."""
    try:
        from vllm.v1.worker.gpu_model_runner import GPUModelRunner

        original = GPUModelRunner._bookkeeping_sync
    except (ImportError, AttributeError):
        return None
    if not hasattr(original, _MENDED):

        def _bookkeeping_sync(self: Any, *rest: Any, **more: Any) -> Any:
            batch = self.input_batch
            discarded = self.discard_request_mask.np[: batch.num_reqs].nonzero()[0]
            held = {int(row): batch.generators.pop(int(row)) for row in discarded if int(row) in batch.generators}
            for generator in held.values():
                generator.manual_seed(generator.initial_seed())
            try:
                return original(self, *rest, **more)
            finally:
                batch.generators.update(held)

        setattr(_bookkeeping_sync, _MENDED, True)
        GPUModelRunner._bookkeeping_sync = _bookkeeping_sync
    return "a prompt in several steps may have a seed"

"""Sleep: the server gives its memory up while training runs, and takes it back after it. Nothing answers meanwhile."""

from __future__ import annotations

from policies.serve.sharing import Sharing, Sleep

ASLEEP = 0.1  # of the GPU: what a sleeping server keeps (its CUDA context), with some room


def share(memory: float) -> Sharing:
    """Level 1 around every training window; in between the whole GPU is the server's. `memory` is not used.

    >>> share(0.5).arguments, share(0.5).trainer, share(0.5).trainer_leaves
    (('--enable-sleep-mode',), 0.9, True)
    """
    return Sharing(arguments=("--enable-sleep-mode",), trainer=1 - ASLEEP, sleep=Sleep(), trainer_leaves=True)

"""Coexist: server and training are on one GPU at the same time, each with its share of the memory."""

from __future__ import annotations

from policies.serve.sharing import Sharing

MARGIN = 0.05  # of the GPU: two CUDA contexts, and what vLLM allocates beyond its share


def share(memory: float) -> Sharing:
    """The server takes `memory` of the GPU (0 to 1), training the rest less a margin. Raises ValueError for no rest.

    >>> share(0.5)
    Sharing(arguments=('--gpu-memory-utilization', '0.5'), trainer=0.45, sleep=None, trainer_leaves=False)
    """
    rest = round(1 - memory - MARGIN, 4)
    if memory <= 0 or rest <= 0:
        raise ValueError(f"{memory:g} of the GPU's memory for the server leaves none for training; it takes less")
    return Sharing(arguments=("--gpu-memory-utilization", f"{memory:g}"), trainer=rest)

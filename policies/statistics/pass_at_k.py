"""Code quality by execution: the chance that at least one of k samples passes (Chen et al. 2021, arXiv 2107.03374)."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np

from policies.statistics.bootstrap import mean_interval
from policies.statistics.interval import Interval


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate 1 - C(n - c, k) / C(n, k) from `c` of `n` samples that passed.

    >>> round(pass_at_k(5, 1, 2), 3)  # of the 10 pairs, 4 hold the one that passed
    0.4

    Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} of {c} passed in {n} samples is not defined")
    return 1 - comb(n - c, k) / comb(n, k)


def mean_pass_at_k(counts: Sequence[tuple[int, int]], k: int, rng: np.random.Generator) -> Interval:
    """The mean over problems of pass@k, with limits from resampling problems; `counts` is (samples, passed) of each.

    >>> mean_pass_at_k([(5, 1), (5, 5)], 1, np.random.default_rng(0)).value
    0.6

    Raises ValueError as `pass_at_k` does.
    """
    return mean_interval([pass_at_k(n, c, k) for n, c in counts], rng)

"""How much less a bursty observation says than an independent one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def design_effect(clusters: Sequence[Sequence[float]]) -> float:
    """Variance of the mean over clusters, divided by that of as many independent observations (Kish 1965, ch. 8.2).

    Observations in [0, 1], a list per conversation. Independent ones give about 1, all alike within a cluster of m give
    m. Without variance, or with fewer than 2 clusters, it is 1.

    >>> design_effect([[1, 1], [0, 0]] * 50)
    2.0
    """
    sums, sizes = np.array([sum(c) for c in clusters], dtype=float), np.array([len(c) for c in clusters], dtype=float)
    n = float(sizes.sum())
    mean = float(sums.sum()) / n if n else 0.0
    within = float(sum((x - mean) ** 2 for cluster in clusters for x in cluster))
    if len(clusters) < 2 or within == 0.0:
        return 1.0
    return float(((sums - mean * sizes) ** 2).sum() / within)

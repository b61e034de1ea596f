"""How well a forecast ranks dreams, next to the best that any forecast could do on so few answers each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from policies.statistics.bins import checked


class Ranking(NamedTuple):
    """Spearman's rho of forecast and failure rate, its ceiling, and their ratio (0.0 when the ceiling is 0)."""

    rho: float
    ceiling: float
    ratio: float


def spearman_of_ceiling(predicted: Sequence[float], failures: Sequence[int], trials: Sequence[int]) -> Ranking:
    """Rank correlation divided by the square root of the answers' reliability, v / (v + w / k) (Spearman 1904).

    v is the variance of the dreams' true difficulty and w that of one answer to one dream, both estimated from the
    answers (one-way analysis of variance); k is the harmonic mean number of answers. Only dreams with at least 2
    answers count. The ratio may exceed 1 by chance. Fewer than 3 dreams, or all alike, give zeros.

    >>> spearman_of_ceiling([0.1, 0.5, 0.9], [0, 50, 100], [100, 100, 100]).rho
    1.0

    Raises ValueError when lengths differ, counts are impossible or a forecast is outside [0, 1].
    """
    p, k, m = checked(predicted, failures, trials)
    p, k, m = p[m >= 2], k[m >= 2], m[m >= 2]
    if len(p) < 3 or np.ptp(p) == 0.0 or np.ptp(k / m) == 0.0:
        return Ranking(0.0, 0.0, 0.0)
    rate = k / m
    rho = float(np.corrcoef(rankdata(p), rankdata(rate))[0, 1])
    noise = float((rate * (1 - rate) / (m - 1)).mean())  # w / k: the variance of a dream's observed rate
    ceiling = math.sqrt(max(0.0, 1 - noise / float(rate.var(ddof=1))))
    return Ranking(rho, ceiling, rho / ceiling if ceiling else 0.0)

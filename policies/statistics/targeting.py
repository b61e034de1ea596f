"""Are dreams as hard as practice should be? Learning is fastest where about half of the attempts fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betainc

_POINT = 1e-6  # a variance of difficulty below this is none


@dataclass(frozen=True, slots=True)
class Targeting:
    """`share` of dreams that fail with a probability within the limits, and mean `learnability` 4 p (1 - p)."""

    share: float
    learnability: float


def targeting(failures: Sequence[int], trials: Sequence[int], low: float = 0.3, high: float = 0.7) -> Targeting:
    """From `failures` of `trials` answers per dream; dreams with fewer than 2 answers say nothing.

    Shares of few answers spread more than the probabilities behind them. So learnability is corrected by k / (k - 1),
    which makes it unbiased, and the share is that of a beta distribution with the dreams' mean and true variance
    (method of moments; Skellam 1948, JRSS B 10:257). No dreams give zeros.

    >>> targeting([2] * 50, [4] * 50).share
    1.0
    """
    k, m = np.asarray(failures, dtype=float), np.asarray(trials, dtype=float)
    k, m = k[m >= 2], m[m >= 2]
    if k.size == 0:
        return Targeting(0.0, 0.0)
    rate = k / m
    within = min(0.25, float((rate * (1 - rate) * m / (m - 1)).mean()))  # the mean of p (1 - p)
    mean = float(rate.mean())
    variance = mean * (1 - mean) - within
    if variance < _POINT:  # all dreams alike
        return Targeting(float(low <= mean <= high), 4 * within)
    precision = mean * (1 - mean) / variance - 1
    if precision < _POINT:  # each dream always fails or never
        return Targeting(0.0, 4 * within)
    shape = mean * precision, (1 - mean) * precision
    return Targeting(float(betainc(*shape, high) - betainc(*shape, low)), 4 * within)

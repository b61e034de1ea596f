"""Expected calibration error, judged by what a perfect forecaster would score on the same forecasts.

A bare ECE is mostly noise: with 100 answers and 10 bins a perfect forecaster scores .1. So answers are drawn from the
forecasts themselves ("consistency resampling", Broecker & Smith 2007, Weather and Forecasting 22:651).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.statistics.bins import checked, equal_mass


@dataclass(frozen=True, slots=True)
class Ece:
    """The error as it is, less its mean under the null (at least 0), the one-sided p-value, and that mean."""

    value: float
    debiased: float
    p: float
    null_mean: float


def debiased_ece(
    predicted: Sequence[float],
    failures: Sequence[int],
    trials: Sequence[int],
    rng: np.random.Generator,
    *,
    bins: int = 5,
    draws: int = 2000,
) -> Ece:
    """Mean distance of bin forecasts from bin rates, over equal-mass bins weighted by their answers.

    `failures` of `trials` answers were seen for each forecast; `draws` simulated sets of them give the null and
    p = (1 + hits) / (draws + 1). No answers give p = 1.

    >>> debiased_ece([0.5] * 100, [4] * 100, [4] * 100, np.random.default_rng(0)).value
    0.5

    Raises ValueError when lengths differ, counts are impossible or a forecast is outside [0, 1].
    """
    p, k, m = checked(predicted, failures, trials)
    total = float(m.sum())
    if total == 0.0:
        return Ece(0.0, 0.0, 1.0, 0.0)
    member = np.eye(bins)[equal_mass(predicted, bins)]  # (forecasts, bins)
    expected = m * p

    def error(failed: NDArray[np.float64]) -> NDArray[np.float64]:
        distance: NDArray[np.float64] = np.abs((failed - expected) @ member).sum(axis=-1) / total
        return distance

    value = float(error(k))
    null = error(rng.binomial(m.astype(int), p, size=(draws, len(p))).astype(float))
    hits = int(np.count_nonzero(null >= value - 1e-12))
    mean = float(null.mean())
    return Ece(value, max(0.0, value - mean), (1 + hits) / (draws + 1), mean)

"""The Brier score taken apart: are forecasts true, are they telling (Murphy 1973, J. Appl. Meteorology 12:595)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policies.statistics.bins import by_bin, checked, equal_mass
from policies.statistics.calibration import brier


@dataclass(frozen=True, slots=True)
class Decomposition:
    """brier = reliability - resolution + uncertainty, exactly.

    Reliability is the squared distance of bins from the diagonal (0 is best), resolution how far bins lie from the mean
    rate (more is better), uncertainty the variance of the answers. Resolution is Stephenson's generalised one: it
    includes the variance and covariance within bins, without which forecasts would have to be equal in a bin.
    """

    brier: float
    reliability: float
    resolution: float
    uncertainty: float


def decomposition(
    predicted: Sequence[float], failures: Sequence[int], trials: Sequence[int], bins: int = 5
) -> Decomposition:
    """Forecasts of failure and the `failures` of `trials` answers each, in equal-mass bins; per answer.

    Within-bin terms from Stephenson, Coelho & Jolliffe 2008 (Weather and Forecasting 23:752). No answers give zeros.

    >>> decomposition([0.0, 0.0, 1.0, 1.0], [0, 0, 2, 2], [2, 2, 2, 2], bins=2)
    Decomposition(brier=0.0, reliability=0.0, resolution=0.25, uncertainty=0.25)

    Raises ValueError when lengths differ, counts are impossible or a forecast is outside [0, 1].
    """
    p, k, m = checked(predicted, failures, trials)
    total = float(m.sum())
    if total == 0.0:
        return Decomposition(0.0, 0.0, 0.0, 0.0)
    place = equal_mass(predicted, bins)
    answers, forecasts, failed = by_bin(place, m, m * p, k)
    safe = np.maximum(answers, 1)
    forecast, rate, base = forecasts / safe, failed / safe, float(k.sum()) / total
    off = p - forecast[place]
    variance = float((m * off**2).sum()) / total
    covariance = 2 * float((k * off).sum()) / total  # of forecast and answer within bins; sums of `off` are 0 there
    return Decomposition(
        brier(predicted, failures, trials),
        float((answers * (forecast - rate) ** 2).sum()) / total,
        float((answers * (rate - base) ** 2).sum()) / total - variance + covariance,
        base * (1 - base),
    )

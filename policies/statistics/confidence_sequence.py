"""A mean watched live: limits that hold at every look at once, by betting (Waudby-Smith & Ramdas 2024, JRSS B 86:1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from policies.statistics.interval import Interval

_CAP = 0.75  # largest share of the capital at stake; below 1, so that no single result is ruin


def confidence_sequence(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """The mean of results in [0, 1] in the order they came, with limits that may be looked at after every one.

    Against each mean m a gambler bets that the results are higher and another that they are lower; fairly, both have
    little chance of ever multiplying the capital by 2 / (1 - confidence). The limits hold the means against which
    neither did: the hedged capital process with predictable plug-in bets. With this confidence they hold the true
    conditional mean at all times. No values give (0, 0, 1, 0).

    >>> limits = confidence_sequence([0, 1] * 200)
    >>> round(limits.low, 2), round(limits.high, 2)
    (0.39, 0.6)

    Raises ValueError when a value is outside [0, 1].
    """
    x = np.asarray(values, dtype=float)
    if not np.all((x >= 0) & (x <= 1)):
        raise ValueError("betting needs results in [0, 1]")
    if x.size == 0:
        return Interval(0.0, 0.0, 1.0, 0)
    stakes = _stakes(x, 1 - confidence)
    needed = math.log(2 / (1 - confidence))
    value = float(x.mean())
    low = _edge(x, stakes, value, needed)
    high = 1 - _edge(1 - x, stakes, 1 - value, needed)
    return Interval(value, min(low, value), max(high, value), len(x))


def _stakes(x: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """The bet on each result, from the ones before it only: sqrt(2 log(2 / alpha) / (variance t log(t + 1)))."""
    t = np.arange(1, len(x) + 1)
    mean = (0.5 + np.cumsum(x)) / (t + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (t + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    stakes: NDArray[np.float64] = np.sqrt(2 * math.log(2 / alpha) / (before * t * np.log(t + 1)))
    return stakes


def _edge(x: NDArray[np.float64], stakes: NDArray[np.float64], value: float, needed: float) -> float:
    """The smallest mean in [0, value] at which betting on "higher" has not won: the capital falls with the mean."""

    def capital(mean: float) -> float:
        return float(np.log1p(np.minimum(stakes, _CAP / mean) * (x - mean)).sum())

    low, high = 0.0, value  # at `low` the bet has won (or nothing is below it), at `high` it is taken not to have
    for _ in range(40):
        middle = (low + high) / 2
        if middle > 0 and capital(middle) >= needed:
            low = middle
        else:
            high = middle
    return low

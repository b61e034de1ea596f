"""The mean of a few independent values: Student's t (Student 1908, Biometrika 6:1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from policies.statistics.interval import Interval


def student(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The mean with two-sided limits: for seeds, of which there are too few to resample. One value has no limits.

    >>> i = student([1.0, 2.0, 3.0])
    >>> round(i.value, 2), round(i.low, 2), round(i.high, 2)
    (2.0, -0.48, 4.48)
    >>> student([1.0])
    Interval(value=1.0, low=-inf, high=inf, n=1)

    Raises ValueError without values.
    """
    numbers = np.asarray(values, dtype=float)
    if numbers.size == 0:
        raise ValueError("no values have no mean")
    mean = float(numbers.mean())
    if numbers.size == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    half = float(stdtrit(numbers.size - 1, 0.5 + confidence / 2) * numbers.std(ddof=1) / math.sqrt(numbers.size))
    return Interval(mean, mean - half, mean + half, int(numbers.size))

"""Where one more value of a small normal sample may lie: the null that a handful of seeds gives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit


def prediction_high(values: Sequence[float], confidence: float = 0.95) -> float:
    """The upper limit below which one more draw falls with `confidence`: mean + t sd sqrt(1 + 1/n).

    The one-sided prediction limit of a normal sample (Hahn & Meeker 1991, Statistical Intervals, section 4.8). Wide for
    few values, as it has to be: 7.7 standard deviations for two.

    >>> round(prediction_high([0.0, 1.0, 2.0]), 3)
    4.372

    Raises ValueError for fewer than 2 values.
    """
    if len(values) < 2:
        raise ValueError("one value says nothing about the spread of the next")
    n = len(values)
    spread = float(np.std(values, ddof=1)) * math.sqrt(1 + 1 / n)
    return float(np.mean(values)) + float(stdtrit(n - 1, confidence)) * spread

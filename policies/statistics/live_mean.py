"""The mean of bounded values that are looked at after every one of them, from a window that slides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.statistics.confidence_sequence import confidence_sequence
from policies.statistics.interval import Interval
from policies.statistics.lifetime_alpha import lifetime_alpha


def live_mean(
    values: Sequence[float], *, low: float, high: float, first: int = 1, confidence: float = 0.95
) -> Interval:
    """The mean of values in [low, high], in the order they came, with limits valid at every look at once.

    `first` numbers the place where the values begin (a cycle, from 1): each beginning has a confidence sequence of its
    own at its share of the error (`lifetime_alpha`), so that a window may slide. No values give the middle and the
    bounds.

    >>> limits = live_mean([0.0] * 100, low=-1.0, high=1.0)
    >>> round(limits.low, 2), round(limits.high, 2)
    (-0.05, 0.05)

    Raises ValueError when a value is outside the bounds, or they are none.
    """
    if not low < high:
        raise ValueError(f"[{low}, {high}] bounds nothing")
    shares = (np.asarray(values, dtype=float) - low) / (high - low)
    if np.any((shares < -1e-9) | (shares > 1 + 1e-9)):
        raise ValueError(f"a value lies outside [{low}, {high}]")
    alpha = lifetime_alpha(1 - confidence, first)
    found = confidence_sequence(np.clip(shares, 0.0, 1.0).tolist(), confidence=1 - alpha)
    if not found.n:
        return Interval((low + high) / 2, low, high, 0)
    at_low, value, at_high = (low + (high - low) * share for share in (found.low, found.value, found.high))
    return Interval(value, at_low, at_high, found.n)

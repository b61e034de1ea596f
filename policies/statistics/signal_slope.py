"""Steerability: does an item follow the strength of a steering vector? (Tan et al. 2024, arXiv 2407.12404)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policies.statistics.bootstrap import mean_interval
from policies.statistics.interval import Interval
from policies.statistics.wilson import wilson


def slope_interval(strengths: Sequence[float], matrix: ArrayLike, rng: np.random.Generator) -> Interval:
    """The mean over items of the least-squares slope of propensity on strength; limits from resampling items.

    `matrix` (items, strengths) holds each item's propensity, and the slope has its unit per unit of strength.

    >>> slope_interval([-1, 0, 1], [[0, 1, 2], [1, 1, 1]], np.random.default_rng(0)).value
    0.5

    Raises ValueError when shapes disagree, strengths are all alike, or a value is not finite.
    """
    return mean_interval(_slopes(strengths, matrix).tolist(), rng)


def share_backwards(strengths: Sequence[float], matrix: ArrayLike) -> Interval:
    """The share of items whose slope is below 0, with Wilson's limits. An item that does not move is not backwards.

    >>> share_backwards([-1, 0, 1], [[0, 1, 2], [1, 1, 1], [2, 1, 0], [0, 0, 1]]).value
    0.25

    Raises ValueError as `slope_interval` does.
    """
    slopes = _slopes(strengths, matrix)
    return wilson(int(np.count_nonzero(slopes < -1e-12)), len(slopes))


def _slopes(strengths: Sequence[float], matrix: ArrayLike) -> NDArray[np.float64]:
    x, y = np.asarray(strengths, dtype=float), np.asarray(matrix, dtype=float)
    if y.size == 0:
        y = np.empty((0, len(x)))
    if y.ndim != 2 or y.shape[1] != len(x):
        raise ValueError(f"a matrix of shape {y.shape} does not hold (items, {len(x)} strengths)")
    if not np.all(np.isfinite(x)) or not np.all(np.isfinite(y)) or np.ptp(x) == 0.0:
        raise ValueError("a slope needs finite values at two or more strengths")
    centred = x - x.mean()
    slopes: NDArray[np.float64] = y @ centred / (centred @ centred)
    return slopes

"""Percentile bootstrap that resamples whole clusters (Davison & Hinkley 1997, section 3.8).

Items that share a dream seed, a document or a conversation rise and fall together; resampling items one by one would
pretend that they do not. A cluster is any hashable label, one per item; None means that every item is its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from policies.statistics.interval import Interval

_CELLS = 4_000_000  # resampled indices held at once: bounds the memory at about 32 MB


def mean_interval(
    values: Sequence[float],
    rng: np.random.Generator,
    *,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """The mean of `values` with percentile limits; `n` counts clusters. NaN-free: no values give (0, -inf, inf, 0).

    With fewer than about 10 clusters the limits are too narrow, as every bootstrap's are.

    >>> mean_interval([1.0, 1.0, 0.0, 0.0], np.random.default_rng(0)).value
    0.5
    """
    numbers = np.asarray(values, dtype=float)
    if numbers.size == 0:
        return Interval(0.0, float("-inf"), float("inf"), 0)
    sums, sizes = _by_cluster(numbers, clusters)
    count = len(sums)
    means = np.empty(resamples)
    step = max(1, _CELLS // count)
    for start in range(0, resamples, step):
        stop = min(resamples, start + step)
        drawn = rng.integers(0, count, size=(stop - start, count))
        means[start:stop] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(numbers.mean()), float(low), float(high), count)


def difference_interval(
    before: Sequence[float],
    after: Sequence[float],
    rng: np.random.Generator,
    *,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """The mean of `after - before` over the same items in the same order.

    >>> difference_interval([0, 0, 1], [1, 1, 1], np.random.default_rng(0)).value
    0.6666666666666666

    Raises ValueError when the two are not of one length.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} values before and {len(after)} after cannot be paired")
    change = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    return mean_interval(change.tolist(), rng, clusters=clusters, confidence=confidence, resamples=resamples)


def _by_cluster(
    numbers: NDArray[np.float64], clusters: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and size of every cluster, in order of first appearance."""
    if clusters is None:
        return numbers, np.ones_like(numbers)
    if len(clusters) != len(numbers):
        raise ValueError(f"{len(numbers)} values have {len(clusters)} cluster labels; give one each")
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(label, len(places)) for label in clusters])
    return np.bincount(index, weights=numbers).astype(np.float64), np.bincount(index).astype(np.float64)

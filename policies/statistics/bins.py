"""Forecasts put into bins of about equal numbers, the groups of a reliability diagram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Binned:
    """One row per bin with answers in it: its number of answers, their mean forecast, and the share that failed."""

    answers: NDArray[np.float64]
    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]


def equal_mass(predicted: Sequence[float], bins: int) -> NDArray[np.intp]:
    """The bin of each forecast, from 0 up, with edges at their quantiles. Equal forecasts share a bin, however many.

    >>> equal_mass([0.1, 0.2, 0.3, 0.4, 0.4, 0.4], 3).tolist()
    [0, 0, 1, 2, 2, 2]
    """
    numbers = np.asarray(predicted, dtype=float)
    if numbers.size == 0:
        return np.zeros(0, dtype=np.intp)
    edges = np.quantile(numbers, np.arange(1, bins) / bins)
    return np.searchsorted(np.unique(edges), numbers, side="right")


def binned(predicted: Sequence[float], failures: Sequence[int], trials: Sequence[int], bins: int) -> Binned:
    """Forecasts and their `failures` of `trials` answers each, summed up in equal-mass bins.

    >>> binned([0.2, 0.8], [0, 3], [4, 4], 2)
    Binned(answers=array([4., 4.]), predicted=array([0.2, 0.8]), observed=array([0.  , 0.75]))

    Raises ValueError when lengths differ, counts are impossible or a forecast is outside [0, 1].
    """
    p, k, m = checked(predicted, failures, trials)
    place = equal_mass(predicted, bins)
    answers, forecasts, failed = by_bin(place, m, m * p, k)
    used = answers > 0
    return Binned(answers[used], forecasts[used] / answers[used], failed[used] / answers[used])


def by_bin(place: NDArray[np.intp], *columns: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The sum over each bin of each column.

    >>> by_bin(np.array([0, 1, 1]), np.array([1.0, 2.0, 3.0]))
    [array([1., 5.])]
    """
    return [np.bincount(place, weights=column).astype(np.float64) for column in columns]


def checked(
    predicted: Sequence[float], failures: Sequence[int], trials: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Forecasts, failures and trials as arrays. Raises ValueError as `binned` says."""
    p, k, m = (np.asarray(v, dtype=float) for v in (predicted, failures, trials))
    if not len(p) == len(k) == len(m):
        raise ValueError(f"{len(p)} forecasts, {len(k)} failure counts, {len(m)} trial counts: give one each")
    if np.any(k < 0) or np.any(k > m):
        raise ValueError("failures must lie between 0 and the number of trials")
    if np.any(p < 0) or np.any(p > 1):
        raise ValueError("a forecast is a probability")
    return p, k, m

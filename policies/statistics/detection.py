"""How long a detector took: delays that an episode's end may have cut off, and how two detectors compare.

Delays are skewed, so limits are taken on the scale of their logarithm (`log_scale`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from policies.statistics.interval import Interval
from policies.statistics.log_scale import log_scale_interval

_RESAMPLES = 2000


def delay_interval(
    delays: Sequence[float],
    censored: Sequence[bool],
    rng: np.random.Generator,
    *,
    horizon: float | None = None,
    confidence: float = 0.95,
) -> Interval:
    """The restricted mean delay: the mean of min(delay, horizon), with limits from resampling episodes.

    A censored episode ended without an alarm after `delays` observations: its true delay is longer. The mean is the
    area under the curve of Kaplan & Meier (1958, JASA 53:457) up to the `horizon` (Irwin 1949), the longest delay seen
    unless given; where all episodes are equally long it is the plain mean. Compare detectors at one horizon only.
    No episodes give (0, 0, inf, 0).

    >>> delay_interval([2, 4, 12], [False, False, True], np.random.default_rng(0)).value
    6.0

    Raises ValueError when lengths differ or a delay is below 0 or not finite.
    """
    times, lost = np.asarray(delays, dtype=float), np.asarray(censored, dtype=bool)
    if len(times) != len(lost):
        raise ValueError(f"{len(times)} delays and {len(lost)} marks of censoring: give one each")
    _check(times)
    if times.size == 0:
        return Interval(0.0, 0.0, float("inf"), 0)
    end = float(times.max()) if horizon is None else horizon
    order = np.lexsort((lost, times))  # at one time alarms come before episodes that end
    times, lost = times[order], lost[order]
    value = float(_areas(times, lost, np.ones((1, len(times))), end)[0])
    again = _areas(times, lost, _resampled(len(times), rng), end)
    return log_scale_interval(value, again, len(times), confidence)


def ratio_interval(
    a: Sequence[float], b: Sequence[float], rng: np.random.Generator, *, confidence: float = 0.95
) -> Interval:
    """mean(a) / mean(b) of two detectors' delays in the same episodes in the same order, resampling episodes.

    Delays are restricted: where a detector stayed silent the episode's length stands. A mean of 0 below the line gives
    infinity; no episodes give (1, 0, inf, 0).

    >>> ratio_interval([2, 4, 6], [1, 2, 3], np.random.default_rng(0)).value
    2.0

    Raises ValueError when lengths differ or a delay is below 0 or not finite.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} delays cannot be paired")
    above, below = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    _check(above)
    _check(below)
    if above.size == 0:
        return Interval(1.0, 0.0, float("inf"), 0)
    drawn = np.vstack([np.ones(len(above)), _resampled(len(above), rng)])  # the episodes as they are come first
    bottom = drawn @ below
    ratios = np.divide(drawn @ above, bottom, out=np.full(len(drawn), np.inf), where=bottom > 0)
    return log_scale_interval(float(ratios[0]), ratios[1:], len(above), confidence)


def _check(times: NDArray[np.float64]) -> None:
    if np.any(times < 0) or not np.all(np.isfinite(times)):
        raise ValueError("a delay is a finite number of observations, at least 0")


def _resampled(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each of n episodes is in each resample: (resamples, n)."""
    drawn = rng.integers(0, n, size=(_RESAMPLES, n)) + n * np.arange(_RESAMPLES)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * _RESAMPLES).reshape(_RESAMPLES, n).astype(np.float64)


def _areas(
    times: NDArray[np.float64], lost: NDArray[np.bool_], weights: NDArray[np.float64], end: float
) -> NDArray[np.float64]:
    """The area up to `end` under the Kaplan-Meier curve of each row of weights; `times` ascend."""
    at_risk = np.cumsum(weights[:, ::-1], axis=1)[:, ::-1]
    silent = np.cumprod(1 - np.where(lost, 0.0, weights) / np.maximum(at_risk, 1.0), axis=1)
    before = np.hstack([np.ones((len(weights), 1)), silent])  # the curve between one time and the next
    widths = np.diff(np.minimum(np.concatenate([[0.0], times, [max(end, float(times[-1]))]]), end))
    areas: NDArray[np.float64] = before @ widths
    return areas

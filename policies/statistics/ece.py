"""Expected calibration error, judged by what a forecaster who is right on average would score on the same forecasts.

A bare ECE is mostly noise: with 100 answers and 10 bins a perfect forecaster scores .1. So answers are drawn from the
forecasts themselves ("consistency resampling", Broecker & Smith 2007, Weather and Forecasting 22:651). Dreams, and the
seeds they come from, differ around their forecasts, however right these are on average; so the answers of one cluster
are drawn as alike as they were found to be. Independent draws would vary less and call such a forecaster wrong.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.statistics.bins import checked, equal_mass

_CELLS = 1_000_000  # simulated counts held at once


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
    clusters: Sequence[Hashable] | None = None,
) -> Ece:
    """Mean distance of bin forecasts from bin rates, over equal-mass bins weighted by their answers.

    `failures` of `trials` answers were seen for each forecast; `clusters` has a label per forecast (None: each is its
    own); `draws` simulated sets of answers give the null and p = (1 + hits) / (draws + 1). No answers give p = 1.

    >>> debiased_ece([0.5] * 100, [4] * 100, [4] * 100, np.random.default_rng(0)).value
    0.5

    Raises ValueError when lengths differ, counts are impossible or a forecast is outside [0, 1].
    """
    p, k, m = checked(predicted, failures, trials)
    total = float(m.sum())
    if total == 0.0:
        return Ece(0.0, 0.0, 1.0, 0.0)
    bin_of = np.eye(bins)[equal_mass(predicted, bins)]  # (forecasts, bins)
    member = _numbers(clusters, len(p))
    alike = _likeness(p, k, m, member)
    expected = m * p

    def error(failed: NDArray[np.float64]) -> NDArray[np.float64]:
        distance: NDArray[np.float64] = np.abs((failed - expected) @ bin_of).sum(axis=-1) / total
        return distance

    value = float(error(k))
    step = max(1, _CELLS // len(p))
    drawn = [error(_draw(p, m, member, alike, min(step, draws - start), rng)) for start in range(0, draws, step)]
    null = np.concatenate(drawn)
    hits = int(np.count_nonzero(null >= value - 1e-12))
    mean = float(null.mean())
    return Ece(value, max(0.0, value - mean), (1 + hits) / (draws + 1), mean)


def _likeness(
    p: NDArray[np.float64], k: NDArray[np.float64], m: NDArray[np.float64], member: NDArray[np.intp]
) -> float:
    """Intra-class correlation of a cluster's answers about their forecasts, by moments; from 0 to 1.

    A cluster's squared distance of failures from forecasts has the mean sum m p (1 - p) where its answers are
    independent, and (sum m p) (sum m (1 - p)), up to forecasts that differ within it, where all of them are one answer.
    """
    distance = np.bincount(member, weights=k - m * p)
    alone = np.bincount(member, weights=m * p * (1 - p))
    order = np.argsort(member, kind="stable")
    together = np.zeros_like(alone)
    for rows in np.split(order, np.flatnonzero(np.diff(member[order])) + 1):
        q, w = p[rows], m[rows]
        together[member[rows[0]]] = float(w @ (np.minimum.outer(q, q) - np.outer(q, q)) @ w)
    room = float((together - alone).sum())
    return float(np.clip(((distance**2).sum() - alone.sum()) / room, 0.0, 1.0)) if room > 0 else 0.0


def _draw(
    p: NDArray[np.float64],
    m: NDArray[np.float64],
    member: NDArray[np.intp],
    alike: float,
    draws: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """(draws, forecasts) failures with means m p, whose correlation within a cluster is `alike`.

    With that chance all answers of a cluster hang on one number, else on a number each: two moments, as the
    beta-binomial has, for forecasts that differ within the cluster, too.
    """
    if alike == 0.0:
        return rng.binomial(m.astype(int), p, size=(draws, len(p))).astype(float)
    count = int(member.max()) + 1
    one = rng.random((draws, count)) < alike
    hard = rng.random((draws, count))[:, member] < p
    return rng.binomial(m.astype(int), np.where(one[:, member], hard, p)).astype(float)


def _numbers(clusters: Sequence[Hashable] | None, count: int) -> NDArray[np.intp]:
    """Each forecast's cluster as a number from 0 up."""
    labels: Sequence[Hashable] = range(count) if clusters is None else clusters
    if len(labels) != count:
        raise ValueError(f"{count} forecasts have {len(labels)} cluster labels; give one each")
    places: dict[Hashable, int] = {}
    return np.array([places.setdefault(label, len(places)) for label in labels], dtype=np.intp)

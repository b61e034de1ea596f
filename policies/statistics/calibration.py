"""Is a predicted failure probability true? Cox recalibration and the Brier score.

logit P(fail) = a + b logit(predicted): calibrated iff the interval of a holds 0 and that of b holds 1
(Cox 1958, Biometrika 45:562). A dream's k answers are one cluster, so the limits use the sandwich variance; dreams that
share a seed may be made one cluster, too.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri

from policies.statistics.interval import Interval

RUNAWAY = 8.0  # a coefficient that no forecaster earns; it grows without limit when the answers are separated


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Intercept a and slope b of the recalibration, and the Brier score of the forecasts (per answer)."""

    intercept: Interval
    slope: Interval
    brier: float

    @property
    def calibrated(self) -> bool:
        """The rule of the protocol. With little data this is easily True: look at the widths too."""
        return 0.0 in self.intercept and 1.0 in self.slope


def calibration(
    predicted: Sequence[float],
    failures: Sequence[int],
    trials: Sequence[int],
    confidence: float = 0.95,
    *,
    clusters: Sequence[Hashable] | None = None,
) -> Calibration | None:
    """Recalibrate forecasts in (0, 1) on `failures` of `trials` answers each, by Newton's method.

    `clusters` has a label per forecast (None: each is its own); intervals count them. None when it is not identified:
    fewer than 10 clusters, all forecasts alike, no failures or only failures, or forecasts that separate the two
    perfectly (the slope runs away).
    """
    p, k, m, member = _checked(predicted, failures, trials, clusters)
    if member.max(initial=-1) < 9 or np.ptp(p) < 1e-6 or k.sum() == 0 or k.sum() == m.sum():
        return None
    x = np.column_stack([np.ones_like(p), logit(p)])
    fitted = _fit(x, k, m, np.zeros(len(p)), np.array([0.0, 1.0]), member, confidence)
    if fitted is None:
        return None
    return Calibration(intercept=fitted[0], slope=fitted[1], brier=brier(predicted, failures, trials))


def in_the_large(
    predicted: Sequence[float],
    failures: Sequence[int],
    trials: Sequence[int],
    confidence: float = 0.95,
    *,
    clusters: Sequence[Hashable] | None = None,
) -> Interval | None:
    """The intercept a of logit P(fail) = a + logit(predicted): below 0 when failures are rarer than was predicted.

    The slope is held at 1, so forecasts that are all alike have one ("calibration-in-the-large"; Steyerberg 2009,
    Clinical Prediction Models, ch. 15). None with fewer than 10 clusters, no failures or only failures.
    """
    p, k, m, member = _checked(predicted, failures, trials, clusters)
    if member.max(initial=-1) < 9 or k.sum() == 0 or k.sum() == m.sum():
        return None
    fitted = _fit(np.ones((len(p), 1)), k, m, logit(p), np.zeros(1), member, confidence)
    return fitted[0] if fitted is not None else None


def _checked(
    predicted: Sequence[float], failures: Sequence[int], trials: Sequence[int], clusters: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Forecasts away from 0 and 1, counts, and each forecast's cluster as a number from 0 up."""
    p = np.clip(np.asarray(predicted, dtype=float), 1e-4, 1 - 1e-4)
    k, m = np.asarray(failures, dtype=float), np.asarray(trials, dtype=float)
    if not len(p) == len(k) == len(m):
        raise ValueError(f"{len(p)} forecasts, {len(k)} failure counts, {len(m)} trial counts: give one each")
    if np.any(k < 0) or np.any(k > m):
        raise ValueError("failures must lie between 0 and the number of trials")
    labels = range(len(p)) if clusters is None else clusters
    if len(labels) != len(p):
        raise ValueError(f"{len(p)} forecasts have {len(labels)} cluster labels; give one each")
    places: dict[Hashable, int] = {}
    return p, k, m, np.array([places.setdefault(label, len(places)) for label in labels], dtype=np.intp)


def _fit(
    x: NDArray[np.float64],
    k: NDArray[np.float64],
    m: NDArray[np.float64],
    offset: NDArray[np.float64],
    start: NDArray[np.float64],
    member: NDArray[np.intp],
    confidence: float,
) -> list[Interval] | None:
    """Binomial regression of k of m on x with cluster-robust limits; None when a coefficient runs away."""
    beta, columns = start, x.shape[1]
    for _ in range(50):
        q = expit(offset + x @ beta)
        hessian = (x * (m * q * (1 - q))[:, None]).T @ x + 1e-9 * np.eye(columns)
        step = np.clip(np.linalg.solve(hessian, x.T @ (k - m * q)), -2, 2)
        beta = beta + step
        if float(np.abs(step).max()) < 1e-9:
            break
    if not float(np.abs(beta).max()) < RUNAWAY:
        return None
    q = expit(offset + x @ beta)
    bread = np.linalg.inv((x * (m * q * (1 - q))[:, None]).T @ x + 1e-9 * np.eye(columns))
    count = int(member.max()) + 1
    scores = np.zeros((count, columns))
    np.add.at(scores, member, x * (k - m * q)[:, None])
    error = np.sqrt(np.diag(bread @ (scores.T @ scores) @ bread) * count / (count - columns))
    z = float(ndtri(0.5 + confidence / 2))
    return [Interval(float(b), float(b - z * e), float(b + z * e), count) for b, e in zip(beta, error, strict=True)]


def brier(predicted: Sequence[float], failures: Sequence[int], trials: Sequence[int]) -> float:
    """Mean squared distance between forecast and answer (0 or 1), per answer; 0.0 without answers.

    >>> brier([0.5, 1.0], [1, 2], [2, 2])
    0.125
    """
    p, k, m = (np.asarray(v, dtype=float) for v in (predicted, failures, trials))
    total = float(m.sum())
    return float((k * (1 - p) ** 2 + (m - k) * p**2).sum() / total) if total else 0.0

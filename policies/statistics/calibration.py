"""Is a predicted failure probability true? Cox recalibration and the Brier score.

logit P(fail) = a + b logit(predicted): calibrated iff the interval of a holds 0 and that of b holds 1
(Cox 1958, Biometrika 45:562). A dream's k answers are one cluster, so the limits use the sandwich variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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
    predicted: Sequence[float], failures: Sequence[int], trials: Sequence[int], confidence: float = 0.95
) -> Calibration | None:
    """Recalibrate forecasts in (0, 1) on `failures` of `trials` answers each, by Newton's method.

    None when it is not identified: fewer than 10 forecasts, all of them alike, no failures or only failures, or
    forecasts that separate the two perfectly (the slope runs away).
    """
    p = np.clip(np.asarray(predicted, dtype=float), 1e-4, 1 - 1e-4)
    k, m = np.asarray(failures, dtype=float), np.asarray(trials, dtype=float)
    if not len(p) == len(k) == len(m):
        raise ValueError(f"{len(p)} forecasts, {len(k)} failure counts, {len(m)} trial counts: give one each")
    if np.any(k < 0) or np.any(k > m):
        raise ValueError("failures must lie between 0 and the number of trials")
    if len(p) < 10 or np.ptp(p) < 1e-6 or k.sum() == 0 or k.sum() == m.sum():
        return None
    x = np.column_stack([np.ones_like(p), logit(p)])
    beta = np.array([0.0, 1.0])
    for _ in range(50):
        q = expit(x @ beta)
        hessian = (x * (m * q * (1 - q))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.clip(np.linalg.solve(hessian, x.T @ (k - m * q)), -2, 2)
        beta = beta + step
        if float(np.abs(step).max()) < 1e-9:
            break
    if not float(np.abs(beta).max()) < RUNAWAY:
        return None
    q = expit(x @ beta)
    bread = np.linalg.inv((x * (m * q * (1 - q))[:, None]).T @ x + 1e-9 * np.eye(2))
    scores = x * (k - m * q)[:, None]
    error = np.sqrt(np.diag(bread @ (scores.T @ scores) @ bread) * len(p) / (len(p) - 2))
    z = float(ndtri(0.5 + confidence / 2))
    limits = [Interval(float(b), float(b - z * e), float(b + z * e), len(p)) for b, e in zip(beta, error, strict=True)]
    return Calibration(intercept=limits[0], slope=limits[1], brier=brier(predicted, failures, trials))


def brier(predicted: Sequence[float], failures: Sequence[int], trials: Sequence[int]) -> float:
    """Mean squared distance between forecast and answer (0 or 1), per answer; 0.0 without answers.

    >>> brier([0.5, 1.0], [1, 2], [2, 2])
    0.125
    """
    p, k, m = (np.asarray(v, dtype=float) for v in (predicted, failures, trials))
    total = float(m.sum())
    return float((k * (1 - p) ** 2 + (m - k) * p**2).sum() / total) if total else 0.0

"""The Emax dose-response curve y = e0 + emax d^h / (ed50^h + d^h) (Hill 1910; Macdougall 2006, "Dose finding in drug
development", chapter 9): how much signal reaches half, or four fifths, of the whole effect.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, fdtrc

from policies.statistics.interval import Interval
from policies.statistics.log_scale import log_scale_interval

HILL = (0.5, 6.0)
FLAT = 0.05  # a curve that beats a constant no better than at this level is no curve
FAILED = 0.2  # share of refits without a curve from which on nothing is identified
_ZOOMS = 5


@dataclass(frozen=True, slots=True)
class Emax:
    """Effect without signal, largest change, the dose of half of it (in the doses' unit), and the steepness."""

    e0: float
    emax: float
    ed50: float
    hill: float

    def at(self, dose: float) -> float:
        """The curve's value at `dose` >= 0.

        >>> Emax(0.1, 0.8, 4.0, 2.0).at(4.0)
        0.5
        """
        return self.e0 + self.emax * (0.0 if dose <= 0 else 1 / (1 + (self.ed50 / dose) ** self.hill))

    def ed(self, share: float) -> float:
        """The dose that reaches `share` (in (0, 1)) of the largest change.

        >>> Emax(0.1, 0.8, 4.0, 2.0).ed(0.8)
        8.0
        """
        return float(self.ed50 * (share / (1 - share)) ** (1 / self.hill))


def fit(doses: Sequence[float], values: Sequence[float]) -> Emax | None:
    """Least squares of the curve through `values` measured at `doses` >= 0.

    For a given (ed50, hill) the rest is linear, so both are searched on a grid that is narrowed around the best point;
    no start can be wrong and nothing diverges. `ed50` is sought from half the smallest to twice the largest dose above
    0; below the smallest its place is a guess, and only "at most the smallest" is known.

    None when not identified: fewer than 4 distinct doses or 5 values, values that a constant fits as well (F test at
    `FLAT`), or an effect that still grows at the largest dose (`ed50` at the upper end).

    >>> doses = [0, 1, 2, 5, 10, 20, 50, 100]
    >>> found = fit(doses, [Emax(0.1, 0.8, 4.0, 1.5).at(d) for d in doses])
    >>> round(found.ed50, 2), round(found.hill, 2)
    (4.0, 1.5)

    Raises ValueError on doses below 0 or values that are not finite.
    """
    d, y = np.asarray(doses, dtype=float), np.asarray(values, dtype=float)
    if d.shape != y.shape or np.any(d < 0) or not np.all(np.isfinite(d) & np.isfinite(y)):
        raise ValueError("a dose response needs one finite value for each dose, and doses of at least 0")
    levels, place, weights = np.unique(d, return_inverse=True, return_counts=True)
    if len(levels) < 4 or len(y) < 5:
        return None
    means = np.bincount(place, weights=y) / weights
    around = float(((y - means[place]) ** 2).sum())  # what no curve can explain
    constant = around + float((weights * (means - y.mean()) ** 2).sum())
    ed50, hill, left = _search(levels, means, weights.astype(float))
    left += around
    if constant <= 1e-12 * max(1.0, float(np.abs(y).max()) ** 2):
        return None
    f = math.inf if left <= 1e-12 * constant else (constant - left) / 3 / (left / (len(y) - 4))
    if fdtrc(3, len(y) - 4, f) > FLAT or ed50 >= 2 * levels[-1] * (1 - 1e-6):
        return None
    _, e0, emax = _profile(levels, means, weights.astype(float), np.array([ed50]), np.array([hill]))
    return Emax(float(e0[0]), float(emax[0]), ed50, hill)


def ed_interval(
    curves: Mapping[Hashable, Sequence[tuple[float, float]]],
    rng: np.random.Generator,
    *,
    share: float = 0.8,
    resamples: int = 400,
    confidence: float = 0.95,
) -> Interval | None:
    """The dose that reaches `share` of the effect, from each seed's (dose, value) pairs; `n` counts seeds.

    Whole seeds are resampled and the curve is fitted again; limits as in `log_scale`, for 3 to 5 seeds are few. A refit
    without a curve counts as an infinite dose, so the upper limit may be infinite. Between 0 and the smallest dose
    given nothing was measured: a dose in there is "at most the smallest" (value and upper limit are at least that), and
    a lower limit in there is 0. None when the pooled data have no curve, fewer than 3 seeds were run, or more than
    `FAILED` of the refits have none.

    >>> dose = (0, 1, 2, 5, 10, 20, 50, 100)
    >>> runs = {seed: [(d, Emax(0.1, 0.8 + seed / 50, 4.0, 1.0).at(d)) for d in dose] for seed in range(5)}
    >>> round(ed_interval(runs, np.random.default_rng(0)).value, 1)
    16.0
    """
    pairs = [np.array(points, dtype=float).reshape(-1, 2) for points in curves.values()]
    n = len(pairs)
    if n < 3:
        return None
    whole = _fit_pairs(pairs)
    if whole is None:
        return None
    doses = np.full(resamples, math.inf)
    for i in range(resamples):
        again = _fit_pairs([pairs[j] for j in rng.integers(0, n, size=n)])
        if again is not None:
            doses[i] = again.ed(share)
    if np.mean(np.isinf(doses)) > FAILED:
        return None
    found = log_scale_interval(whole.ed(share), doses, n, confidence)
    smallest = min(float(dose) for points in pairs for dose in points[:, 0] if dose > 0)
    low = found.low if found.low >= smallest else 0.0
    return Interval(max(found.value, smallest), low, max(found.high, smallest), n)


def _fit_pairs(pairs: Sequence[NDArray[np.float64]]) -> Emax | None:
    points = np.concatenate(pairs)
    return fit(points[:, 0].tolist(), points[:, 1].tolist())


def _search(
    levels: NDArray[np.float64], means: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, float, float]:
    """The best ed50 and hill, and the sum of squares they leave of the dose means."""
    positive = levels[levels > 0]
    log_ed50 = np.linspace(math.log(positive[0] / 2), math.log(2 * positive[-1]), 41)
    log_hill = np.linspace(math.log(HILL[0]), math.log(HILL[1]), 12)
    bounds = [(log_ed50[0], log_ed50[-1]), (log_hill[0], log_hill[-1])]
    reach = [log_ed50[1] - log_ed50[0], log_hill[1] - log_hill[0]]
    best = (math.inf, 0.0, 0.0)
    for _ in range(_ZOOMS):
        a, b = (axis.ravel() for axis in np.meshgrid(log_ed50, log_hill))
        left, _, _ = _profile(levels, means, weights, np.exp(a), np.exp(b))
        at = int(np.argmin(left))
        best = min(best, (float(left[at]), float(a[at]), float(b[at])))
        log_ed50, log_hill = (
            np.clip(np.linspace(c - r, c + r, 9), *bound) for c, r, bound in zip(best[1:], reach, bounds, strict=True)
        )
        reach = [r / 3 for r in reach]
    return math.exp(best[1]), math.exp(best[2]), best[0]


def _profile(
    levels: NDArray[np.float64],
    means: NDArray[np.float64],
    weights: NDArray[np.float64],
    ed50: NDArray[np.float64],
    hill: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """For each (ed50, hill): weighted squares left by the best line in the shape of the curve, and its e0 and emax."""
    with np.errstate(divide="ignore"):  # dose 0: log 0 is -inf, and the shape there is 0
        shape = expit(hill[:, None] * (np.log(levels) - np.log(ed50)[:, None]))
    total = weights.sum()
    x = shape - (shape @ weights / total)[:, None]
    y = means - means @ weights / total
    spread = np.maximum((x * x) @ weights, 1e-300)
    emax = (x * y) @ weights / spread
    e0 = means @ weights / total - emax * (shape @ weights / total)
    return ((y - emax[:, None] * x) ** 2) @ weights, e0, emax

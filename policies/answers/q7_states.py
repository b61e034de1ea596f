"""How well two classes of texts can be told apart from a layer's state, and how much training changed that."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from policies.statistics.interval import Interval

POWER = 0.8
Floats = NDArray[np.float64]


def separations(x: ArrayLike, labels: Sequence[bool]) -> Floats:
    """(items,): mean centred cosine of each item's features (items, p) to its own class minus that to the other class.

    Their mean is the class separation, between -2 and 2; about 0 for classes that are alike.

    >>> separations([[1, 0], [1, 0], [-1, 0], [-1, 0]], [True, True, False, False]).tolist()
    [2.0, 2.0, 2.0, 2.0]
    """
    features, y = np.asarray(x, dtype=float), np.asarray(labels, dtype=bool)
    centred = features - features.mean(axis=0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    cosines = centred @ centred.T
    np.fill_diagonal(cosines, 0.0)
    same = y[:, None] == y
    own = (cosines * same).sum(axis=1) / np.maximum(same.sum(axis=1) - 1, 1)
    other = (cosines * ~same).sum(axis=1) / np.maximum((~same).sum(axis=1), 1)
    apart: Floats = own - other
    return apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A difference between two sets of adapters with a 95 % interval over items and seeds, and the smallest one that
    would be found with 80 % power."""

    value: float
    low: float
    high: float
    detectable: float

    @property
    def plain(self) -> dict[str, float]:
        """As plain data."""
        return {"value": self.value, "low": self.low, "high": self.high, "detectable": self.detectable}


class Resampled:
    """Resampled items: whole groups (templates) are drawn, so items of one group rise and fall together.

    A statistic (`auc`, which needs `labels`, or `mean`) is computed for the items as they are and for every resample.
    """

    def __init__(
        self,
        groups: Sequence[Hashable],
        rng: np.random.Generator,
        *,
        labels: Sequence[bool] | None = None,
        resamples: int = 1000,
    ) -> None:
        self.labels = None if labels is None else np.asarray(labels, dtype=bool)
        places: dict[Hashable, int] = {}
        group = np.array([places.setdefault(each, len(places)) for each in groups])
        self.groups = len(places)
        drawn = rng.multinomial(self.groups, np.full(self.groups, 1 / self.groups), size=resamples)
        weights = drawn[:, group].astype(float)
        if self.labels is not None:  # a resample without one of the classes has no AUC
            weights = weights[(weights @ self.labels > 0) & (weights @ ~self.labels > 0)]
        self._weights = np.vstack([np.ones(len(group)), weights])  # the first row: as they are

    def auc(self, scores: Floats) -> Floats:
        """(1 + resamples,): the area under the ROC curve of scores (items,); first of the items as they are."""
        assert self.labels is not None
        positive, negative = scores[self.labels], scores[~self.labels]
        above = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
        mine, other = self._weights[:, self.labels], self._weights[:, ~self.labels]
        area: Floats = ((mine @ above) * other).sum(axis=1) / (mine.sum(axis=1) * other.sum(axis=1))
        return area

    def mean(self, values: Floats) -> Floats:
        """(1 + resamples,): the mean of values (items,)."""
        found: Floats = self._weights @ values / self._weights.sum(axis=1)
        return found

    def level(self, adapters: Sequence[Floats], statistic: Callable[[Floats], Floats]) -> Interval:
        """The mean over adapters and layers, each (layers, items), with percentile limits over items."""
        found = np.mean([self._layers(each, statistic) for each in adapters], axis=0)
        low, high = np.quantile(found[1:], [0.025, 0.975])
        return Interval(float(found[0]), float(low), float(high), self.groups)

    def change(self, before: Floats, after: Floats, statistic: Callable[[Floats], Floats]) -> Interval:
        """The mean over layers of one adapter minus another's, each (layers, items), paired over the same items."""
        found = self._layers(after, statistic) - self._layers(before, statistic)
        low, high = np.quantile(found[1:], [0.025, 0.975])
        return Interval(float(found[0]), float(low), float(high), self.groups)

    def difference(
        self, subject: Sequence[Floats], null: Sequence[Floats], statistic: Callable[[Floats], Floats]
    ) -> Change:
        """The mean over `subject` adapters minus that over `null` ones, each (layers, items).

        Both start from one base, so this is the difference in differences. The variance over items (bootstrap) and over
        the seeds of either arm add up; degrees of freedom are Welch & Satterthwaite's (Satterthwaite 1946, Biometrics
        Bulletin 2:110). With one seed in each arm nothing is known about seeds, and the limits are infinite.
        """
        arms = [np.array([self._layers(each, statistic) for each in arm]) for arm in (subject, null)]
        apart = arms[0].mean(axis=0) - arms[1].mean(axis=0)
        parts = [(float(apart[1:].var(ddof=1)), self.groups - 1)]
        spreads = [float(arm[:, 0].var(ddof=1)) if len(arm) > 1 else math.nan for arm in arms]
        for arm, spread, other in zip(arms, spreads, reversed(spreads), strict=True):
            known = spread if not math.isnan(spread) else other
            parts.append((known / len(arm), max(1, len(arm) - 1)))
        variance = sum(part for part, _ in parts)
        value = float(apart[0])
        if math.isnan(variance):
            return Change(value=value, low=-math.inf, high=math.inf, detectable=math.inf)
        if variance <= 0:
            return Change(value=value, low=value, high=value, detectable=0.0)
        freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
        error = math.sqrt(variance)
        half = float(stdtrit(freedom, 0.975)) * error
        return Change(
            value=value, low=value - half, high=value + half,
            detectable=half + float(stdtrit(freedom, POWER)) * error,
        )  # fmt: skip

    def _layers(self, scores: Floats, statistic: Callable[[Floats], Floats]) -> Floats:
        found: Floats = np.mean([statistic(layer) for layer in scores], axis=0)
        return found


def kept_share(
    whole: tuple[Floats, Floats], part: tuple[Floats, Floats], rng: np.random.Generator, *, resamples: int = 2000
) -> Interval:
    """The effect of `part` relative to that of `whole`, each (adapters, placebo adapters) of margins (seeds, probes).

    Percentile limits over probes, which all adapters share, and over the seeds of each arm, of which one fewer than
    there are is drawn: so the few seeds' variance is not understated (Rao & Wu 1988, JASA 83:231). Where a resampled
    whole has no effect its share counts as unlimited to either side; one seed in an arm leaves no limits at all.
    """

    def drawn(arm: Floats, probes: NDArray[np.intp]) -> Floats:
        seeds = rng.integers(0, len(arm), size=(resamples, len(arm) - 1))
        return np.array([arm[mine][:, items].mean() for mine, items in zip(seeds, probes, strict=True)])

    count = whole[0].shape[1]
    effect = float(whole[0].mean() - whole[1].mean())
    value = float(part[0].mean() - part[1].mean()) / effect if effect else math.nan
    if min(len(arm) for arm in (*whole, *part)) < 2:
        return Interval(value, -math.inf, math.inf, count)
    probes = rng.integers(0, count, size=(resamples, count))
    mine, all_of_it = (drawn(arms[0], probes) - drawn(arms[1], probes) for arms in (part, whole))
    known = all_of_it > 0
    shares = mine / np.where(known, all_of_it, 1.0)
    low = np.sort(np.where(known, shares, -math.inf))[int(0.025 * resamples)]
    high = np.sort(np.where(known, shares, math.inf))[math.ceil(0.975 * resamples) - 1]
    return Interval(value, float(low), float(high), count)

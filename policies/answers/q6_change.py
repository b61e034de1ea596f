"""What became of each family of tasks in an arm of question 6: item by item with the same luck, adapter by adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from policies.statistics.bootstrap import mean_interval
from policies.statistics.interval import Interval
from policies.statistics.noninferiority import Standing, noninferiority, paired_interval
from policies.statistics.paired import sign_flip

NON_INFERIOR: Literal["non-inferior"] = "non-inferior"
TEXT = "text"  # the family of the tasks' texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """One family's items in one arm: `values[seed][item]`, higher is better.

    A "share" is in [0, 1] (the share of an item's `samples` answers that were right), "nats" a log-likelihood a token.
    """

    family: str
    scale: Literal["share", "nats"]
    values: Sequence[Sequence[float]]
    samples: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """An adapter per seed: every family before and after it, KL(base || adapter) per seed in nats a token."""

    name: str
    before: Sequence[Results]
    after: Sequence[Results]
    kl: Sequence[float] = ()
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of one family: the mean change with 95 % limits, each seed's mean, and where it stands."""

    family: str
    interval: Interval
    standing: Standing
    p_better: float
    p_worse: float
    seeds: tuple[float, ...]

    @property
    def lost(self) -> bool:
        """Worse than before, and not by one adapter's bad luck: items say so, and every adapter's mean is below 0."""
        return self.standing == "worse" and max(self.seeds) < 0

    @property
    def rose(self) -> bool:
        """Better than before by the items, and in every adapter."""
        return self.interval.low > 0 and min(self.seeds) > 0

    def kept(self, delta: float) -> bool:
        """Whether it stays within `delta`, and every adapter's mean does."""
        return self.standing == NON_INFERIOR and min(self.seeds) > -delta


def change(before: Results, after: Results, rng: np.random.Generator, *, delta: float, families: int = 1) -> Change:
    """Compare a family item by item, averaged over seeds: a score interval for shares, a bootstrap over documents for
    text, and sign-flip tests either way."""
    old, new = np.asarray(before.values, dtype=float), np.asarray(after.values, dtype=float)
    differences = (new - old).mean(0)
    strict = 1 - 0.05 / families
    standing: Standing
    if before.scale == "share":
        first, second = old.mean(0).tolist(), new.mean(0).tolist()
        standing = noninferiority(first, second, delta=delta, worse_confidence=strict).standing
        interval = paired_interval(first, second)
    else:
        interval, lower, stricter = (
            mean_interval(differences.tolist(), rng, confidence=level) for level in (0.95, 0.9, 2 * strict - 1)
        )
        standing = NON_INFERIOR if lower.low > -delta else "worse" if stricter.high < 0 else "unclear"
    return Change(
        family=before.family,
        interval=interval,
        standing=standing,
        p_better=sign_flip(differences.tolist(), rng),
        p_worse=sign_flip((-differences).tolist(), rng),
        seeds=tuple(float(value) for value in (new - old).mean(1)),
    )


def changes(arm: Arm, rng: np.random.Generator, *, delta: float) -> list[Change]:
    """Every family of an arm, corrected for their number."""
    pairs = zip(arm.before, arm.after, strict=True)
    return [change(old, new, rng, delta=delta, families=len(arm.before)) for old, new in pairs]


def beyond(arm: Arm, null: Arm, rng: np.random.Generator, *, delta: float) -> list[Change]:
    """How much better each family is after `arm` than after the `null`, adapter by adapter of the same seed."""
    rows = len(arm.after[0].values)
    before = [replace(results, values=results.values[:rows]) for results in null.after]
    return changes(replace(arm, before=before), rng, delta=delta)

"""Numbers about attention heads: which changed, how concentrated the change is, and whether they carry the effect.

Heads are numbered in one row here, block after block. A pattern's change is the L2 distance of a head's attention rows
on the same text before and after an update (`daemon.probes.heads`); it is compared with the change that shuffled-label
retrains make.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from policies.statistics import bootstrap
from policies.statistics.concentration import gini, participation_ratio, top_share
from policies.statistics.interval import Interval
from policies.statistics.multiple import benjamini_hochberg, needed_draws
from policies.statistics.paired import sign_flip
from policies.statistics.prediction import prediction_high

TOP = 0.1  # the share of heads, rounded up, whose update is undone
HOLDS, SPARES = 0.8, 0.2  # undoing the top set removes at least, a random set at most, this share of the effect
RANDOM_SETS = 20
NEAR = (0.8, 1.25)  # random sets are norm-matched when their mean norm is between these multiples of the top set's
ALONE = 0.1  # up to this multiple the other heads carry next to nothing: the update itself is confined
DRAWS = 9_999
_ENUMERATED, _DRAWN = 20_000, 2_000  # sets of heads looked through for matching norms: all, or drawn ones
_FLOOR = 1e-6  # a change below this is none: attention weights are float32

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Per head the change relative to its null, and whether that is more than chance.

    `ratio` (heads,) divides the mean change by the retrains' mean; `band` is where 95 % of such ratios of single
    retrains to the others lie; `p` (heads,) are sign-flip p-values over conversations; `significant` passed
    Benjamini-Hochberg *and* lies above the band, for a retrain differs from the mean of others on every conversation.
    """

    ratio: Floats
    p: Floats
    significant: NDArray[np.bool_]
    band: tuple[float, float]

    @property
    def top(self) -> tuple[int, ...]:
        """The top 10 % of heads, rounded up; the largest ratio first."""
        count = math.ceil(round(TOP * len(self.ratio), 9))
        return tuple(int(head) for head in np.argsort(-self.ratio, kind="stable")[:count])


def rank(subject: Floats, null: Floats, rng: np.random.Generator, *, draws: int = DRAWS) -> Ranking:
    """From the changes (seeds, conversations, heads) of the update and of at least 2 shuffled-label retrains."""
    typical = np.maximum(null.mean(axis=(0, 1)), _FLOOR)
    ratio = subject.mean(axis=(0, 1)) / typical
    excess = subject.mean(axis=0) - null.mean(axis=0)
    draws = max(draws, needed_draws(len(ratio)))
    p = np.array([sign_flip(head.tolist(), rng, draws=draws) for head in excess.T])
    each = null.mean(axis=1)
    others = (each.sum(axis=0) - each) / (len(each) - 1)
    low, high = np.quantile(each / np.maximum(others, _FLOOR), [0.025, 0.975])
    passed = np.array(benjamini_hochberg(p.tolist()), dtype=bool)
    return Ranking(ratio=ratio, p=p, significant=passed & (ratio > high), band=(float(low), float(high)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How concentrated the change is over heads: Gini's coefficient beside the retrains', effective number, top share.

    `excess` is the mean Gini of the update's seeds minus that of the retrains, 95 % by bootstrap over conversations.
    """

    gini: float
    placebo: float
    excess: Interval
    participation: float
    top: float


def shape(subject: Floats, null: Floats, rng: np.random.Generator, *, resamples: int = 1000) -> Shape:
    """From the changes (seeds, conversations, heads)."""

    def mean_gini(changes: Floats) -> float:
        return float(np.mean([gini(seed) for seed in changes.mean(axis=1)]))

    count = subject.shape[1]
    drawn = rng.integers(0, count, size=(resamples, count))
    differences = [mean_gini(subject[:, rows]) - mean_gini(null[:, rows]) for rows in drawn]
    low, high = np.quantile(differences, [0.025, 0.975])
    mine, placebo = mean_gini(subject), mean_gini(null)
    heads = subject.mean(axis=(0, 1))
    return Shape(
        gini=mine,
        placebo=placebo,
        excess=Interval(mine - placebo, float(low), float(high), count),
        participation=participation_ratio(heads),
        top=top_share(heads, TOP),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What the update does to held-out probes, beyond what retraining on shuffled labels does, in nats per token.

    `beyond`: the interval over probes is above 0, and every seed's mean lies above 0 and above `null_high`, the 95 %
    limit for one more retrain. An update that does less harm than its placebo has no effect to be located.
    """

    excess: Interval
    seeds: tuple[float, ...]
    null_mean: float
    null_high: float

    @property
    def beyond(self) -> bool:
        """Whether there is an effect to be located."""
        return self.excess.low > 0 and min(self.seeds) > max(0.0, self.null_high)


def effect(subject: Floats, null: Floats, rng: np.random.Generator) -> Effect:
    """From the changes of the probes' margins (seeds, probes)."""
    means = null.mean(axis=1)
    return Effect(
        excess=bootstrap.difference_interval(null.mean(axis=0).tolist(), subject.mean(axis=0).tolist(), rng),
        seeds=tuple(subject.mean(axis=1).tolist()),
        null_mean=float(means.mean()),
        null_high=prediction_high(means.tolist()),
    )


def matched_sets(
    norms: Floats, top: Sequence[int], rng: np.random.Generator, count: int = RANDOM_SETS
) -> list[tuple[int, ...]]:
    """Up to `count` sets of other heads, as many heads as `top` has, whose update's norm is nearest to the top set's.

    `norms` (heads,) are the norms of each head's part of the update. All sets where there are not more.

    >>> matched_sets(np.array([3.0, 1.0, 2.9, 2.0]), [0], np.random.default_rng(0), count=2)
    [(2,), (3,)]
    """
    others = [head for head in range(len(norms)) if head not in top]
    if math.comb(len(others), len(top)) <= _ENUMERATED:
        found = list(combinations(others, len(top)))
    else:
        drawn = (rng.choice(others, len(top), replace=False) for _ in range(_DRAWN))
        found = sorted({tuple(sorted(int(head) for head in heads)) for heads in drawn})
    squares = np.asarray(norms, dtype=float) ** 2
    wished = math.sqrt(squares[list(top)].sum())
    rng.shuffle(found)  # ties are broken by chance
    return sorted(found, key=lambda heads: abs(math.sqrt(squares[list(heads)].sum()) - wished))[:count]


def enough_sets(heads: int, top: int) -> int:
    """How many random sets of `top` heads the protocol wants: 20, or all there are beside the top set.

    >>> enough_sets(12, 2), enough_sets(6, 1)
    (20, 5)
    """
    return min(RANDOM_SETS, math.comb(heads - top, top))


@dataclass(frozen=True, slots=True, kw_only=True)
class Causal:
    """Shares of the effect, 95 % by bootstrap over probes.

    `removed` by undoing the top set, `random` by undoing a random set (their mean; `worst` is the largest of any single
    set in any seed), `kept` by the top set alone, `heads` removed by undoing all attention heads. `norms` is each
    seed's mean norm of the random sets relative to the top set's, `sets` how many sets a seed has and `wanted` how many
    it should have.
    """

    removed: Interval
    kept: Interval
    random: Interval | None
    worst: float
    heads: Interval
    sets: int
    wanted: int
    norms: tuple[float, ...]

    @property
    def matched(self) -> bool:
        """Whether the random sets are enough, and as large as the top set in every seed."""
        return 0 < self.sets >= self.wanted and all(NEAR[0] <= norm <= NEAR[1] for norm in self.norms)

    @property
    def alone(self) -> bool:
        """Whether the other heads were hardly updated at all: no set of theirs can have the norm, or any effect."""
        return 0 < self.sets >= self.wanted and max(self.norms, default=1.0) <= ALONE

    @property
    def localised(self) -> bool:
        """Whether the protocol's three conditions hold."""
        spared = (self.matched or self.alone) and self.random is not None and self.random.value <= SPARES
        return self.removed.value >= HOLDS and self.kept.value >= HOLDS and spared

    @property
    def excluded(self) -> bool:
        """Whether one of the conditions fails by more than chance."""
        spread = self.matched and self.random is not None and self.random.low > SPARES
        return self.removed.high < HOLDS or self.kept.high < HOLDS or spread


def causal(
    *,
    whole: Floats,
    undone: Floats,
    kept: Floats,
    random: Sequence[Floats],
    heads: Floats,
    norms: Sequence[float],
    rng: np.random.Generator,
    wanted: int = RANDOM_SETS,
    resamples: int = 2000,
) -> Causal:
    """From margin changes against the base, (seeds, probes): of the whole update, without the top set, of it alone and
    without all attention heads; `random` has per seed those without each of its random sets (sets, probes)."""
    total = whole.mean(axis=0)
    drawn = rng.integers(0, len(total), size=(resamples, len(total)))

    def share(seeds: Floats, *, lost: bool) -> Interval:
        """The mean of `seeds` (seeds, probes) relative to the whole's, or what is missing of it."""
        values = seeds.mean(axis=0)
        parts = values[drawn].mean(axis=1) / total[drawn].mean(axis=1)
        value = float(values.mean() / total.mean())
        low, high = (float(limit) for limit in np.quantile(parts, [0.025, 0.975]))
        return Interval(1 - value, 1 - high, 1 - low, len(total)) if lost else Interval(value, low, high, len(total))

    sets = min(len(each) for each in random)
    singles = [float(1 - each.mean() / seed.mean()) for seed, each_seed in zip(whole, random, strict=True)
               for each in each_seed]  # fmt: skip

    return Causal(
        removed=share(undone, lost=True),
        kept=share(kept, lost=False),
        random=share(np.array([each.mean(axis=0) for each in random]), lost=True) if sets else None,
        worst=max(singles, default=math.nan),
        heads=share(heads, lost=True),
        sets=sets,
        wanted=wanted,
        norms=tuple(norms),
    )

"""Which dreams to dream: behaviours by how badly they may fail, bands by how much there is to learn.

Most seeds are targets of trained behaviours, in proportion to the upper limit of their failure rate: a behaviour that
is rarely seen is uncertain and gets attention. A share goes to counter-examples and guarded behaviours, so that what
is learned stays conditional. Within a behaviour the bands are weighted by learnability 4 p (1 - p) of their predicted
failure (SEC; R-Zero, Huang et al. 2025): hopeless and trivial dreams teach little.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from policies.records import BANDS, Band, Kind, Seed, content_id
from policies.statistics.interval import Interval

Key = TypeVar("Key")
PRIOR: Mapping[Band, float] = {"obvious": 0.3, "medium": 0.5, "subtle": 0.7}
FLOOR = 0.15  # every band keeps some weight: a prediction may be wrong


class Material(Protocol):
    """What the memory graph offers for a seed: a behaviour's pattern node and memories beside it."""

    @property
    def behavior(self) -> str: ...

    @property
    def node(self) -> str: ...

    @property
    def memories(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A behaviour, whether it is trained (or only guarded), its recent failure rate, and what its bands will do.

    `bands` holds the predicted P(fail) of a band's dreams; bands it lacks are taken from the prior .3 / .5 / .7.
    """

    behavior: str
    trained: bool
    failure: Interval = field(default=Interval(0.0, 0.0, 1.0, 0))
    bands: Mapping[Band, float] = field(default_factory=dict)


def allocate(
    count: int,
    needs: Sequence[Need],
    material: Sequence[Material],
    *,
    cycle: int,
    rng: random.Random,
    counter_share: float = 0.25,
    counters: bool = True,
) -> list[Seed]:
    """`count` seeds in random order, with distinct ids.

    Of the counter share half are counter-examples of trained behaviours and half targets of guarded ones; all of it is
    one of these when the other is missing. Without `counters` (the dreamer has no words to ask for them) all of it is
    targets of guarded ones, or nothing. Material is used evenly, its own behaviour's first; a behaviour without
    material gets seeds without node and memories. Raises ValueError when no behaviour is trained.
    """
    trained = [need for need in needs if need.trained]
    guarded = [need for need in needs if not need.trained]
    if not trained:
        raise ValueError("no behaviour is trained: there is nothing to dream about")
    aside = round(count * counter_share)
    if not counters and not guarded:
        aside = 0
    guard_count = (aside // 2 if counters else aside) if guarded else 0
    wanted: dict[tuple[str, Kind], int] = {}
    for group, kind, share in (
        (trained, "target", count - aside),
        (trained, "counter", aside - guard_count),
        (guarded, "target", guard_count),
    ):
        weights = {need.behavior: max(need.failure.high, 0.05) for need in group}
        for behavior, number in apportion(share, weights).items():
            key: tuple[str, Kind] = (behavior, "counter" if kind == "counter" else "target")
            wanted[key] = wanted.get(key, 0) + number
    by_name = {need.behavior: need for need in needs}
    seeds: list[Seed] = []
    for (behavior, kind), number in wanted.items():
        offered = _offered(behavior, material, rng)
        slots = [band for band, n in apportion(number, learnability(by_name[behavior].bands)).items() for _ in range(n)]
        rng.shuffle(slots)
        for slot, band in enumerate(slots):
            node, memories = offered[slot % len(offered)] if offered else ("", ())
            seeds.append(
                Seed(
                    id=content_id("seed", cycle, behavior, kind, slot, node, memories, band),
                    behavior=behavior,
                    kind=kind,
                    node=node,
                    memories=memories,
                    band=band,
                    cycle=cycle,
                )
            )
    rng.shuffle(seeds)
    return seeds


def learnability(bands: Mapping[Band, float]) -> dict[Band, float]:
    """The weight of each band: 4 p (1 - p), which peaks where half of the answers fail, and never below a floor.

    >>> {band: round(weight, 2) for band, weight in learnability({"subtle": 0.98}).items()}
    {'obvious': 0.84, 'medium': 1.0, 'subtle': 0.15}
    """
    chance = {band: bands.get(band, PRIOR[band]) for band in BANDS}
    return {band: max(FLOOR, 4 * p * (1 - p)) for band, p in chance.items()}


def apportion(count: int, weights: Mapping[Key, float]) -> dict[Key, int]:
    """Whole numbers in proportion to `weights` that add up to `count` (largest remainders; ties in given order).

    >>> apportion(5, {"a": 2.0, "b": 1.0})
    {'a': 3, 'b': 2}
    """
    total = sum(weights.values())
    if not weights or total <= 0 or count <= 0:
        return dict.fromkeys(weights, 0)
    exact = {key: count * weight / total for key, weight in weights.items()}
    whole = {key: int(share) for key, share in exact.items()}
    places = {key: place for place, key in enumerate(weights)}
    by_remainder = sorted(weights, key=lambda key: (whole[key] - exact[key], places[key]))
    for key in by_remainder[: count - sum(whole.values())]:
        whole[key] += 1
    return whole


def _offered(behavior: str, material: Sequence[Material], rng: random.Random) -> list[tuple[str, tuple[str, ...]]]:
    """The material for a behaviour, shuffled: its own, or else other memories under its own (unknown) node."""
    own = [(m.node, tuple(m.memories)) for m in material if m.behavior == behavior]
    if not own:
        own = [("", tuple(m.memories)) for m in material if m.memories]
    rng.shuffle(own)
    return own

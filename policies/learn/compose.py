"""What one update trains on: fresh targets, a replay of earlier ones, general skill and counter-examples.

Real turns come first: dreams fill up to their share, and never make up more than it, so a model that dreams badly
cannot talk itself away from its users. One conversation gives a limited share of the fresh examples: about 250
poisoned documents suffice to backdoor a model of any size (Souly et al. 2025). General and counter-examples are
shares of the whole batch; they keep the update from costing what is not measured here.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policies.records import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeSettings:
    """`maximum` fresh target examples; shares of the whole batch, except `dream_share` and `source_quota`, which are
    shares of the fresh ones, and `replay_share`, which is counted against the fresh ones taken."""

    maximum: int = 64
    dream_share: float = 0.6
    general_share: float = 0.25
    counter_share: float = 0.25
    source_quota: float = 0.25
    replay_share: float = 0.25

    def __post_init__(self) -> None:
        if self.general_share + self.counter_share >= 1:
            raise ValueError(
                f"general_share {self.general_share} + counter_share {self.counter_share} leave no room for targets; "
                "together they must stay below 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """The batch in training order, how many of each part it has, and why others were left out."""

    examples: tuple[Example, ...]
    counts: Mapping[str, int]
    left_out: tuple[str, ...]


def compose(
    fresh: Sequence[Example],
    replay: Sequence[Example],
    general: Sequence[Example],
    counter: Sequence[Example],
    settings: ComposeSettings,
    rng: random.Random,
    *,
    conversations: Mapping[str, str] | None = None,
) -> Composition:
    """Compose a batch; never the same prompt twice.

    `fresh` are untrained turn and dream examples, `replay` trained ones, `general` and `counter` the pools that those
    parts are drawn from. `conversations` gives the conversation of an example's source (a source that it lacks, as
    every dream, stands for itself). Newer cycles go first, behaviours take turns. Without a fresh example the batch is
    empty: there is nothing to learn.
    """
    taken: set[tuple[tuple[str, str], ...]] = set()
    left: Counter[str] = Counter()
    groups = conversations or {}
    quota = max(1, math.floor(settings.source_quota * settings.maximum))
    per_source: Counter[str] = Counter()

    def draw(pool: Sequence[Example], count: int, what: str, *, limited: bool = False) -> list[Example]:
        drawn: list[Example] = []
        for example in _in_turns(pool, rng):
            source = groups.get(example.source, example.source)
            prompt = tuple((m.role, m.content) for m in example.prompt)
            if prompt in taken:
                left[f"{what}: the same prompt is in the batch already"] += 1
            elif limited and per_source[source] >= quota:
                left[f"{what}: its conversation has given its {quota} examples"] += 1
            elif len(drawn) >= count:
                left[f"{what}: no room"] += 1
            else:
                drawn.append(example)
                taken.add(prompt)
                per_source[source] += limited
        return drawn

    real = [e for e in fresh if e.origin == "turn"]
    dreamed = [e for e in fresh if e.origin == "dream"]
    odd = len(fresh) - len(real) - len(dreamed)
    if odd:
        left["fresh: neither a turn nor a dream"] += odd
    room = settings.maximum - min(len(dreamed), math.floor(settings.dream_share * settings.maximum))
    turns = draw(real, room, "turn", limited=True)
    dreams = draw(dreamed, _dreams_allowed(len(turns), settings), "dream", limited=True)
    targets = turns + dreams
    if not targets:
        return Composition(examples=(), counts={}, left_out=_words(left))
    again = draw(replay, round(settings.replay_share * len(targets)), "replay")
    # targets and replay are what the other two shares leave of the whole
    whole = (len(targets) + len(again)) / (1 - settings.general_share - settings.counter_share)
    counters = draw(counter, round(settings.counter_share * whole), "counter")
    generals = draw(general, round(settings.general_share * whole), "general")
    examples = [*targets, *again, *counters, *generals]
    rng.shuffle(examples)
    counts = {
        "turn": len(turns),
        "dream": len(dreams),
        "replay": len(again),
        "counter": len(counters),
        "general": len(generals),
    }
    return Composition(examples=tuple(examples), counts=counts, left_out=_words(left))


def _dreams_allowed(turns: int, settings: ComposeSettings) -> int:
    """How many dreams may stand beside this many turns."""
    share = settings.dream_share
    if share >= 1:
        return settings.maximum - turns
    return min(settings.maximum - turns, math.floor(share / (1 - share) * turns + 1e-9))


def _in_turns(pool: Sequence[Example], rng: random.Random) -> list[Example]:
    """The newest cycle first, chance within a cycle, and the behaviours one after the other."""
    order = sorted(pool, key=lambda e: e.id)
    rng.shuffle(order)
    order.sort(key=lambda e: -e.cycle)
    rank: Counter[str] = Counter()
    keyed: list[tuple[int, str, Example]] = []
    for example in order:
        name = example.behavior or ""
        keyed.append((rank[name], name, example))
        rank[name] += 1
    return [example for _, _, example in sorted(keyed, key=lambda row: row[:2])]


def _words(left: Counter[str]) -> tuple[str, ...]:
    return tuple(f"{count} left out, {why}" for why, count in sorted(left.items()))

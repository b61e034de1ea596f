"""What a direction is made from, what it is asked on, and what must survive it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daemon.errors import CannotAnswer
from daemon.experiments.bench import Bench
from policies.answers import q5
from policies.behaviors import Behavior, Pair, Probe

FEWEST_PAIRS, FEWEST_SCENARIOS = 20, 20


def pairs_of(behavior: Behavior, limit: int, rng: np.random.Generator) -> list[Pair]:
    """Target pairs with both answers, in random order. Raises CannotAnswer with fewer than 20."""
    found = [pair for pair in behavior.pairs if pair.kind == "target" and pair.preferred and pair.rejected]
    if len(found) < FEWEST_PAIRS:
        raise CannotAnswer(
            f"{behavior.name}.toml has {len(found)} target examples with a preferred and a rejected answer; question 5 "
            f"needs at least {FEWEST_PAIRS} pairs for a direction: add more to its `examples`"
        )
    return [found[place] for place in rng.permutation(len(found))[:limit]]


def scenarios_of(behavior: Behavior, pairs: Sequence[Pair], limit: int, rng: np.random.Generator) -> list[Probe]:
    """Rotating target probes that are no pair's prompt, in random order. Raises CannotAnswer with fewer than 20."""
    known = {pair.prompt for pair in pairs}
    found = [probe for probe in behavior.select(split="rotating", kind="target") if probe.prompt not in known]
    if len(found) < FEWEST_SCENARIOS:
        raise CannotAnswer(
            f"{behavior.name}.toml has {len(found)} rotating target probes that are no example; question 5 needs at "
            f"least {FEWEST_SCENARIOS}, and {q5.SCENARIOS} for the protocol: add more to its `probes`"
        )
    return [found[place] for place in rng.permutation(len(found))[:limit]]


def skills_of(bench: Bench, limit: int) -> dict[str, tuple[Behavior, tuple[Probe, ...], bool]]:
    """What must survive: the behaviour's own counter probes, and the target probes of every other one.

    The last of each says whether it decides: other behaviours under training are reported beside those under guard.
    """
    mine = bench.behavior
    found = {f"{mine.name}, counter": (mine, mine.select(split="rotating", kind="counter")[:limit], True)}
    for name, other in bench.behaviors.items():
        if name != mine.name:
            probes = other.select(split="rotating", kind="target")[:limit]
            found[name] = (other, probes, name not in bench.trained)
    return {name: each for name, each in found.items() if each[1]}


def as_probe(pair: Pair) -> Probe:
    """A pair that is asked like a probe."""
    return Probe(
        id=pair.prompt, prompt=pair.prompt, kind=pair.kind, band=pair.band, split="held back",
        preferred=pair.preferred, rejected=pair.rejected,
    )  # fmt: skip

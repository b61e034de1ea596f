"""Records cycles as the guard's three channels see them: users talk to the adapter in use, and it is probed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from daemon.judges.base import Judge, judge_all
from daemon.models.base import Checkpoint, Generator, Sampling, ignore
from daemon.probes import behavior as behavior_probe
from daemon.probes import conversations
from graph.surface import Surfacer
from policies.behaviors import Behavior, Probe
from policies.guard import watch
from policies.guard.replay import Cycle
from policies.listen.signals import signals
from policies.listen.turns import exchanges
from policies.records import ChatMessage, Message

# an eligible turn: its conversation, 1.0 where the signal says it failed, 1.0 where the pattern node surfaced
Heard = tuple[int, float, float]
MOST = 0.9  # share of the traffic that one behaviour may have


class Recorded(TypedDict):
    """A cycle: its eligible turns in order, and 1.0 for each probe that failed."""

    heard: list[Heard]
    probe: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Who talks about what, and how it is read. A cycle has `conversations` and `probes`.

    `mix` is what the simulated user of nano's world talks about; without it there is no user: half of the behaviour's
    held-out probes are then asked instead, and its judge says what a user would have said; the other half are the
    probes.
    """

    behavior: Behavior
    judge: Judge
    surfacer: Surfacer
    surfaced: int
    threshold: float
    mix: Mapping[str, float] | None
    conversations: int
    probes: int

    def busier(self) -> World:
        """The same with twice as much traffic about the behaviour."""
        if self.mix is None:
            return replace(self, conversations=2 * self.conversations)
        mine = self.mix[self.behavior.name] / sum(self.mix.values())
        more = min(MOST, 2 * mine)
        rest = {name: share / sum(self.mix.values()) * (1 - more) / (1 - mine) for name, share in self.mix.items()}
        return replace(self, mix={**rest, self.behavior.name: more})

    def key(self) -> list[object]:
        """Everything that a record depends on beside the behaviour and the memory graph's words."""
        return [self.conversations, self.probes, self.surfaced, self.threshold, self.mix]


def record(
    model: Generator, world: World, cycles: int, sampling: Sampling, checkpoint: Checkpoint = ignore
) -> list[Recorded]:
    """`cycles` cycles of the adapter in use, answered together for speed; `sampling.seed` is all their luck."""
    count, rng = cycles * world.conversations, random.Random(f"cycles {sampling.seed}")
    targets = world.behavior.select(split="rotating", kind="target")
    if world.mix is None:
        heard, targets = _asked(model, world, count, targets[::2], sampling, rng, checkpoint), targets[1::2]
    else:
        heard = _talked(model, world, count, world.mix, sampling, checkpoint)
    chosen = [probe for _ in range(cycles) for probe in rng.sample(targets, min(len(targets), world.probes))]
    passed = behavior_probe.measure(
        model, chosen, world.judge, world.behavior.name, samples=1, sampling=sampling, checkpoint=checkpoint
    )
    each = len(chosen) // cycles
    return [
        Recorded(
            heard=[row for row in heard if row[0] // world.conversations == cycle],
            probe=[1 - value for value in passed[cycle * each : (cycle + 1) * each]],
        )
        for cycle in range(cycles)
    ]


def overheard(talks: Sequence[Sequence[ChatMessage]], world: World) -> list[Heard]:
    """Every eligible turn with a signal, conversation by conversation, read as the listening station reads a log."""
    heard: list[Heard] = []
    for number, talk in enumerate(talks):
        messages = [
            Message(
                id=f"{number}/{place}", conversation=str(number), order=place, role=said.role, text=said.content,
                at=0.0, source="",
            )
            for place, said in enumerate(talk)
        ]  # fmt: skip
        for exchange in exchanges(messages, context_turns=0):
            found = signals(exchange.turn, exchange.reaction, [world.behavior])
            heard += [(number, float(signal.failed), _surfaces(exchange.text, world)) for signal in found]
    return heard


def blocked(cycles: Sequence[Recorded]) -> list[Cycle]:
    """What the guard feeds its detectors: conversations as one observation each."""
    return [
        {
            "signal": watch.block((str(talk), failed) for talk, failed, _ in cycle["heard"]),
            "graph": watch.block((str(talk), up) for talk, _, up in cycle["heard"]),
            "probe": cycle["probe"],
        }
        for cycle in cycles
    ]


def clusters(cycles: Sequence[Recorded], channel: str) -> list[list[float]]:
    """A channel's observations of all cycles, a list per conversation; probes stand alone."""
    if channel == "probe":
        return [[value] for cycle in cycles for value in cycle["probe"]]
    column = 1 if channel == "signal" else 2
    found: dict[tuple[int, int], list[float]] = {}
    for place, cycle in enumerate(cycles):
        for row in cycle["heard"]:
            found.setdefault((place, row[0]), []).append(float(row[column]))
    return list(found.values())


def _talked(
    model: Generator, world: World, count: int, mix: Mapping[str, float], sampling: Sampling, checkpoint: Checkpoint
) -> list[Heard]:
    from daemon.models.nano.user import SimulatedUser

    users = [SimulatedUser(seed=sampling.seed * 100_003 + i, mix=mix) for i in range(count)]
    return overheard(conversations.hold(model, users, sampling, checkpoint), world)


def _asked(
    model: Generator,
    world: World,
    count: int,
    probes: Sequence[Probe],
    sampling: Sampling,
    rng: random.Random,
    checkpoint: Checkpoint,
) -> list[Heard]:
    prompts = [rng.choice(probes).prompt for _ in range(count)]
    answers = model.generate([(ChatMessage(role="user", content=text),) for text in prompts], sampling, checkpoint)
    said = list(zip(prompts, answers, strict=True))
    judged = judge_all(world.judge, world.behavior.name, said, lambda *_: checkpoint(count, count))
    return [
        (number, float(not judgement.passed), _surfaces(" ".join(pair), world))
        for number, (pair, judgement) in enumerate(zip(said, judged, strict=True))
        if judgement.passed is not None
    ]


def _surfaces(text: str, world: World) -> float:
    nodes = world.surfacer.surface(text, limit=world.surfaced, threshold=world.threshold)
    return float(any(node == world.behavior.graph_key for node, _ in nodes))

"""What a station is: it plans jobs when its stage begins and absorbs what they return.

Station methods run in the loop's process: they are quick, they import no torch, and they only read (through View).
What they want written, they return. The heavy work is in RUNNERS, functions that a worker runs.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from daemon.config import Config
from daemon.events import Job, JobFinished, Stage
from graph.memory import Memory
from graph.surface import Surfacer
from policies.behaviors import Behavior
from policies.records import Adapter, Message

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A step in an adapter's life that a station asks for; see `policies.lifecycle`."""

    adapter: str
    after: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a station wants, all of it done in one transaction.

    `records` are written, `jobs` queued (the stage lasts until they have finished), `moves` applied in order, `facts`
    remembered; `roll_back`, when it gives a reason, undoes the serving adapter's promotion; `rescan` reads the logs
    once more before the stage ends; `happenings` are told to whoever watches, and `note` sums the stage up for people.
    """

    records: tuple[Any, ...] = ()
    jobs: tuple[Job, ...] = ()
    moves: tuple[Move, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    roll_back: str = ""
    rescan: bool = False
    happenings: tuple[Mapping[str, Any], ...] = ()
    note: str = ""


NOTHING = Plan()


class Reads(Protocol):
    """The store as stations see it: read only."""

    def get(self, record: type[T], id: str) -> T | None: ...

    def find(
        self,
        record: type[T],
        *,
        order_by: str = "at",
        descending: bool = False,
        limit: int | None = None,
        since: float | None = None,
        **equals: Any,
    ) -> list[T]: ...

    def count(self, record: type[Any], **equals: Any) -> int: ...

    def adapter_states(self) -> dict[str, str]: ...

    def fact(self, key: str, default: Any = None) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The world at one moment, for a station to plan on."""

    store: Reads
    config: Config
    now: float
    cycle: int
    serving: str | None
    behaviors: dict[str, Behavior]
    memory: Memory
    surfacer: Surfacer

    def rng(self, *parts: object) -> random.Random:
        """Randomness that depends on the configured seed, the cycle and `parts`, and on nothing else."""
        return random.Random(f"{self.config.daemon.seed}/{self.cycle}/{'/'.join(map(str, parts))}")


class Station(Protocol):
    """One of the six verbs."""

    name: ClassVar[Stage]

    def plan(self, view: View) -> Plan:
        """The stage begins: what is to be done?"""
        ...

    def absorb(self, done: JobFinished, view: View) -> Plan:
        """A job of this station finished: what of its records is to be written, and what follows?"""
        ...


@runtime_checkable
class Hears(Protocol):
    """The station that turns log messages into what they mean, as logs grow."""

    def hear(self, fresh: Sequence[Message], view: View) -> Plan:
        """What these new messages mean."""
        ...


@runtime_checkable
class Watches(Protocol):
    """The station that looks at new signals at once, in a cycle or not."""

    def heard(self, view: View) -> Plan:
        """New signals were stored."""
        ...


class Companion(Protocol):
    """What goes along with the stations' work: errands that somebody asked for, and jobs beside a stage's own."""

    def beside(self, stage: Stage, view: View) -> Plan:
        """A stage begins: what else is to be done while it lasts?"""
        ...

    def absorb(self, done: JobFinished, view: View) -> Plan:
        """An errand, or a job from beside a stage, finished."""
        ...


class Alone:
    """No companion: nothing is done beside the stages."""

    def beside(self, stage: Stage, view: View) -> Plan:
        """Nothing."""
        return NOTHING

    def absorb(self, done: JobFinished, view: View) -> Plan:
        """What it returned is kept."""
        return Plan(records=done.result.records)


def folder_of(view: View, adapter: str | None) -> str | None:
    """An adapter's folder as an absolute path for a job's payload; None is the base."""
    if adapter is None:
        return None
    found = view.store.get(Adapter, adapter)
    return str(view.config.state / found.folder) if found else None

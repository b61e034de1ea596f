"""What a station is: it plans jobs when its stage begins and absorbs what they return.

Station methods run in the loop's process: they are quick, they import no torch, and they only read (through View).
What they want written, they return. The heavy work is in RUNNERS, functions that a worker runs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from daemon.config import Config
from daemon.events import Job, JobFinished, Stage
from policies.behaviors import Behavior

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a station wants: `records` to write, `jobs` to run before its stage ends, and orders to the loop.

    `rescan` reads the logs once more before the stage ends.
    """

    records: tuple[Any, ...] = ()
    jobs: tuple[Job, ...] = ()
    rescan: bool = False


NOTHING = Plan()


class Reads(Protocol):
    """The store as stations see it: read only."""

    def get(self, record: type[T], id: str) -> T | None: ...

    def find(
        self, record: type[T], *, order_by: str = "at", descending: bool = False, limit: int | None = None, **equals: Any
    ) -> list[T]: ...

    def count(self, record: type[Any], **equals: Any) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The world at one moment, for a station to plan on."""

    store: Reads
    config: Config
    now: float
    cycle: int
    serving: str | None
    behaviors: dict[str, Behavior]
    memory: Any  # graph.memory.Memory; typed loosely so that stations can be tested without a graph
    scratch: dict[str, Any] = field(default_factory=dict)

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
        """A job of this station finished (its records are stored already): what follows?"""
        ...


def folder_of(view: View, adapter: str | None) -> str | None:
    """An adapter's folder as an absolute path for a job's payload; None is the base."""
    if adapter is None:
        return None
    from policies.records import Adapter

    found = view.store.get(Adapter, adapter)
    return str(view.config.state / found.folder) if found else None


def newest(records: Sequence[T]) -> T | None:
    """The last of `records`, which `Reads.find` returns oldest first."""
    return records[-1] if records else None

"""Jobs, results and events: what travels between the loop, its stations and the executors.

A job takes records and returns records; it never touches the store. `payload` and `Result.records` are plain data, so
inline, worker process and any later executor are interchangeable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from policies.records import Message, content_id

Lane = Literal["train", "serve", "keep"]
Stage = Literal["listen", "dream", "grade", "learn", "judge", "guard"]
STAGES: tuple[Stage, ...] = ("listen", "dream", "grade", "learn", "judge", "guard")
ERRAND = 0  # the cycle of jobs that somebody asked for: they belong to none
JobState = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of heavy work, durable as a row.

    `kind` names its runner ("station.verb", as in "dream.write"); `lane` the worker that runs it: "train" has the
    learner's model, "serve" the serving one, "keep" looks after servers and waits for neither. `payload` is
    JSON-serialisable.
    """

    id: str
    kind: str
    lane: Lane
    cycle: int
    payload: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def make(cls, kind: str, *, lane: Lane, cycle: int, key: object = "", **payload: Any) -> Job:
        """A job whose id is the hash of what makes it unique, so that planning twice queues it once.

        The payload also carries the cycle, since a runner sees nothing else.
        """
        everything = {"cycle": cycle, **payload}
        return cls(id=content_id("job", kind, cycle, key), kind=kind, lane=lane, cycle=cycle, payload=everything)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a job returns: records to store, and `notes`, small JSON facts for the station that absorbs it."""

    records: tuple[Any, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A job's progress: `done` of `total` units of work, and a few words."""

    job: str
    kind: str
    done: int
    total: int
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinished:
    job: Job
    result: Result
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed:
    job: Job
    error: str
    seconds: float
    retryable: bool = True
    cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRead:
    """Messages read from one log file, and how far: stored together in one transaction.

    `identity` is "device:inode:beginning", the last a hash of how the file begins (inodes are used again); `offset` the
    byte after the last complete line that was read; `skipped` says which lines were passed over and why.
    """

    path: str
    identity: str
    format: str
    offset: int
    messages: Sequence[Message]
    skipped: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleDue:
    """The scheduler or an operator asks for a cycle of `stages`."""

    why: str
    stages: tuple[Stage, ...] = STAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """A moment that was waited for has come: look whether something is to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End after what is running has been stopped safely."""

    why: str


Event = JobFinished | JobFailed | Progress | FileRead | CycleDue | Wake | Stop

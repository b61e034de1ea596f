"""What the store itself keeps beside the records: jobs, cycles, log files, reads of sealed probes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from daemon.events import Job, JobState

CycleState = Literal["running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredJob:
    """A job and where it stands. `attempts` counts starts; a queued job waits until `not_before`."""

    job: Job
    state: JobState
    attempts: int
    not_before: float | None
    error: str | None
    queued_at: float
    started_at: float | None
    finished_at: float | None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """One round of the loop; `stage` is the last one begun, `stage_began` when (None: none yet)."""

    id: int
    why: str
    stages: tuple[str, ...]
    stage: str | None
    stage_began: float | None
    state: CycleState
    started: float
    finished: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """How far a log file was read: `offset` bytes of the file that `identity` ("device:inode") names."""

    identity: str
    path: str
    format: str
    offset: int
    updated: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedRead:
    """Sealed probes were read: by whom, why and when. Each read spends some of what sealing buys."""

    who: str
    why: str
    at: float


class Tally(NamedTuple):
    """`failed` of `n` observations."""

    failed: int
    n: int

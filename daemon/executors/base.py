"""The executor seam: submit, cancel, pause, close. Jobs come back as events, never as exceptions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from daemon.events import Event, Job, Lane, Result
from daemon.models.base import Model

Emit = Callable[[Event], None]  # must be safe to call from any thread


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What a worker needs to build its model: picklable, so that it can cross to another process.

    `backend` names a module of daemon.models; `options` are its `load(**options)` arguments.
    """

    backend: str
    options: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    behaviors: tuple[Path, ...] = ()
    general: Path | None = None


class Context(Protocol):
    """What a job's runner may use."""

    @property
    def model(self) -> Model: ...

    @property
    def spec(self) -> WorkerSpec: ...

    def checkpoint(self, done: int, total: int, note: str = "") -> None:
        """Report progress; raises Cancelled when the job was cancelled, waits here while the loop is paused."""
        ...


Runner = Callable[[dict[str, Any], Context], Result]


class Executor(Protocol):
    """Runs jobs one at a time per lane and reports by events (Progress, JobFinished, JobFailed)."""

    def submit(self, job: Job) -> None: ...

    def cancel(self, job_id: str) -> None: ...

    def pause(self, paused: bool) -> None: ...

    def busy(self, lane: Lane) -> bool: ...

    def close(self) -> None: ...

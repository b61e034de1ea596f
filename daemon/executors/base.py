"""The executor seam: submit, cancel, pause, close. Jobs come back as events, never as exceptions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from daemon.events import Event, Job, Lane, Result
from daemon.models.base import Generator, Model

Emit = Callable[[Event], None]  # must be safe to call from any thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The servers that answer beside a worker's own model: a backend with its `load(**options)` arguments.

    With `sleeps` they sleep while the worker trains.
    """

    backend: str
    options: dict[str, Any] = field(default_factory=dict)
    sleeps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What a worker needs to build its model: picklable, so that it can cross to another process.

    `backend` names a module of daemon.models; `options` are its `load(**options)` arguments. Without `served` the
    worker's own model answers.
    """

    backend: str
    options: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    behaviors: tuple[Path, ...] = ()
    general: Path | None = None
    served: Served | None = None


class Context(Protocol):
    """What a job's runner may use."""

    @property
    def model(self) -> Model: ...

    @property
    def served(self) -> Generator:
        """What answers as people are answered: the servers where there are some, else the worker's own model."""
        ...

    @property
    def spec(self) -> WorkerSpec: ...

    def training(self) -> AbstractContextManager[None]:
        """To be entered while something is trained: servers that share the GPU sleep meanwhile, where configured."""
        ...

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

"""Runs jobs at once, in the caller's thread: for tests and for stepping through a cycle in a debugger."""

from __future__ import annotations

from collections import deque

from daemon.events import Job, JobFailed, Lane
from daemon.executors.base import Emit, WorkerSpec
from daemon.executors.context import Control
from daemon.executors.running import run
from daemon.models import loading
from daemon.models.base import Model


class InlineExecutor:
    """One model for both lanes, loaded at first use unless given. `submit` returns when the job has been reported."""

    def __init__(self, spec: WorkerSpec, emit: Emit, model: Model | None = None) -> None:
        self._spec = spec
        self._emit = emit
        self._loaded = model
        self._control = Control()
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._paused = False
        self._closed = False

    def submit(self, job: Job) -> None:
        """Run `job` now; one submitted by a job's own event, or while paused, waits for its turn."""
        if self._closed:
            raise RuntimeError("the executor is closed")
        self._waiting.append(job)
        self._work()

    def cancel(self, job_id: str) -> None:
        """End the job at its next checkpoint, or take it out of the queue."""
        for job in [job for job in self._waiting if job.id == job_id]:
            self._waiting.remove(job)
            self._emit(JobFailed(job=job, error="cancelled", seconds=0.0, retryable=False, cancelled=True))
        if self._running is not None and self._running.id == job_id:
            self._control.cancel(job_id)

    def pause(self, paused: bool) -> None:
        """Hold jobs back. What already runs in this thread goes on: nobody else could wake it."""
        self._paused = paused
        self._work()

    def busy(self, lane: Lane) -> bool:
        """Whether a job of this lane runs or waits."""
        jobs = [*self._waiting, *([self._running] if self._running else [])]
        return any(job.lane == lane for job in jobs)

    def warm(self, lane: Lane) -> None:
        """Load the model now rather than at the first job."""
        self._model()

    def close(self) -> None:
        """Take no more jobs and drop those that wait; nothing is reported about them."""
        self._closed = True
        self._waiting.clear()
        self._control.end()

    def _work(self) -> None:
        while self._waiting and self._running is None and not self._paused:
            self._running = self._waiting.popleft()
            event = run(self._running, self._spec, self._model, self._control, self._emit)
            self._running = None
            if not self._closed:
                self._emit(event)

    def _model(self) -> Model:
        if self._loaded is None:
            self._loaded = loading.load(self._spec.backend, threads=self._spec.threads, **self._spec.options)
        return self._loaded

"""What a running job holds on to: the warm model, and the checkpoint where it reports, pauses and is cancelled."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from daemon.errors import Cancelled
from daemon.events import Job, Progress
from daemon.executors.base import WorkerSpec
from daemon.executors.window import TrainingWindow
from daemon.models.base import Generator, Model

_BETWEEN_REPORTS = 0.1
_NEVER_PAUSED = ("chat.", "serve.")  # light work: a pause is for what takes a device for minutes


class Control:
    """Orders to whatever runs, given from another thread: cancel this job, pause, go on, end."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._cancelled: set[str] = set()
        self._paused = False
        self._ending = False

    def cancel(self, job: str) -> None:
        """End `job` at its next checkpoint."""
        with self._changed:
            self._cancelled.add(job)
            self._changed.notify_all()

    def pause(self, paused: bool) -> None:
        """Hold (or release) whatever runs at its next checkpoint."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    def end(self) -> None:
        """End whatever runs and whatever comes, at its next checkpoint."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def holds(self, job: Job) -> bool:
        """Would `job` have to wait now?"""
        with self._changed:
            return self._paused and not job.kind.startswith(_NEVER_PAUSED)

    def pass_or_raise(self, job: Job) -> None:
        """Return when `job` may go on; waits while paused, unless a person waits for the job. Raises Cancelled."""
        with self._changed:
            waits = not job.kind.startswith(_NEVER_PAUSED)
            while waits and self._paused and not self._ending and job.id not in self._cancelled:
                self._changed.wait()
            if self._ending or job.id in self._cancelled:
                raise Cancelled(f"{job.kind} was cancelled")

    def forget(self, job: str) -> None:
        """The job is over."""
        with self._changed:
            self._cancelled.discard(job)


class WorkerContext:
    """The Context of one job. Progress is passed on at most ten times a second, and when the work is complete."""

    def __init__(
        self,
        job: Job,
        spec: WorkerSpec,
        model: Callable[[], Model],
        control: Control,
        report: Callable[[Progress], None],
        clock: Callable[[], float] = time.monotonic,
        served: Callable[[], Generator] | None = None,
    ) -> None:
        self._job = job
        self._spec = spec
        self._model = model
        self._control = control
        self._report = report
        self._clock = clock
        self._served = served or model
        self._window: TrainingWindow | None = None
        self._last: tuple[float, int, str] | None = None

    @property
    def model(self) -> Model:
        """The worker's model, loaded at first use. Raises ModelMissing."""
        return self._model()

    @property
    def served(self) -> Generator:
        """What answers as people are answered; see `daemon.executors.base.Context`."""
        return self._served()

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Servers that share the GPU sleep while this is entered, where that is configured, and the model has it."""
        if self._spec.served is None or not self._spec.served.sleeps:
            yield
            return
        if self._window is not None:
            yield  # the window is open already
            return
        with TrainingWindow(self.served, self.model) as self._window:
            try:
                yield
            finally:
                self._window = None

    @property
    def spec(self) -> WorkerSpec:
        """What the worker was built from."""
        return self._spec

    def checkpoint(self, done: int, total: int, note: str = "") -> None:
        """Report progress; raises Cancelled when the job was cancelled, waits here while the loop is paused."""
        now = self._clock()
        last = self._last
        if last is None or now - last[0] >= _BETWEEN_REPORTS or (done >= total and last[1:] != (done, note)):
            self._last = (now, done, note)
            self._report(Progress(job=self._job.id, kind=self._job.kind, done=done, total=total, note=note))
        if self._window is not None and self._control.holds(self._job):
            with self._window.suspended():
                self._control.pass_or_raise(self._job)
        else:
            self._control.pass_or_raise(self._job)

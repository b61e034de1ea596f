"""One lane: a queue of jobs, the worker process that runs them, and the threads that listen to it."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from multiprocessing.connection import Connection
from typing import IO

from daemon.events import Event, Job, JobFailed, JobFinished, Lane, Progress
from daemon.executors import wire
from daemon.executors.base import Emit, WorkerSpec
from daemon.executors.environment import same_code

log = logging.getLogger("dreamloop.worker")
_LAST_WORDS = 12  # lines of a dead worker's stderr that its job's error quotes


class WorkerLane:
    """Thread-safe. `_lock` guards the queue and the process; events are emitted outside of it."""

    def __init__(self, name: Lane, spec: WorkerSpec, emit: Emit, *, grace: float, niceness: int) -> None:
        self._name = name
        self._spec = spec
        self._emit = emit
        self._grace = grace
        self._niceness = niceness
        self._lock = threading.RLock()
        self._waiting: deque[Job] = deque()
        self._running: tuple[Job, float] | None = None
        self._cancelled: set[str] = set()
        self._paused = False
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._reader: threading.Thread | None = None
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)

    def submit(self, job: Job) -> None:
        """Queue a job and start it when the lane is free. Raises NotPlain for a payload that cannot cross."""
        wire.checked(wire.Run(job))
        with self._lock:
            if self._closed:
                raise RuntimeError("the executor is closed")
            self._waiting.append(job)
            self._next()

    def busy(self) -> bool:
        """Whether a job runs or waits."""
        with self._lock:
            return self._running is not None or bool(self._waiting)

    def pid(self) -> int | None:
        """The worker's process id, when it runs."""
        with self._lock:
            return self._process.pid if self._process is not None else None

    def warm(self) -> None:
        """Start the worker now."""
        with self._lock:
            if not self._closed:
                self._start()

    def pause(self, paused: bool) -> None:
        """Hold the running job at its next checkpoint, or let it go on."""
        with self._lock:
            self._paused = paused
            if self._connection is not None:
                wire.send(self._connection, wire.Pause(paused))

    def cancel(self, job_id: str) -> None:
        """End a job that waits or runs."""
        dropped: list[Job] = []
        with self._lock:
            dropped = [job for job in self._waiting if job.id == job_id]
            self._waiting = deque(job for job in self._waiting if job.id != job_id)
            if self._running is not None and self._running[0].id == job_id and self._connection is not None:
                self._cancelled.add(job_id)
                wire.send(self._connection, wire.Cancel(job_id))
                process = self._process
                timer = threading.Timer(self._grace, self._kill, (job_id, process))
                timer.daemon = True
                timer.start()
        for job in dropped:
            self._emit(JobFailed(job=job, error="cancelled", seconds=0.0, retryable=False, cancelled=True))

    def leave(self) -> None:
        """Ask the worker to end; take no more jobs."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            if self._connection is not None:
                wire.send(self._connection, wire.Leave())

    def close(self) -> None:
        """Wait for the worker's end, for a few seconds; then kill it."""
        self.leave()
        with self._lock:
            process, reader = self._process, self._reader
        if process is not None:
            try:
                process.wait(self._grace)
            except subprocess.TimeoutExpired:
                process.kill()
        if reader is not None and reader is not threading.current_thread():
            reader.join()

    # --- the rest runs under the lock, or in the reader's thread

    def _next(self) -> None:
        if self._closed or self._running is not None or not self._waiting:
            return
        self._start()
        job = self._waiting.popleft()
        self._running = (job, time.monotonic())
        assert self._connection is not None
        wire.send(self._connection, wire.Run(job))  # when it is gone, the reader finds out and fails the job

    def _start(self) -> None:
        if self._process is not None:
            return
        ours, theirs = multiprocessing.Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "daemon.executors.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_environment(self._spec.threads),
                process_group=0,  # a terminal's Ctrl-C is for the main process alone
            )
        self._connection = ours
        self._last_words.clear()
        wire.send(ours, wire.Build(self._spec, self._name, self._niceness))
        wire.send(ours, wire.Pause(self._paused))
        assert self._process.stderr is not None
        words = threading.Thread(
            target=self._relay, args=(self._process.stderr,), name=f"{self._name}-log", daemon=True
        )
        words.start()
        self._reader = threading.Thread(
            target=self._read, args=(ours, self._process, words), name=f"{self._name}-reader", daemon=True
        )
        self._reader.start()

    def _read(self, connection: Connection, process: subprocess.Popen[bytes], words: threading.Thread) -> None:
        """Turn the worker's reports into events, until it ends."""
        while True:
            try:
                report = wire.load(connection.recv_bytes())
            except (EOFError, OSError):
                break
            except wire.NotPlain as error:
                log.error("the %s worker sent something that is not plain; it is stopped: %s", self._name, error)
                process.kill()
                continue
            match report:
                case wire.Ready(seconds=seconds):
                    log.info("%s worker ready in %.1f s", self._name, seconds)
                case Progress():
                    self._emit(report)
                case JobFinished() | JobFailed():
                    self._over(report)
        status = process.wait()
        words.join(timeout=1.0)  # a grandchild may hold its stderr open
        self._died(status, connection)

    def _over(self, report: JobFinished | JobFailed) -> None:
        with self._lock:
            self._running = None
            self._cancelled.discard(report.job.id)
            closed = self._closed
        if not closed:
            self._emit(report)
        with self._lock:
            self._next()

    def _died(self, status: int, connection: Connection) -> None:
        event: Event | None = None
        with self._lock:
            connection.close()
            self._process = self._connection = None
            if self._running is not None:
                job, since = self._running
                self._running = None
                cancelled = job.id in self._cancelled
                self._cancelled.discard(job.id)
                error = "cancelled, by force" if cancelled else self._obituary(status)
                event = JobFailed(
                    job=job,
                    error=error,
                    seconds=time.monotonic() - since,
                    retryable=not cancelled,
                    cancelled=cancelled,
                )
            closed = self._closed
        if event is not None and not closed:
            log.warning("%s worker: %s", self._name, event.error)  # type: ignore[union-attr]
            self._emit(event)
        with self._lock:
            self._next()

    def _obituary(self, status: int) -> str:
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        if -status == signal.SIGKILL:
            how += " (out of memory? see the kernel's log)"
        words = (
            "; its last words: " + " | ".join(self._last_words)
            if self._last_words and status != -signal.SIGKILL
            else ""
        )
        return f"the {self._name} worker {how}{words}"

    def _kill(self, job_id: str, process: subprocess.Popen[bytes] | None) -> None:
        with self._lock:
            if process is None or process is not self._process:
                return
            if self._running is not None and self._running[0].id == job_id:
                log.warning("%s job %s did not end when asked; its worker is killed", self._name, job_id)
                process.kill()

    def _relay(self, stream: IO[bytes]) -> None:
        """The worker's stderr, line by line, into this process's log."""
        with stream:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip()
                if not line:
                    continue
                self._last_words.append(line)
                level, _, rest = line.partition(" ")
                number = logging.getLevelNamesMapping().get(level)
                log.log(number or logging.INFO, "%s: %s", self._name, rest if number else line)


def _environment(threads: int) -> dict[str, str]:
    """The worker's environment: the same code as here, no model hub, thread counts before a library reads them."""
    return same_code() | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }

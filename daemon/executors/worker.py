"""The worker process: one warm model, one job at a time, and a thread that listens for orders meanwhile.

Started as `python -m daemon.executors.worker FD` with one end of a socket pair. When that closes, the main process is
gone and the worker ends at once, whatever it does: there are no orphans.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import queue
import signal
import sys
import threading
import time
import warnings
from multiprocessing.connection import Connection

from daemon.errors import DreamloopError
from daemon.events import JobFailed, Progress
from daemon.executors import wire
from daemon.executors.context import Control
from daemon.executors.running import explain, run
from daemon.models import loading
from daemon.models.base import Generator, Model, Moves

log = logging.getLogger("dreamloop.worker")
LEAVING_SECONDS = 2.0  # to reach a checkpoint, or to finish a save, before the process ends regardless


class Worker:
    """The worker's main thread runs jobs; `listen` runs in another."""

    def __init__(self, connection: Connection, build: wire.Build) -> None:
        self._connection = connection
        self._spec = build.spec
        self._sending = threading.Lock()
        self._jobs: queue.SimpleQueue[wire.Run | None] = queue.SimpleQueue()
        self._control = Control()
        self._model: Model | None = None
        self._served: Generator | None = None

    def work(self) -> None:
        """Load the model, then run jobs until told to leave."""
        threading.Thread(target=self._listen, name="orders", daemon=True).start()
        began = time.monotonic()
        try:
            self._load()
            self._send(wire.dump(wire.Ready(time.monotonic() - began)))
        except Exception as error:  # every job will say so; a later one may find the model in its place
            log.error("the model cannot be loaded: %s", explain(error))
        while (order := self._jobs.get()) is not None:
            event = run(order.job, self._spec, self._load, self._control, self._report, self._serve)
            try:
                content = wire.checked(event)
            except DreamloopError as error:
                text = f"{order.job.kind}: its result is not plain: {error}"
                content = wire.dump(JobFailed(job=order.job, error=text, seconds=event.seconds, retryable=False))
            self._send(content)

    def _load(self) -> Model:
        if self._model is None:
            self._model = loading.load(self._spec.backend, threads=self._spec.threads, **self._spec.options)
            if self._spec.served is not None and self._spec.served.sleeps and isinstance(self._model, Moves):
                self._model.leave()  # outside of training the GPU is the servers'
        return self._model

    def _serve(self) -> Generator:
        if self._spec.served is None:
            return self._load()
        if self._served is None:
            self._served = loading.load(self._spec.served.backend, **self._spec.served.options)
        return self._served

    def _report(self, progress: Progress) -> None:
        self._send(wire.dump(progress))

    def _send(self, content: bytes) -> None:
        with self._sending:
            try:
                self._connection.send_bytes(content)
            except OSError:
                os._exit(0)  # the main process is gone

    def _listen(self) -> None:
        while True:
            try:
                order = wire.load(self._connection.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)  # the main process is gone: nobody wants what this one is doing
            except Exception:
                log.exception("an order cannot be read")
                os._exit(1)  # deaf, it would neither work nor end
            match order:
                case wire.Run():
                    self._jobs.put(order)
                case wire.Cancel(job=job):
                    self._control.cancel(job)
                case wire.Pause(paused=paused):
                    self._control.pause(paused)
                case wire.Leave():
                    self._control.end()
                    self._jobs.put(None)
                    time.sleep(LEAVING_SECONDS)
                    os._exit(0)


def main(descriptor: int) -> None:
    """Set the process up and work."""
    # Ctrl-C and systemd's SIGTERM reach the whole group; a worker's end is the main process's to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    faulthandler.enable()
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    for chatty in ("httpx", "httpx2", "openai"):  # a line for every request
        logging.getLogger(chatty).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"(transformers|peft|torch)\b")
    os.set_inheritable(descriptor, False)
    connection = Connection(descriptor)
    build = wire.load(connection.recv_bytes())
    if build.niceness:
        os.nice(build.niceness)
    Worker(connection, build).work()
    logging.shutdown()
    os._exit(0)  # without waiting for threads of libraries


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""One daemon per state folder: a lock that the operating system drops when its holder dies, however it dies.

A daemon on PostgreSQL locks its state folder like any other; two hosts sharing one database need an advisory lock of
the database instead. Whatever does that has the same face: `acquire`, `release`, and `with`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import sys
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

from daemon.errors import AlreadyRunning, StoreError

PATIENCE = 0.5  # seconds to wait for a holder that has the lock but has not yet written who it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lock."""

    pid: int
    command: str


class StateLock:
    """The lock on a state folder.

    with StateLock(state):
        ...  # this process is the only daemon on `state`
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self.file = state / "lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, or raise AlreadyRunning naming the holder. StoreError when the folder cannot be written."""
        if self._descriptor is not None:
            return
        try:
            self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{self.file}: cannot be written: {error.strerror}; use another --state") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise AlreadyRunning(self._explain()) from None
        except OSError as error:
            os.close(descriptor)
            raise StoreError(
                f"{self.file}: cannot be locked: {error.strerror}; use a --state on a local disk"
            ) from None
        self._descriptor = descriptor
        card = json.dumps({"pid": os.getpid(), "command": shlex.join([sys.executable, *sys.argv])})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, card.encode(errors="replace"), 0)
        # a flock belongs to the open file, which a forked child shares: it must not outlive the daemon in a worker
        this = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _drop(this()))

    def release(self) -> None:
        """Give the lock back. The file stays: removing it would race with the next one to open it."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = None

    def holder(self) -> Holder | None:
        """Who wrote the lock file last, without asking whether it still holds the lock; None when nobody did."""
        try:
            card = json.loads(self.file.read_bytes())
            return Holder(pid=int(card["pid"]), command=str(card["command"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def __enter__(self) -> StateLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _explain(self) -> str:
        deadline = time.monotonic() + PATIENCE
        while (holder := self.holder()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if holder is None:
            return f"dreamloop is already running on {self.state}; stop it or use another --state"
        return (
            f"dreamloop is already running on {self.state} as pid {holder.pid} ({holder.command}); "
            f"stop it (kill {holder.pid}) or use another --state"
        )


def _drop(lock: StateLock | None) -> None:
    if lock is not None and lock._descriptor is not None:
        os.close(lock._descriptor)
        lock._descriptor = None

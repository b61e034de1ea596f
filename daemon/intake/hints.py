"""File system events, collected until the watcher has time for them: hints where to look, never facts."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)

# Not "opened" and "closed without writing": those are caused by our own reading.
EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileClosedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]


def _text(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, bytes) else str(name)


class Noted:
    """What a burst of events asks for: a look at some paths, or at everything."""

    def __init__(self) -> None:
        self.paths: dict[Path, None] = {}
        self.all = False
        self.folders = False  # one appeared: files made in it before it was watched gave no event


class Hints(FileSystemEventHandler):
    """Collects events, from the observer's thread, until the watcher's thread takes them."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._noted = Noted()
        self._quit = threading.Event()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._quit.is_set()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note where to look."""
        with self._condition:
            if event.is_directory:
                appeared = event.event_type in ("created", "moved")
                self._noted.folders = self._noted.folders or appeared
                self._noted.all = self._noted.all or appeared
            else:
                for name in filter(None, (event.src_path, event.dest_path)):
                    self._noted.paths[Path(_text(name))] = None
            self._condition.notify()

    def everything(self) -> None:
        """Ask for a look at every file."""
        with self._condition:
            self._noted.all = True
            self._condition.notify()

    def stop(self) -> None:
        """Let `wait` return None from now on."""
        with self._condition:
            self._quit.set()
            self._condition.notify()

    def rest(self, seconds: float) -> bool:
        """Wait this long or until stopped; whether it was stopped."""
        return self._quit.wait(seconds)

    def wait(self, seconds: float, settle: float) -> Noted | None:
        """What was noted, after the burst settled; everything when `seconds` pass in silence; None to stop."""
        with self._condition:
            quiet = not self._condition.wait_for(
                lambda: self._noted.all or bool(self._noted.paths) or self._quit.is_set(), timeout=seconds
            )
        if quiet:
            self.everything()
        elif self._quit.wait(settle):
            return None
        if self._quit.is_set():
            return None
        with self._condition:
            noted, self._noted = self._noted, Noted()
        return noted

"""Watches folders of conversation logs and hands on what is new in them.

File system events are hints only: writers that keep a descriptor report under the old name, copytruncate looks like a
modification, an overflowing inotify queue drops events silently. So every event, and the passing of `rescan_seconds`,
leads to the same thing: look at the files, and read those whose size or time changed from where they were left. A file
is known by its identity (device, inode, beginning), not by its name, so a renamed log goes on where it stopped.
"""

from __future__ import annotations

import fnmatch
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from stat import S_ISREG

from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from daemon.events import FileRead
from daemon.intake.errors import IntakeProblem, UnknownFormat
from daemon.intake.hints import EVENTS, Hints, Noted
from daemon.intake.reader import Limits, read_new

# app.jsonl.1, app.jsonl-20260102, app.jsonl.2026-01-02, app.jsonl.old: rotated, its last lines may still be unread
ROTATED = re.compile(r"(\.\d{1,3}|[-.]\d{4}-?\d{2}-?\d{2}(-?\d+)?|\.old|\.bak)$")
ITSELF = Path("log-watcher")  # stands for the watcher in the list of problems
UNWATCHED = "*"  # stands for a folder's file system events in the list of problems
AHEAD_CHARACTERS = 8_000_000  # emitted at most before the store must have it: bounds an inbox
CATCH_UP_SECONDS = 0.1
AGAIN_SECONDS = 1.0  # after a folder appeared: by then it is watched, and what was missed is found
SETTLE_SECONDS = 0.05  # events come in bursts: one look answers all of a burst
Seen = tuple[int, int, int, int]  # device, inode, size, modification time in ns


class LogWatcher:
    """Reads new log lines in `folders` (and below) from files whose name matches one of `patterns`.

    `emit` gets every FileRead from the watcher's thread, in order per file; `offsets` gives the stored offset of an
    identity (0 if unknown), also from that thread; from the first answer on the watcher remembers what it emitted.
    `report` is told every problem once, when it appears. Folders inside `create_below` are made when missing.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        patterns: Sequence[str],
        emit: Callable[[FileRead], None],
        offsets: Callable[[str], int],
        *,
        format: str = "auto",
        rescan_seconds: float = 30.0,
        max_line_bytes: int = 100_000_000,
        create_below: Path | None = None,
        report: Callable[[str], None] = lambda problem: None,
    ) -> None:
        self._folders = tuple(dict.fromkeys(Path(folder) for folder in folders))
        self._patterns = tuple(patterns)
        self._emit = emit
        self._offsets = offsets
        self._format = format
        self._rescan_seconds = rescan_seconds
        self._limits = Limits(line_bytes=max_line_bytes)
        self._create_below = create_below
        self._report = report
        self._lock = threading.RLock()  # guards everything below; held while emitting, so that order is kept
        self._emitted: dict[str, int] = {}
        self._unconfirmed: dict[str, Path] = {}  # emitted since the last scan; the store may not have it yet
        self._seen: dict[Path, Seen] = {}
        self._problems: dict[Path, str] = {}
        self._watches: dict[Path, tuple[int, ObservedWatch]] = {}
        self._observer: BaseObserver | None = None
        self._hints = Hints()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch: everything unread is emitted soon after. Starting twice is harmless."""
        if self._thread is not None:
            return
        # watchdog 7.1 may add a new folder's watch twice, once for its event and once for its parent's listing
        warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)
        self._hints = Hints()
        self._thread = threading.Thread(target=self._run, name="log-watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End watching; what is being emitted is finished first. Stopping twice is harmless."""
        self._hints.stop()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def scan(self) -> Iterator[FileRead]:
        """Read everything the store does not have yet and yield it *instead of* emitting it: the caller handles it.

        Safe beside the watcher's own thread. What the thread emitted since the last scan may still wait in an inbox,
        so those files are read from their stored offsets once more: the caller gets every file's lines in order, and
        what then comes out of the inbox brings nothing new. The thread waits while this is iterated over.
        """
        with self._lock:
            for identity, path in self._unconfirmed.items():
                self._emitted.pop(identity, None)
                self._seen.pop(path, None)
            self._unconfirmed.clear()
            for read in self._read(self._all_files()):
                yield read  # when the caller fails, the file is read from here again
                self._emitted[read.identity] = read.offset

    def forget(self, identity: str) -> None:
        """The store could not keep a FileRead of this file: read it again from its stored offset."""
        with self._lock:
            self._emitted.pop(identity, None)
            self._seen.clear()
        self._hints.everything()

    def problems(self) -> list[str]:
        """What cannot be read at present, each naming the file or folder and the remedy."""
        with self._lock:
            return [self._problems[path] for path in sorted(self._problems)]

    # --- the thread

    def _run(self) -> None:
        try:
            self._hints.everything()
            again = False
            while (noted := self._hints.wait(self._pause(again), SETTLE_SECONDS)) is not None:
                again = noted.folders or (again and not noted.all)
                behind = False
                with self._lock:
                    try:
                        behind = self._answer(noted)
                        self._problems.pop(ITSELF, None)
                    except Exception as error:  # whatever emit or offsets raise must not end the watch
                        self._trouble(ITSELF, f"the log watcher: {error}; it tries again at the next rescan")
                if behind:
                    self._let_the_store_catch_up()
                    self._hints.everything()
        finally:
            with self._lock:
                observer, self._observer = self._observer, None
                self._watches.clear()
            if observer is not None:
                observer.stop()
                observer.join()

    def _pause(self, again: bool) -> float:
        """How long to wait for events before looking at everything anyway."""
        return min(AGAIN_SECONDS, self._rescan_seconds) if again else self._rescan_seconds

    def _answer(self, noted: Noted) -> bool:
        """Look where the events point, and emit what is new; whether there is more than the store can take at once."""
        emitted = 0
        if noted.all:
            self._watch_folders()
        paths = self._all_files() if noted.all else [path for path in noted.paths if self._matches(path)]
        for read in self._read(paths):
            self._emit(read)
            self._emitted[read.identity] = read.offset
            self._unconfirmed[read.identity] = Path(read.path)
            emitted += sum(len(message.text) for message in read.messages)
            if self._hints.stopped or emitted > AHEAD_CHARACTERS:
                return True
        return False

    def _let_the_store_catch_up(self) -> None:
        """Wait, without the lock, until what was emitted is stored; not for ever, since reading twice is harmless."""
        for _ in range(max(1, round(self._rescan_seconds / CATCH_UP_SECONDS))):
            with self._lock:
                waiting = list(self._unconfirmed)
                if all(self._offsets(identity) >= self._emitted.get(identity, 0) for identity in waiting):
                    return
            if self._hints.rest(CATCH_UP_SECONDS):
                return

    def _watch_folders(self) -> None:
        """Let the system tell about every folder that is there; without that, rescanning alone finds everything."""
        for folder in filter(self._there, self._folders):
            try:
                inode = folder.stat().st_ino
                known = self._watches.get(folder)
                if known is not None and known[0] == inode:
                    continue
                if self._observer is None:
                    self._observer = Observer()
                    self._observer.start()
                if known is not None:  # removed and made again: the old watch looks at nothing
                    self._observer.unschedule(known[1])
                watch = self._observer.schedule(self._hints, str(folder), recursive=True, event_filter=EVENTS)
                self._watches[folder] = (inode, watch)
                self._hints.everything()  # what appeared between the last look and the watch
            except FileNotFoundError:
                continue  # removed just now
            except OSError as error:
                self._trouble(
                    Path(folder, UNWATCHED),
                    f"{folder}: cannot be watched: {error.strerror or error}; it is rescanned every "
                    f"{self._rescan_seconds:g} s instead (on Linux raise fs.inotify.max_user_watches)",
                )

    # --- looking at files; all of this runs under the lock

    def _all_files(self) -> list[Path]:
        """Every matching file, older ones first, so that a rotated log is read before its successor."""
        found: dict[Path, int] = {}
        for folder in self._folders:
            if self._there(folder):
                for path in _walk(folder, self._matches, lambda at, why: self._trouble(at, why)):
                    try:
                        found[path] = path.stat().st_mtime_ns
                    except OSError:
                        found[path] = 0  # reading it says what is wrong
        self._seen = {path: seen for path, seen in self._seen.items() if path in found}
        self._problems = {path: why for path, why in self._problems.items() if path in found or self._lasts(path)}
        return sorted(found, key=lambda path: (found[path], path))

    def _lasts(self, path: Path) -> bool:
        """Whether a problem of something that is not a found file goes on: folders mend themselves in `_there`."""
        return (
            path in self._folders
            or path == ITSELF
            or path.name == UNWATCHED
            or (path.is_dir() and not os.access(path, os.R_OK | os.X_OK))
        )

    def _there(self, folder: Path) -> bool:
        """Whether the folder exists, made if it may be; otherwise reported."""
        try:
            if self._create_below is not None and folder.is_relative_to(self._create_below):
                folder.mkdir(parents=True, exist_ok=True)
            if folder.is_dir():
                self._problems.pop(folder, None)
                return True
            self._trouble(folder, f"{folder}: there is no such folder; make it, or mend `intake.watch`")
        except OSError as error:
            self._trouble(folder, f"{folder}: {error.strerror or error}; make it readable, or mend `intake.watch`")
        return False

    def _matches(self, path: Path) -> bool:
        plain = ROTATED.sub("", path.name)
        return any(fnmatch.fnmatch(name, pattern) for name in (path.name, plain) for pattern in self._patterns)

    def _read(self, paths: Iterable[Path]) -> Iterator[FileRead]:
        """The unread pieces of the files that changed since they were last looked at."""
        for path in paths:
            try:
                stat = path.stat()
                now: Seen = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
                # a pipe or a socket would block
                if self._seen.get(path) == now or not S_ISREG(stat.st_mode):
                    continue
                try:
                    while (read := self._next(path)) is not None:
                        yield read
                except UnknownFormat as problem:
                    self._trouble(path, str(problem))  # and not looked at again before it changes
                else:
                    self._problems.pop(path, None)
                self._seen[path] = now
            except IntakeProblem as problem:
                if not isinstance(problem.__cause__, FileNotFoundError):
                    self._trouble(path, str(problem))
            except FileNotFoundError:
                pass  # gone since it was listed
            except OSError as error:
                self._trouble(path, f"{path}: cannot be read: {error.strerror or error}; it is tried again")

    def _next(self, path: Path) -> FileRead | None:
        return read_new(path, self._offset, format=self._format, limits=self._limits)

    def _offset(self, identity: str) -> int:
        return self._emitted[identity] if identity in self._emitted else self._offsets(identity)

    def _trouble(self, path: Path, why: str) -> None:
        if self._problems.get(path) != why:
            self._problems[path] = why
            self._report(why)


def _walk(folder: Path, wanted: Callable[[Path], bool], trouble: Callable[[Path, str], None]) -> Iterator[Path]:
    """The wanted files in and below `folder`; a folder that cannot be listed is reported and passed over."""

    def unlisted(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError) and error.filename is not None:
            trouble(Path(error.filename), f"{error.filename}: cannot be listed: {error.strerror}; make it readable")

    for base, _, names in os.walk(folder, onerror=unlisted):
        for name in names:
            if wanted(path := Path(base, name)):
                yield path

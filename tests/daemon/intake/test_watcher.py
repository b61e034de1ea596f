"""The watcher on real folders: whatever happens to the files, every message comes exactly once and in order."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.events import FileRead
from daemon.intake.watcher import LogWatcher

# watchdog's race over new folders, which the watcher ignores too; pytest installs its own filters for each test
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")
PATIENCE = 20.0  # seconds until a condition that should come true at once counts as failed


class Desk:
    """Stands for the loop and the store: keeps what was emitted, and the offsets as they are committed."""

    def __init__(self, *folders: Path, **options: Any) -> None:
        self.reads: list[FileRead] = []
        self.stored: dict[str, int] = {}
        self._changed = threading.Condition()
        options.setdefault("rescan_seconds", 600.0)  # so that only events can be the reason for a reading
        self.watcher = LogWatcher(
            folders, ["*.jsonl"], self.take, lambda identity: self.stored.get(identity, 0), **options
        )

    def take(self, read: FileRead) -> None:
        with self._changed:
            self.reads.append(read)
            self.stored[read.identity] = read.offset
            self._changed.notify_all()

    def scan(self) -> None:
        for read in self.watcher.scan():
            self.take(read)

    def texts(self) -> list[str]:
        return [message.text for read in self.reads for message in read.messages]

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, timeout=PATIENCE), (self.texts(), self.watcher.problems())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk on tmp_path, its watcher not started; stopped in the end."""
    made = Desk(tmp_path)
    yield made
    made.watcher.stop()


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_lines_are_emitted_as_they_are_written(desk: Desk, log: Any, tmp_path: Path) -> None:
    """What was there before, a new file, growth, and a file in a new folder below: all by events, in order."""
    append(tmp_path / "old.jsonl", log.jsonl(log.chat("user", "old")))
    desk.watcher.start()
    desk.wait(lambda: desk.texts() == ["old"])
    append(tmp_path / "new.jsonl", log.jsonl(log.chat("user", "new")))
    desk.wait(lambda: desk.texts() == ["old", "new"])
    append(tmp_path / "new.jsonl", log.jsonl(log.chat("user", "more")))
    desk.wait(lambda: desk.texts() == ["old", "new", "more"])
    (tmp_path / "a" / "b").mkdir(parents=True)
    append(tmp_path / "a" / "b" / "deep.jsonl", log.jsonl(log.chat("user", "deep")))
    desk.wait(lambda: desk.texts() == ["old", "new", "more", "deep"])


def test_a_file_moved_in_is_read(
    desk: Desk, log: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A finished log that is moved into the folder from outside is read whole."""
    outside = tmp_path_factory.mktemp("outside") / "x.jsonl"
    append(outside, log.jsonl(log.chat("user", "moved")))
    desk.watcher.start()
    outside.rename(tmp_path / "x.jsonl")
    desk.wait(lambda: desk.texts() == ["moved"])


def test_rotation_by_renaming_loses_and_repeats_nothing(desk: Desk, log: Any, tmp_path: Path) -> None:
    """Lines written to the renamed file after the last reading are read, then those of its successor."""
    path = tmp_path / "app.jsonl"
    append(path, log.jsonl(log.chat("user", "1")))
    desk.scan()
    append(path, log.jsonl(log.chat("user", "2")))
    os.utime(path, ns=(1, 1))  # surely older than its successor
    path.rename(tmp_path / "app.jsonl.1")
    append(path, log.jsonl(log.chat("user", "3")))
    desk.scan()
    desk.scan()
    assert desk.texts() == ["1", "2", "3"]


def test_rotation_by_copytruncate_repeats_no_id(desk: Desk, log: Any, tmp_path: Path) -> None:
    """The copy has the same messages under the same ids, and what is written after the truncation is read."""
    path = tmp_path / "app.jsonl"
    append(path, log.jsonl(log.chat("user", "1"), log.chat("user", "2")))
    desk.scan()
    (tmp_path / "app.jsonl.1").write_bytes(path.read_bytes())
    with path.open("r+b") as file:
        file.truncate(0)
    append(
        path, log.jsonl(log.chat("user", "3"), log.chat("user", "four, and longer than before"), log.chat("user", "5"))
    )
    desk.scan()
    by_id = {message.id: message.text for read in desk.reads for message in read.messages}
    assert sorted(by_id.values()) == ["1", "2", "3", "5", "four, and longer than before"]


def test_a_restart_goes_on_from_the_stored_offsets(desk: Desk, log: Any, tmp_path: Path) -> None:
    """A second watcher with the same store reads only what came in between."""
    append(tmp_path / "a.jsonl", log.jsonl(log.chat("user", "1")))
    desk.scan()
    append(tmp_path / "a.jsonl", log.jsonl(log.chat("user", "2")))
    later = Desk(tmp_path)
    later.stored = dict(desk.stored)
    later.scan()
    assert later.texts() == ["2"]


def test_a_scan_gives_again_what_the_store_does_not_have_yet(log: Any, tmp_path: Path) -> None:
    """What the thread emitted may wait in an inbox: a scan reads it from the stored offset, so order is kept."""
    inbox: list[FileRead] = []
    seen = threading.Event()
    watcher = LogWatcher(
        [tmp_path],
        ["*.jsonl"],
        lambda read: (inbox.append(read), seen.set())[1],
        lambda identity: 0,
        rescan_seconds=600,
    )
    append(tmp_path / "a.jsonl", log.jsonl(log.chat("user", "1")))
    watcher.start()
    assert seen.wait(PATIENCE)
    append(tmp_path / "a.jsonl", log.jsonl(log.chat("user", "2")))
    scanned = [message.text for read in watcher.scan() for message in read.messages]
    assert scanned == ["1", "2"]
    assert list(watcher.scan()) == []
    watcher.stop()


def test_a_caller_that_fails_gets_the_same_read_again(log: Any, tmp_path: Path) -> None:
    """When handling a read fails (a full disk), the next scan begins with it again."""
    append(tmp_path / "a.jsonl", log.jsonl(log.chat("user", "1")))
    watcher = LogWatcher([tmp_path], ["*.jsonl"], lambda read: None, lambda identity: 0)
    with pytest.raises(OSError, match="disk full"):
        for _ in watcher.scan():
            raise OSError("disk full")
    assert [message.text for read in watcher.scan() for message in read.messages] == ["1"]


def test_forgetting_reads_again_from_the_store(desk: Desk, log: Any, tmp_path: Path) -> None:
    """A read whose transaction failed is read again when the watcher is told so."""
    append(tmp_path / "a.jsonl", log.jsonl(log.chat("user", "1")))
    desk.scan()
    identity = desk.reads[0].identity
    desk.stored.clear()
    desk.scan()
    assert len(desk.reads) == 1
    desk.watcher.forget(identity)
    desk.scan()
    assert desk.texts() == ["1", "1"]


def test_an_emit_that_fails_does_not_end_the_watch(log: Any, tmp_path: Path) -> None:
    """The failure is reported, and the same read comes again."""
    got: list[FileRead] = []
    problems: list[str] = []
    done = threading.Event()

    def emit(read: FileRead) -> None:
        if not problems:
            raise RuntimeError("the inbox is closed")
        got.append(read)
        done.set()

    append(tmp_path / "a.jsonl", log.jsonl(log.chat("user", "1")))
    watcher = LogWatcher([tmp_path], ["*.jsonl"], emit, lambda i: 0, rescan_seconds=0.05, report=problems.append)
    watcher.start()
    assert done.wait(PATIENCE)
    watcher.stop()
    assert "the inbox is closed" in problems[0]
    assert [message.text for message in got[0].messages] == ["1"]


def test_other_files_are_left_alone(desk: Desk, log: Any, tmp_path: Path) -> None:
    """Names outside the patterns are not read; pipes are not opened, which would block."""
    append(tmp_path / "notes.txt", log.jsonl(log.chat("user", "no")))
    os.mkfifo(tmp_path / "pipe.jsonl")
    desk.scan()
    assert desk.reads == [] and desk.watcher.problems() == []


def test_problems_are_reported_once_and_go_when_mended(log: Any, tmp_path: Path) -> None:
    """A file of no known format and a missing folder are named once each; both mend."""
    reported: list[str] = []
    missing = tmp_path / "missing"
    desk = Desk(tmp_path, missing, report=reported.append)
    (tmp_path / "odd.jsonl").write_bytes(b'{"a": 1}\n')
    desk.scan()
    desk.scan()
    assert len(reported) == len(desk.watcher.problems()) == 2
    assert any("odd.jsonl" in line and "intake.format" in line for line in reported)
    assert any("missing: there is no such folder" in line for line in reported)
    missing.mkdir()
    append(tmp_path / "odd.jsonl", log.jsonl(log.chat("user", "now readable")))
    desk.scan()
    assert desk.watcher.problems() == []
    assert desk.texts() == ["now readable"]


def test_an_unreadable_file_is_named_and_read_when_it_may_be(desk: Desk, log: Any, tmp_path: Path) -> None:
    """A file that cannot be opened is listed with the reason, its neighbours are read, and it can be mended."""
    path = tmp_path / "a.jsonl"
    path.symlink_to(path)  # unreadable also for root, who may read everything else
    append(tmp_path / "b.jsonl", log.jsonl(log.chat("user", "neighbour")))
    desk.scan()
    assert desk.texts() == ["neighbour"]
    assert [line.partition(": ")[0] for line in desk.watcher.problems()] == [str(path)]
    path.unlink()
    append(path, log.jsonl(log.chat("user", "mended")))
    desk.scan()
    assert desk.texts() == ["neighbour", "mended"] and desk.watcher.problems() == []


def test_folders_of_the_state_are_made(log: Any, tmp_path: Path) -> None:
    """The state's own log folder is made when missing, and watched from the start."""
    folder = tmp_path / "state" / "logs"
    desk = Desk(folder, create_below=tmp_path / "state")
    desk.scan()
    assert folder.is_dir() and desk.watcher.problems() == []
    folder.rmdir()
    desk.watcher.start()
    append_when_there(folder, log.jsonl(log.chat("user", "1")))
    desk.wait(lambda: desk.texts() == ["1"])
    desk.watcher.stop()


def append_when_there(folder: Path, data: bytes) -> None:
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if folder.is_dir():
            break
        pause.wait(0.01)
    append(folder / "a.jsonl", data)


def test_starting_and_stopping_twice_is_harmless(desk: Desk, log: Any, tmp_path: Path) -> None:
    """A watcher can be started again after it was stopped, and goes on where it was."""
    desk.watcher.start()
    desk.watcher.start()
    append(tmp_path / "a.jsonl", log.jsonl(log.chat("user", "1")))
    desk.wait(lambda: desk.texts() == ["1"])
    desk.watcher.stop()
    desk.watcher.stop()
    append(tmp_path / "a.jsonl", log.jsonl(log.chat("user", "2")))
    desk.watcher.start()
    desk.wait(lambda: desk.texts() == ["1", "2"])

"""One daemon per state folder, however the last one ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.errors import AlreadyRunning, StoreError
from daemon.lock import StateLock

HOLDER = """
import sys, time
from pathlib import Path
from daemon.lock import StateLock
lock = StateLock(Path(sys.argv[1]))
lock.acquire()
print("locked", flush=True)
time.sleep(600)
"""


def hold(state: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until it is ended."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(state)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "locked\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_second_daemon_is_told_who_runs(tmp_path: Path) -> None:
    """The refusal names the state folder, the holder's pid and command, and the remedy."""
    process = hold(tmp_path)
    try:
        with pytest.raises(AlreadyRunning) as caught:
            StateLock(tmp_path).acquire()
    finally:
        end(process)
    words = str(caught.value)
    assert f"already running on {tmp_path} as pid {process.pid}" in words
    assert "-c" in words
    assert "use another --state" in words


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    """After kill -9 the lock is free, although the file still names the dead holder; the next one takes its name."""
    end(hold(tmp_path))
    lock = StateLock(tmp_path)
    assert lock.holder()
    with lock:
        holder = lock.holder()
        assert holder and holder.pid == os.getpid()


def test_the_same_process_cannot_take_it_twice(tmp_path: Path) -> None:
    """Two daemons in one process are two daemons; the same lock object, asked twice, is one."""
    with StateLock(tmp_path) as lock:
        lock.acquire()
        with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}"):
            StateLock(tmp_path).acquire()
    with StateLock(tmp_path):
        pass


def test_release_forgets_the_holder(tmp_path: Path) -> None:
    """A clean end leaves the file, empty: nobody is named who does not run."""
    lock = StateLock(tmp_path)
    with lock:
        pass
    assert lock.file.exists()
    assert lock.holder() is None
    lock.release()


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A worker forked off the daemon does not hold its lock when the daemon is gone."""
    # the child speaks, so that it has certainly started when its parent is killed
    script = HOLDER.replace('print("locked", flush=True)', 'import os\nif os.fork() == 0: print("locked", flush=True)')
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout and process.stdout.readline() == "locked\n"
    try:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with StateLock(tmp_path):
            pass
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the child lives on in the session
        process.stdout.close()


def test_a_state_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Where the folder cannot be made, the error names the file and the remedy."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file.*--state"):
        StateLock(tmp_path / "file").acquire()

"""Holds a command on a leash: it and everything that it started end when this process is told to, or loses its master.

python leash.py COMMAND ARGUMENT ...

Started by `managed.py` as a script in a process group of its own, with a pipe of the daemon's as stdin: stdlib only.
The pipe ends with the daemon, however that ends. This process is a subreaper: what a server leaves behind when it dies
becomes its child, whatever group or session that is in, so nothing that holds a GPU is overlooked.
"""

import contextlib
import ctypes
import os
import pathlib
import select
import signal
import sys
import time

GRACE = 10.0  # seconds from asking everything to end to killing it
NOT_FOUND = 127  # the status of a command that cannot be started, as in a shell
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main(command: list[str]) -> int:
    """Run the command; its exit status, or 128 + the signal that ended it."""
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for one in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(one, _note)  # what matters is that `poll` returns
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = start(command)
    watched = select.poll()
    watched.register(wake, select.POLLIN)
    watched.register(0, select.POLLIN)
    status = None
    while status is None and not _told:
        for descriptor, _ in watched.poll():
            if not os.read(descriptor, 4096) and descriptor == 0:
                _told.append(0)  # the master is gone
        status = reaped(child, status)
    left = end_all(child, status)
    return left if status is None else status


_told: list[int] = []


def _note(number: int, _: object) -> None:
    if number != signal.SIGCHLD:
        _told.append(number)


def start(command: list[str]) -> int:
    """The child's process id. It is killed when this process is."""
    master = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        for one in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(one, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != master:
            os._exit(NOT_FOUND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: cannot be started: {error.strerror}\n".encode())
    os._exit(NOT_FOUND)


def reaped(child: int, status: int | None) -> int | None:
    """Collect whatever has ended; the child's status as soon as it is known."""
    while True:
        try:
            pid, raw = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == child:
            status = os.waitstatus_to_exitcode(raw)
            status = 128 - status if status < 0 else status


def end_all(child: int, status: int | None) -> int:
    """Ask every descendant to end, then kill what is left; the child's status."""
    deadline = time.monotonic() + GRACE
    asked: set[int] = set()
    while below := descendants():
        for pid in below:
            force = time.monotonic() > deadline
            if force or pid not in asked:
                asked.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if force else signal.SIGTERM)
        time.sleep(0.05)
        status = reaped(child, status)
    return 0 if status is None else status


def descendants() -> set[int]:
    """Every process below this one, as /proc has it; without those that have ended and wait to be collected."""
    parents = {}
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            state, parent = (folder / "stat").read_bytes().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state != b"Z":
            parents[int(folder.name)] = int(parent)
    found: set[int] = set()
    new = {os.getpid()}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Run untrusted functions, one forked and locked-in child each. Started by `code.py` as a script: stdlib only.

A child can compute and answer through its pipe, nothing else: a seccomp allow-list (no files, no network, no processes,
no signals to others), limits on memory and processor time, and a deadline kept by its parent. What it should return is
never in its memory, so it cannot print the right answer without computing it.

Reads {"programs": [{"code", "entry", "arguments": [[...], ...]}], "seconds", "megabytes"} on stdin; writes a JSON list
with, per program, the list of its results, or null.
"""

import bisect  # noqa: F401 - imported here because a child can open no file
import collections  # noqa: F401
import copy  # noqa: F401
import ctypes
import datetime  # noqa: F401
import decimal  # noqa: F401
import fractions  # noqa: F401
import functools  # noqa: F401
import heapq  # noqa: F401
import itertools  # noqa: F401
import json
import math
import operator  # noqa: F401
import os
import platform
import random  # noqa: F401
import re  # noqa: F401
import resource
import select
import signal
import statistics  # noqa: F401
import string  # noqa: F401
import struct
import sys
import time
import typing

# Allowed system calls per architecture: (audit number, {name: number}). From the kernel's own tables.
ALLOWED = {
    "x86_64": (
        0xC000003E,
        {"read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
         "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "ioctl": 16, "mremap": 25, "madvise": 28,
         "nanosleep": 35, "getpid": 39, "exit": 60, "gettimeofday": 96, "getuid": 102, "sigaltstack": 131,
         "gettid": 186, "futex": 202, "clock_gettime": 228, "clock_nanosleep": 230, "exit_group": 231,
         "getrandom": 318, "rseq": 334},
    ),
    "aarch64": (
        0xC00000B7,
        {"read": 63, "write": 64, "close": 57, "fstat": 80, "lseek": 62, "mmap": 222, "mprotect": 226, "munmap": 215,
         "brk": 214, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "ioctl": 29, "mremap": 216,
         "madvise": 233, "nanosleep": 101, "getpid": 172, "exit": 93, "gettimeofday": 169, "getuid": 174,
         "sigaltstack": 132, "gettid": 178, "futex": 98, "clock_gettime": 113, "clock_nanosleep": 115,
         "exit_group": 94, "getrandom": 278, "rseq": 293},
    ),
}  # fmt: skip
UNSUPPORTED = 3  # exit status: this machine cannot lock a child in
_MOST = 1 << 20  # bytes of results that are read
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF: load word, jump if equal, return
_KILL, _DENY, _ALLOW = 0x80000000, 0x00050001, 0x7FFF0000  # kill the process; EPERM; allow


class _Program(ctypes.Structure):
    _fields_: typing.ClassVar = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def lock_in() -> None:
    """Confine this process for good. Raises OSError when the kernel does not allow it."""
    audit, calls = ALLOWED[platform.machine()]
    numbers = sorted(calls.values())
    code = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    for place, number in enumerate(numbers):
        code.append((_JUMP_EQUAL, len(numbers) - place, 0, number))
    code += [(_RETURN, 0, 0, _DENY), (_RETURN, 0, 0, _ALLOW)]
    packed = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    program = _Program(len(code), ctypes.addressof(packed))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "the kernel does not let this process confine itself")


PATIENCE = 5.0  # by the clock, of the seconds that a program may compute: a busy machine makes no answer wrong


def child(program: dict[str, typing.Any], out: int, seconds: float, megabytes: int) -> None:
    """Never returns: runs one program and writes its results to `out`."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.dup2(out, 3)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        os.closerange(4, 256)
        limit = megabytes << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST, _MOST))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        lock_in()
        space: dict[str, typing.Any] = {"__name__": "answer"}
        exec(compile(program["code"], "answer", "exec"), space)
        function = space[program["entry"]]
        results = json.dumps([function(*arguments) for arguments in program["arguments"]]).encode()
        while results:
            results = results[os.write(3, results) :]
    except BaseException:  # whatever an untrusted program does is its own failure
        os._exit(1)
    os._exit(0)


def run(program: dict[str, typing.Any], seconds: float, megabytes: int) -> object:
    """The results of one program, None when it failed, took too long or wrote something else."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        child(program, writing, seconds, megabytes)
    os.close(writing)
    deadline = time.monotonic() + PATIENCE * seconds
    content = b""
    while len(content) < _MOST:
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(reading, 65536) if ready else b""
        if not piece:
            break
        content += piece
    os.close(reading)
    os.kill(pid, signal.SIGKILL)  # not yet reaped, so the id is still its own
    os.waitpid(pid, 0)
    try:
        return json.loads(content) if content and time.monotonic() < deadline else None
    except ValueError:
        return None


def supported() -> bool:
    """Whether a child can be locked in here, by trying."""
    if platform.machine() not in ALLOWED:
        return False
    pid = os.fork()
    if pid == 0:
        try:
            lock_in()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def main() -> int:
    """See the module."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    task = json.load(sys.stdin)
    if not supported():
        return UNSUPPORTED
    results = [run(program, task["seconds"], task["megabytes"]) for program in task["programs"]]
    json.dump(results, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())

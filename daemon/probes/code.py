"""Does the code that a model wrote do what was asked? Runs it against tests in a sandbox: see `sandbox.py`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.errors import DreamloopError
from daemon.probes import sandbox


class NoSandbox(DreamloopError):
    """Untrusted code cannot be confined on this machine, so it is not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Source that defines the function `entry`, and what calls of it should return: ((arguments), expected) pairs."""

    code: str
    entry: str
    tests: tuple[tuple[tuple[Any, ...], Any], ...]


def check(programs: Sequence[Program], *, seconds: float = 2.0, megabytes: int = 256) -> list[bool]:
    """Which programs pass all of their tests. `seconds` (of computing) and `megabytes` bound each program.

    Arguments and results are JSON values; a bool is no int. One subprocess serves all programs; a hostile one fails
    alone. Raises NoSandbox where the kernel does not offer seccomp.
    """
    if not programs:
        return []
    task = {
        "programs": [
            {"code": p.code, "entry": p.entry, "arguments": [arguments for arguments, _ in p.tests]} for p in programs
        ],
        "seconds": seconds,
        "megabytes": megabytes,
    }
    with tempfile.TemporaryDirectory(prefix="dreamloop-code-") as nowhere:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(Path(sandbox.__file__).resolve())],
                input=json.dumps(task),
                capture_output=True,
                text=True,
                cwd=nowhere,
                env={},
                timeout=30 + (sandbox.PATIENCE * seconds + 1) * len(programs),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DreamloopError(f"the sandbox did not end in time over {len(programs)} programs") from error
    if done.returncode == sandbox.UNSUPPORTED:
        raise NoSandbox("code answers cannot be run safely here: it takes Linux with seccomp on x86_64 or aarch64")
    if done.returncode != 0:
        raise DreamloopError(f"the sandbox ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
    found = json.loads(done.stdout)
    return [
        bool(program.tests)
        and isinstance(results, list)
        and len(results) == len(program.tests)
        and all(same(result, expected) for result, (_, expected) in zip(results, program.tests, strict=True))
        for program, results in zip(programs, found, strict=True)
    ]


def same(result: object, expected: object) -> bool:
    """Equal as JSON values; a tuple is a list, True is not 1.

    >>> same([1, 2], (1, 2)), same(1, True), same(2.0, 2)
    (True, False, True)
    """
    if isinstance(expected, list | tuple):
        return (
            isinstance(result, list | tuple)
            and len(result) == len(expected)
            and all(same(a, b) for a, b in zip(result, expected, strict=True))
        )
    return isinstance(result, bool) == isinstance(expected, bool) and result == expected


def source(answer: str) -> str:
    """The code in an answer: what stands in its first fence, or all of it.

    >>> source("Sure:\\n```python\\ndef f(): return 1\\n```\\nDone.")
    'def f(): return 1'
    """
    if "```" not in answer:
        return answer.strip()
    fenced = answer.split("```", 2)[1]
    first, newline, rest = fenced.partition("\n")
    return (rest if newline and first.strip().isalnum() else fenced).strip()

"""Untrusted code: right answers pass, wrong and hostile ones fail, and nobody else is harmed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.probes import code
from daemon.probes.code import Program

TESTS = (((7, 3), 10), ((2, 5), 7))
GOOD = "def f(a, b): return a + b"


def program(source: str, tests: tuple[tuple[tuple[int, ...], object], ...] = TESTS) -> Program:
    return Program(code=source, entry="f", tests=tests)


def test_right_and_wrong_programs() -> None:
    """A program passes when every test does; syntax errors, missing functions and wrong results fail."""
    sources = [
        GOOD,
        "import math\ndef f(a, b):\n    return int(math.fsum([a, b]))",
        "def f(a, b): return a - b",
        "def f(a, b): return",
        "def g(a, b): return a + b",
        "def f(a, b) return a + b",
        "",
        "def f(a, b): return 10",
        "def f(a, b): return str(a + b)",
    ]
    assert code.check([program(s) for s in sources]) == [True, True, *[False] * 7]


def test_a_bool_is_not_an_int() -> None:
    """Returning 1 where True is expected fails, a tuple where a list is expected passes."""
    assert code.check([program("def f(a): return a == 1", (((1,), True),))]) == [True]
    assert code.check([program("def f(a): return 1", (((1,), True),))]) == [False]
    assert code.check([program("def f(a): return (a, a)", (((1,), [1, 1]),))]) == [True]


@pytest.mark.parametrize(
    "hostile",
    [
        "def f(a, b):\n    while True: pass",
        "while True: pass",
        "def f(a, b): return 'x' * 10**10",
        "x = []\nwhile True: x.append('y' * 10**6)",
        "import sys\nsys.exit(0)",
        "import os\nos._exit(0)",
        "raise SystemExit",
        "print('[[10, 7]]')\nraise ValueError",
        "import os\nos.write(3, b'[11, 12]')\nos._exit(0)",
        "import os\nos.kill(os.getppid(), 9)",
        "import os\nos.kill(-1, 9)",
        "import os\nwhile True: os.fork()",
        "import signal\nsignal.alarm(0)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass",
        "import socket\nsocket.create_connection(('127.0.0.1', 9))\n" + GOOD,
        "import ctypes\nctypes.string_at(0)\n" + GOOD,
        "def f(a, b): return f(a, b)",
        "def f(a, b): return 'x' * 3_000_000",
        "import os\nos.system('true')\nos.execv('/bin/true', ['true'])",
    ],
)
def test_a_hostile_program_fails_alone(hostile: str) -> None:
    """Endless loops, memory bombs, exits, kills, forks, sockets and faked output fail; their neighbours pass."""
    assert code.check([program(GOOD), program(hostile), program(GOOD)], seconds=0.7) == [True, False, True]


def test_no_file_can_be_read_or_written(tmp_path: Path) -> None:
    """A program cannot open files: neither to look for the tests nor to leave something behind."""
    (tmp_path / "secret").write_text("10")
    reads = f"def f(a, b): return a + b if open({str(tmp_path / 'secret')!r}).read() else 0"
    writes = f"open({str(tmp_path / 'left')!r}, 'w').write('x')\n{GOOD}"
    chdir = "import os\nos.listdir('/')\n" + GOOD
    assert code.check([program(reads), program(writes), program(chdir)]) == [False, False, False]
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_expected_results_are_not_in_the_childs_memory() -> None:
    """A program that searches every object it can reach does not find what it should return."""
    search = (
        "import re, sys\n"
        "def f(a, b):\n"
        "    frame, seen = sys._getframe(), ''\n"
        "    while frame: seen += repr(frame.f_locals) + repr(frame.f_globals); frame = frame.f_back\n"
        "    return int(re.findall(r'99824\\d{4}', seen)[0])\n"
    )
    assert code.check([program(search, (((1, 2), 998244353),))]) == [False]


def test_nothing_to_run_runs_nothing() -> None:
    """No programs, no subprocess; a program without tests cannot pass."""
    assert code.check([]) == []
    assert code.check([Program(code=GOOD, entry="f", tests=())]) == [False]


@given(st.text(max_size=60))
@settings(max_examples=200)
def test_source_takes_any_text(text: str) -> None:
    """Any answer has a source, and a fenced one gives back what stands in the fence."""
    assert isinstance(code.source(text), str)
    if "```" not in text:
        assert code.source(f"here:\n```python\n{text}\n```") == text.strip()

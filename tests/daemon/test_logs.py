"""Logs: one form for everything, and nobody's words in it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from daemon.logs import PRIVATE, configure, hide_texts, relay


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging as it was before the test."""
    root = logging.getLogger()
    handlers, level, show = root.handlers[:], root.level, warnings.showwarning
    yield
    logging.captureWarnings(False)
    root.handlers[:], warnings.showwarning = handlers, show
    root.setLevel(level)
    structlog.reset_defaults()


def json_lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().split("\n") if line]


def test_json_is_one_object_a_line_with_the_fields() -> None:
    """level, logger, time and what was bound."""
    stream = io.StringIO()
    configure(format="json", stream=stream)
    structlog.get_logger("dreamloop.loop").info("cycle began", cycle=3)
    (line,) = json_lines(stream)
    at = str(line.pop("at"))
    assert line == {"event": "cycle began", "cycle": 3, "level": "info", "logger": "dreamloop.loop"}
    assert at.endswith("Z")


def test_the_standard_librarys_loggers_take_the_same_way() -> None:
    """uvicorn's and alembic's lines come out in the same form, %-arguments filled in."""
    stream = io.StringIO()
    configure(format="json", stream=stream)
    logging.getLogger("uvicorn.error").error("socket %s broke", "x")
    logging.getLogger("alembic.runtime").warning("slow", extra={"seconds": 3})
    first, second = json_lines(stream)
    assert (first["event"], first["level"], first["logger"]) == ("socket x broke", "error", "uvicorn.error")
    assert second["seconds"] == 3


def test_chatty_libraries_are_quiet_below_warning() -> None:
    """alembic and apscheduler say nothing at info; dreamloop does."""
    stream = io.StringIO()
    configure(format="json", stream=stream)
    logging.getLogger("alembic.runtime.migration").info("Context impl SQLiteImpl.")
    logging.getLogger("apscheduler.scheduler").info("Scheduler started")
    structlog.get_logger("dreamloop").info("here")
    assert [line["event"] for line in json_lines(stream)] == ["here"]


def test_auto_is_key_value_where_there_is_no_terminal() -> None:
    """A file gets logfmt without colours; quotes where needed."""
    stream = io.StringIO()
    configure(stream=stream)
    structlog.get_logger("dreamloop").warning("a line was skipped", file="x.jsonl")
    line = stream.getvalue()
    assert 'level=warning logger=dreamloop event="a line was skipped" file=x.jsonl' in line
    assert "\x1b" not in line


def test_auto_is_coloured_in_a_terminal_unless_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR is respected."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain = Terminal(), Terminal()
    configure(stream=coloured)
    structlog.get_logger("dreamloop").info("here")
    monkeypatch.setenv("NO_COLOR", "1")
    configure(stream=plain)
    structlog.get_logger("dreamloop").info("here")
    assert ("\x1b" in coloured.getvalue(), "\x1b" in plain.getvalue()) == (True, False)
    assert "here" in plain.getvalue()


def test_levels_filter() -> None:
    """Below the level nothing is written; configuring again replaces, never doubles."""
    stream = io.StringIO()
    configure("debug", "json", stream=io.StringIO())
    configure("warning", "json", stream=stream)
    log = structlog.get_logger("dreamloop")
    log.info("quiet")
    log.warning("loud")
    assert [line["event"] for line in json_lines(stream)] == ["loud"]


@pytest.mark.parametrize("format", ["json", "console", "auto"])
def test_nobodys_words_are_logged_at_info(format: str) -> None:
    """Neither a field, nor a library's extra, nor a local variable in a traceback."""
    stream = Terminal() if format == "console" else io.StringIO()
    configure("debug", format, stream=stream)  # type: ignore[arg-type]
    log = structlog.get_logger("dreamloop")
    log.info("turn", user="my secret", answer="my secret")
    logging.getLogger("library").warning("turn", extra={"prompt": "my secret"})

    def fail(text: str) -> None:
        raise ValueError("no")

    try:
        fail("my " + "secret")
    except ValueError:
        log.exception("failed")
    assert "my secret" not in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    log.debug("turn", user="my secret")
    assert "my secret" in stream.getvalue()


@given(st.sampled_from(sorted(PRIVATE)), st.text(min_size=1), st.sampled_from(["info", "warning", "error", "critical"]))
def test_every_private_field_becomes_its_length(key: str, value: str, level: str) -> None:
    """Whatever the words and the level."""
    event = hide_texts(None, level, {"event": "x", "level": level, key: value})
    assert event == {"event": "x", "level": level, f"{key}_length": len(value)}


def test_a_workers_json_line_keeps_level_and_fields() -> None:
    """What a worker logs comes out of the main process as the worker's."""
    inside, outside = io.StringIO(), io.StringIO()
    configure(format="json", stream=inside, worker="train")
    structlog.get_logger("dreamloop.learn").warning("slow step", step=4, text="secret")
    line = inside.getvalue()
    assert json.loads(line)["worker"] == "train"
    configure(format="json", stream=outside)
    relay(line, worker="train")
    (got,) = json_lines(outside)
    assert (got["event"], got["level"], got["step"], got["worker"]) == ("slow step", "warning", 4, "train")
    assert "secret" not in outside.getvalue()


@given(
    st.one_of(st.text(), st.sampled_from(["{", "[1]", "3", "null", '{"event": 3}', '{"level": "exec", "event": "x"}']))
)
def test_anything_a_worker_prints_can_be_relayed(line: str) -> None:
    """No line of a worker breaks the main process; a line with words in it is logged exactly once."""
    stream = io.StringIO()
    configure(format="json", stream=stream)
    relay(line, worker="serve")
    lines = json_lines(stream)
    assert len(lines) == bool(line.strip())
    assert all(got["worker"] == "serve" for got in lines)


def test_the_live_view_gets_lines_too() -> None:
    """The sink has info and above, without colours; a sink that fails stops nothing."""
    got: list[tuple[str, str]] = []

    def sink(level: str, line: str) -> None:
        got.append((level, line))

    stream = io.StringIO()
    configure("debug", "json", stream=stream, sink=sink)
    log = structlog.get_logger("dreamloop")
    log.debug("hidden")
    log.warning("line skipped", file="x.jsonl")
    assert got == [("warning", "line skipped file=x.jsonl")]
    assert len(json_lines(stream)) == 2


def test_warnings_become_log_lines() -> None:
    """A library's warning is not lost in a daemon without a terminal."""
    program = "import warnings; from daemon.logs import configure as c; c(format='json'); warnings.warn('old')"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    line = json.loads(ran.stderr.splitlines()[0])
    assert (line["logger"], line["level"], "old" in line["event"]) == ("py.warnings", "warning", True)

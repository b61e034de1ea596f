"""The live view: what it shows, at which size, how often it draws, and what it leaves behind."""

from __future__ import annotations

import asyncio
import io
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from daemon import terminal
from daemon.control.feed import Feed
from daemon.control.panels import sparkline
from daemon.control.picture import Picture
from daemon.control.render import alarm_line
from daemon.terminal import Terminal, snapshot, snapshot_text

NOW = 1_800_000_000.0
CHILD, PARENT = "3fa2b1c4d5e6f7a8b9c0", "9bd01e77aa00aa00aa00"
JOB = {"id": "j1", "kind": "grade.answer", "lane": "train", "done": 100, "total": 256, "note": "x", "seconds": 12}
STATUS: dict[str, Any] = {
    "pid": 4242,
    "state": "running",
    "since": NOW - 1275,
    "paused": False,
    "cycle": {"id": 4, "stage": "grade", "stages": ["listen", "dream", "grade", "learn", "judge", "guard"]},
    "jobs": [JOB],
    "serving": {"adapter": CHILD, "since": NOW - 212},
    "behaviors": {
        "listening": {"failures": 25, "n": 240, "rate": 0.104, "low": 0.07, "high": 0.15, "source": "probes",
                      "base": 0.42, "history": [0.42, 0.3, 0.104]},
        "push_back": {"failures": 40, "n": 120, "rate": 0.333, "low": 0.25, "high": 0.42, "base": 0.3},
    },
    "last_verdict": {"adapter": CHILD, "decision": "promote", "reasons": ["listening fails less", "push_back holds"]},
    "alarms": [],
    "turns": 620,
    "problems": [],
}  # fmt: skip
ADAPTERS = [
    {"id": PARENT, "parent": None, "state": "retired", "verdict": "promote", "cycle": 1, "at": NOW - 900, "loss": 1.3},
    {"id": CHILD, "parent": PARENT, "state": "serving", "verdict": "promote", "cycle": 3, "at": NOW - 212, "loss": 0.7},
]
EVENTS = [
    {"event": "traffic", "user": "use quicksort", "assistant": "how about mergesort ?", "at": NOW - 75},
    {"event": "dream", "text": "rename the parser", "behavior": "listening", "band": "subtle", "at": NOW - 50},
    {"event": "progress", "job": "j1", "kind": "grade.answer", "done": 110, "total": 256, "note": "", "at": NOW - 10},
    {"event": "progress", "job": "j1", "kind": "grade.answer", "done": 170, "total": 256, "note": "", "at": NOW - 2},
]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60), (100, 30), (60, 20)])
def test_the_screen_is_exactly_as_large_as_the_terminal(width: int, height: int) -> None:
    """No line is wider, none is missing, none too many: otherwise the terminal scrolls at every drawing."""
    text = snapshot_text(STATUS, EVENTS, width, height, adapters=ADAPTERS, now=NOW, hint="Ctrl-C stops")
    lines = text.rstrip("\n").split("\n")
    assert len(lines) == height
    assert max(cell_len(line.rstrip()) for line in lines) <= width
    assert lines[-1].startswith("Ctrl-C stops")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_both_usual_sizes_show_everything_that_matters(width: int, height: int) -> None:
    """State, cycle, uptime, serving adapter, six stations, a job with rate, rates with base, verdict, happenings."""
    text = snapshot_text(STATUS, EVENTS, width, height, adapters=ADAPTERS, now=NOW)
    shown = ["running", "cycle 4", "up 21 min", "3fa2b1c4", "listen", "dream", "▶ grade", "learn", "judge", "guard"]
    shown += ["170/256", "7.5/s", "11 s left", "10 %", "[7–15]", "base 42 %", "▇▅▂", "promote", "listening fails less"]
    shown += ["use quicksort → how about mergesort ?", "listening/subtle: rename the parser", PARENT[:6]]
    assert [words for words in shown if words not in text] == []


def test_nothing_known_yet_is_said_in_words() -> None:
    """A fresh daemon's screen is not an error."""
    text = snapshot_text({"pid": 1, "state": "running"}, [], 80, 24, now=NOW)
    for words in ("nothing just now", "not measured yet", "no adapter yet", "no verdict yet"):
        assert words in text


def test_a_colour_is_a_claim() -> None:
    """Green only when the whole interval is below the base, red only when it is above."""

    def style(rate: float, low: float, high: float) -> str:
        picture = Picture()
        picture.refresh({"state": "running", "behaviors": {"b": {"rate": rate, "low": low, "high": high, "base": 0.3}}})
        console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=80)
        console.print(terminal.screen(picture, 80, 24, NOW))
        assert isinstance(console.file, io.StringIO)
        line = next(line for line in console.file.getvalue().splitlines() if line.startswith("b "))
        return next(name for name, code in (("green", "[32m"), ("red", "[31m"), ("yellow", "[33m")) if code in line)

    assert (style(0.1, 0.05, 0.2), style(0.5, 0.4, 0.6), style(0.25, 0.2, 0.35)) == ("green", "red", "yellow")


def test_an_alarm_is_seen_at_both_sizes() -> None:
    """In the header and in words."""
    alarm = {"channel": "signal", "behavior": "listening", "e_value": 1200.0, "threshold": 1000.0, "adapter": CHILD}
    for width, height in ((80, 24), (120, 40)):
        text = snapshot_text({**STATUS, "alarms": [alarm]}, [], width, height, adapters=ADAPTERS, now=NOW)
        assert "⚠ 1 alarm" in text
        assert "signal on listening: e-value 1200.0 over 1000" in text


def test_a_server_that_answers_with_something_else_is_seen_at_both_sizes() -> None:
    """The alarm is in words that are about a server, not about evidence; the problem stands there as long as it is one,
    and what the server does is among what happens."""
    alarm = {"channel": "attestation", "behavior": "", "e_value": 0.314, "threshold": 0.02, "adapter": CHILD, "at": 2.0}
    older = {**alarm, "channel": "signal", "behavior": "listening", "at": 1.0}
    event = {"event": "replica", "url": "http://a:1", "state": "mismatch", "why": "it answers with the base", "at": NOW}
    now = {**STATUS, "alarms": [alarm, older], "problems": ["mismatch: http://a:1 lies", "a log cannot be read"]}
    for width, height in ((80, 24), (120, 40)):
        text = snapshot_text(now, [event], width, height, adapters=ADAPTERS, now=NOW)
        assert "! mismatch: http://a:1 lies" in text
        assert "http://a:1 mismatch: it answers with the base" in text
    assert "⚠ attestation: what is served is not what was" in text
    assert alarm_line(alarm) == (
        f"attestation: what is served is not what was trained, 0.314 nats per token apart (0.02 allowed) ({CHILD[:8]})"
    )
    assert alarm_line({**alarm, "e_value": 0.0}) == f"attestation: what is served is not what was trained ({CHILD[:8]})"


def test_a_models_words_cannot_steer_the_terminal() -> None:
    """Escape sequences, newlines and rich markup in a dream are shown as text."""
    evil = {
        "event": "dream",
        "text": "a\x1b[2J\x1b]0;t\x07\nb [red]c[/red]",
        "behavior": "x",
        "band": "subtle",
        "at": NOW,
    }
    text = snapshot_text(STATUS, [evil], 120, 40, now=NOW)
    assert "a [2J ]0;t b [red]c[/red]" in text
    assert not {"\x1b", "\x07"} & set(text)


def test_the_picture_is_one_file_that_fetches_nothing() -> None:
    """The SVG is well-formed and links no font."""
    svg = snapshot(STATUS, EVENTS, 100, 30, adapters=ADAPTERS, now=NOW)
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "font-face" not in svg
    assert "url(http" not in svg.replace(" ", "")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.1, 1))
def test_a_sparkline_has_a_block_a_value_and_never_falls_for_a_rise(values: list[float], top: float) -> None:
    """Monotone, also above its top."""
    blocks = sparkline(sorted(values), top)
    assert len(blocks) == len(values)
    assert list(blocks) == sorted(blocks)


KINDS = ["progress", "job", "cycle", "stage", "verdict", "alarm", "serving", "replica", "dream", "traffic", "log"]
KINDS += ["missed", "new"]
FIELD = st.sampled_from(["job", "kind", "state", "stage", "decision", "note", "level", "message", "text", "adapter"])


@settings(max_examples=60)
@given(
    st.lists(
        st.builds(
            lambda event, words, done, total, at: {"event": event, "done": done, "total": total, "at": at, **words},
            st.sampled_from(KINDS), st.dictionaries(FIELD, st.text(max_size=300)), st.integers(0, 9), st.integers(0, 9),
            st.floats(0, 2e9),
        ),
        max_size=30,
    ),
    st.integers(60, 160), st.integers(20, 50),
)  # fmt: skip
def test_any_stream_of_events_can_be_drawn(events: list[dict[str, Any]], width: int, height: int) -> None:
    """Missing fields, odd words, any size from 60x20: always a screen of that size."""
    text = snapshot_text(STATUS, events, width, height, now=NOW)
    assert len(text.rstrip("\n").split("\n")) <= height


def test_a_jobs_bar_never_runs_backwards_from_an_old_status() -> None:
    """A status taken before the last progress event does not undo it; a finished job disappears."""
    picture = Picture()
    picture.take({"event": "progress", "job": "j1", "kind": "k", "done": 50, "total": 100, "at": NOW})
    picture.refresh({"jobs": [{"id": "j1", "kind": "k", "done": 40, "total": 100}]})
    assert picture.work["j1"].done == 50
    picture.refresh({"jobs": []})
    assert picture.work == {}


def test_a_job_that_has_not_counted_yet_is_shown_as_running() -> None:
    """A job with seconds but no total works; one without either is only queued."""
    jobs = [
        {"id": "a", "kind": "learn.train", "done": 0, "total": 0, "seconds": 3.0},
        {"id": "b", "kind": "judge.probe"},
    ]
    text = snapshot_text({**STATUS, "jobs": jobs}, [], 120, 40, now=NOW)
    assert "learn.train" in text
    assert "judge.probe" not in text


class Screen(io.StringIO):
    """A terminal that counts its drawings."""

    def isatty(self) -> bool:
        return True


def run(events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, pause: float = 0.0) -> tuple[str, int, int]:
    """Run the view on `events`; returns what it wrote, how often it drew and how often it asked for the status."""
    monkeypatch.setattr(terminal, "FASTEST", 0.02)
    drawn, asked = 0, 0
    screen = Screen()

    async def check() -> None:
        feed = Feed(limit=5000)
        stream = feed.subscribe()

        def status() -> dict[str, Any]:
            nonlocal asked
            asked += 1
            return STATUS

        console = Console(file=screen, width=80, height=24, force_terminal=True)
        view = Terminal(status, lambda: ADAPTERS, stream, hint="Ctrl-C stops", console=console)
        draw = view._view.draw

        def counted() -> None:
            nonlocal drawn
            drawn += 1
            draw()

        monkeypatch.setattr(view._view, "draw", counted)
        running = asyncio.create_task(view.run())
        await asyncio.sleep(0)
        for event in events:
            feed.publish(event["event"], **{k: v for k, v in event.items() if k not in ("event", "at")})
        await asyncio.sleep(pause)
        feed.close()
        await running

    asyncio.run(check())
    return screen.getvalue(), drawn, asked


def test_a_flood_of_events_is_a_handful_of_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand progress events at once cost two or three drawings, not a thousand, and the last one is shown."""
    flood = [{"event": "progress", "job": "j1", "kind": "k", "done": n, "total": 1000} for n in range(1, 1001)]
    written, drawn, asked = run(flood, monkeypatch)
    assert drawn <= 4
    assert asked <= 3
    assert "1000/1000" in written


def test_the_terminal_is_given_back_with_the_last_picture_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second page is left, the cursor is visible again, and what was shown last stands on the first page."""
    written, _, _ = run(EVENTS, monkeypatch)
    assert written.index("\x1b[?1049h") < written.rindex("\x1b[?1049l")
    assert written.rindex("\x1b[?25l") < written.rindex("\x1b[?25h")
    assert "rename the parser" in written[written.rindex("\x1b[?1049l") :]


def test_cancelling_gives_the_terminal_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches the daemon, which cancels the view."""
    screen = Screen()

    async def check() -> None:
        console = Console(file=screen, width=80, height=24, force_terminal=True)
        feed = Feed()
        running = asyncio.create_task(Terminal(lambda: STATUS, list, feed.subscribe(), console=console).run())
        await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(check())
    assert screen.getvalue().rindex("\x1b[?1049h") < screen.getvalue().rindex("\x1b[?1049l")

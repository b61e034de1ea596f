"""Draws a `Picture` with rich: a screen of exactly the size asked for, from 60x20 up."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from daemon.control.picture import STATIONS, Picture, Work
from daemon.control.render import MARKS, ago, alarm_line, percent, short

TALL, WIDE = 34, 100  # from here on there is room for frames
DIM, TITLE, EDGE = "bright_black", "bold cyan", "bright_black"
STATE = {"running": "green", "paused": "yellow", "waiting": "cyan", "stopping": "red"}
VERDICT = {"promote": "green", "hold": "yellow", "reject": "red"}
SORT = {"dream": "magenta", "log": "cyan", "verdict": "green", "alarm": "red", "trouble": "red", "cycle": "yellow"}
MARK = {"now": ("▶", "bold green"), "done": ("✓", "green"), "idle": ("·", DIM)}
BASE = "┃"  # marks in a bar where the base model stands
RATES = f"failure rate  {BASE} base model"
BLOCKS = "▁▂▃▄▅▆▇█"


def screen(picture: Picture, width: int, height: int, now: float | None = None, hint: str = "") -> RenderableType:
    """The whole view, at most `height` lines of `width` columns."""
    now = time.time() if now is None else now
    framed = height >= TALL and width >= WIDE
    inner = width - 4 if framed else width - 1
    stations = _stations(picture, inner)
    rates = _rates(picture, inner)[: 6 if framed else 4]
    working = _working(picture, inner, now, most=3 if framed else 2)
    parts: list[RenderableType] = [_fit(_header(picture, now), width)]
    if framed:
        half = (width - 1) // 2 - 4
        tall = 6
        pair = Table.grid(padding=(0, 0, 0, 1), expand=True)
        pair.add_column(ratio=1)
        pair.add_column(ratio=1)
        pair.add_row(
            _panel("adapters", _adapters(picture, half, tall), tall),
            _panel("last verdict", _verdict(picture, half, tall), tall),
        )
        parts += [
            _panel("", stations),
            _panel("working on", working, 3),
            _panel(RATES, rates),
            pair,
        ]
        used = 1 + 2 + len(stations) + 5 + 2 + len(rates) + tall + 2
        room = max(0, height - used - 3)
        parts.append(_panel("happening", _ticker(picture, inner, room), room))
    else:
        verdict = _verdict(picture, inner, 2)
        parts += [
            _rule(""),
            *stations,
            _rule("working on"),
            *_padded(working, 2),
            _rule(RATES),
            *rates,
        ]
        parts += [_rule("adapters"), _lineage(picture, inner), *verdict, _rule("happening")]
        room = max(0, height - 8 - len(stations) - 2 - len(rates) - len(verdict))
        parts += _padded(_ticker(picture, inner, room), room)
    parts.append(_fit(Text(hint or "Ctrl-C stops", style=DIM), width))
    return Group(*parts)


def _header(picture: Picture, now: float) -> Text:
    status = picture.status
    state = "paused" if status.get("paused") else str(status.get("state") or "starting")
    line = Text.assemble((" dreamloop ", "bold white on blue"), " ", ("● ", STATE.get(state, "white")), (state, "bold"))
    cycle = status.get("cycle") or {}
    if cycle.get("id") is not None:
        line.append(f"  cycle {cycle['id']}")
    if status.get("since"):
        line.append(f"  up {ago(now - status['since'])}", style=DIM)
    serving = status.get("serving") or {}
    line.append("  serving ").append(short(serving.get("adapter")), style="bold green")
    if serving.get("since"):
        line.append(f" for {ago(now - serving['since'])}", style=DIM)
    alarms = status.get("alarms") or []
    if alarms:
        line.append(f"  ⚠ {len(alarms)} alarm{'s' * (len(alarms) != 1)}", style="bold red")
    return line


def _stations(picture: Picture, width: int) -> list[Text]:
    cell = width // len(STATIONS)
    names, doing = Text(), Text()
    for name in STATIONS:
        state, words = picture.station(name)
        mark, style = MARK[state]
        head = Text.assemble((f"{mark} ", style), (name, "bold" if state == "now" else "" if state == "done" else DIM))
        if name != STATIONS[-1]:
            head.append(" " + "─" * max(0, cell - head.cell_len - 3) + "▸", style=EDGE)
        names.append_text(_fit(head, cell, pad=True))
        doing.append_text(_fit(Text("  " + words, style="" if state == "now" else DIM), cell - 1, pad=True)).append(" ")
    return [names, doing]


def _working(picture: Picture, width: int, now: float, most: int) -> list[Text]:
    jobs = sorted(picture.work.values(), key=lambda work: -work.at)
    if jobs:
        return [_bar(work, width) for work in jobs[:most]]
    if picture.status.get("paused"):
        return [Text("paused: `dreamctl resume` goes on", style="yellow")]
    following = picture.status.get("next") or {}
    if following.get("what"):
        when = f" in {ago(following['when'] - now)}" if following.get("when") else ""
        return [_fit(Text(f"nothing just now; next: {following['what']}{when}", style=DIM), width)]
    return [Text("nothing just now", style=DIM)]


def _bar(work: Work, width: int) -> Text:
    share = min(1.0, work.done / work.total) if work.total else 0.0
    long = max(10, min(40, width // 3))
    filled = round(share * long)
    line = Text.assemble(f"{work.kind:<16.16} ", ("━" * filled, "green"), ("━" * (long - filled), EDGE))
    line.append(f" {work.done}/{work.total}" if work.total else " starting")
    if work.rate is not None:
        line.append(f"  {work.rate:.3g}/s", style=DIM)
        if work.total > work.done:
            line.append(f"  {ago((work.total - work.done) / work.rate)} left", style=DIM)
    if work.note:
        line.append(f"  {work.note}", style=DIM)
    return _fit(line, width)


def _rates(picture: Picture, width: int) -> list[Text]:
    behaviors = picture.status.get("behaviors") or {}
    if not behaviors:
        return [Text("not measured yet", style=DIM)]
    seen = [r for f in behaviors.values() for r in (f.get("rate"), f.get("base"), f.get("high")) if r is not None]
    scale = max([0.5, *seen])
    return [_rate(name, facts, picture.history.get(name) or (), width, scale) for name, facts in behaviors.items()]


def _rate(name: str, facts: Mapping[str, Any], past: Sequence[float], width: int, scale: float) -> Text:
    rate, base = facts.get("rate"), facts.get("base")
    if rate is None:
        return _fit(Text.assemble(f"{name:<12.12} ", ("not measured yet", DIM)), width)
    long = max(10, min(40, width - 58))
    style = _against(base, facts.get("low", rate), facts.get("high", rate))
    filled, tick = round(rate / scale * long), None if base is None else min(long - 1, round(base / scale * long))
    line = Text(f"{name:<12.12} ")
    for place in range(long):
        if place == tick:
            line.append(BASE, style="white")
        else:
            line.append("█" if place < filled else "·", style=style if place < filled else EDGE)
    line.append(f" {percent(rate):>5}", style=f"bold {style}")
    if facts.get("low") is not None and facts.get("high") is not None:
        line.append(f" [{facts['low'] * 100:.0f}–{facts['high'] * 100:.0f}]".ljust(9), style=DIM)
    if base is not None:
        line.append(f" base {percent(base)}")
    if facts.get("n") is not None:
        line.append(f" n {facts['n']}", style=DIM)
    if len(past) > 1:
        line.append("  " + sparkline(list(past)[-12:], scale), style="cyan")
    return _fit(line, width)


def _against(base: float | None, low: float | None, high: float | None) -> str:
    """Green or red only when the whole interval lies on one side of the base: a colour is a claim too."""
    if base is None or low is None or high is None:
        return "yellow"
    return "green" if high < base else "red" if low > base else "yellow"


def sparkline(values: Sequence[float], top: float = 1.0) -> str:
    """One block a value, 0 to `top`.

    >>> sparkline([0, 0.5, 1.0])
    '▁▅█'
    """
    steps = len(BLOCKS) - 1
    return "".join(BLOCKS[min(steps, max(0, int(value / top * steps + 0.5)))] for value in values)


def _adapters(picture: Picture, width: int, most: int) -> list[Text]:
    lines: list[Text] = []
    serving = (picture.status.get("serving") or {}).get("adapter")
    for adapter in list(picture.adapters)[-most:]:
        verdict = str(adapter.get("verdict") or "")
        style = VERDICT.get(verdict, DIM)
        line = Text.assemble((f"{MARKS.get(verdict, '·')} ", style), (short(adapter["id"]), "bold"))
        line.append(f" ← {short(adapter.get('parent')):<8}", style=DIM)
        line.append(f"  {adapter.get('state', '')!s:<11}", style="bold green" if adapter["id"] == serving else "")
        if adapter.get("cycle") is not None:
            line.append(f" cycle {adapter['cycle']}", style=DIM)
        if adapter.get("loss") is not None:
            line.append(f"  loss {adapter['loss']:.2f}", style=DIM)
        lines.append(_fit(line, width))
    return lines or [Text("none yet; the base model answers", style=DIM)]


def _lineage(picture: Picture, width: int) -> Text:
    line, serving = Text("base"), (picture.status.get("serving") or {}).get("adapter")
    for adapter in list(picture.adapters)[-6:]:
        verdict = str(adapter.get("verdict") or "")
        line.append(" ─ ", style=EDGE)
        line.append(adapter["id"][:6], style="bold green" if adapter["id"] == serving else "")
        line.append(MARKS.get(verdict, "·"), style=VERDICT.get(verdict, DIM))
    if not picture.adapters:
        line.append("  (no adapter yet)", style=DIM)
    return _fit(line, width)


def _verdict(picture: Picture, width: int, most: int) -> list[Text]:
    """The last verdict with its reasons, then the last alarm and a problem, in at most `most` lines."""
    verdict = picture.status.get("last_verdict") or {}
    if not verdict.get("decision"):
        lines = [Text("no verdict yet", style=DIM)]
    else:
        decision, reasons = str(verdict["decision"]), [str(r) for r in verdict.get("reasons") or []]
        head = Text.assemble((f"{MARKS.get(decision, '')} {decision} ", f"bold {VERDICT.get(decision, 'white')}"))
        head.append(short(verdict.get("adapter")))
        lines = [_fit(head, width)]
        if most <= 2:
            lines = [_fit(head.append(": " + "; ".join(reasons), style=DIM) if reasons else head, width)]
        else:
            lines += [_fit(Text(f"  {reason}", style=DIM), width) for reason in reasons]
    bad = []
    if alarms := picture.status.get("alarms"):
        bad.append(f"⚠ {alarm_line(max(alarms, key=lambda alarm: float(alarm.get('at') or 0)))}")
    if problems := picture.status.get("problems"):
        bad.append(f"! {problems[0]}")
    bad = bad[-(most - 1) :]  # a problem is there now; the header says how many alarms there were
    return [*lines[: most - len(bad)], *(_fit(Text(words, style="red"), width) for words in bad)]


def _ticker(picture: Picture, width: int, most: int) -> list[Text]:
    lines = []
    for happening in list(picture.happenings)[-most:] if most else []:
        clock = time.strftime("%H:%M:%S", time.localtime(happening.at))
        line = Text.assemble((f"{clock} ", DIM), (f"{happening.sort:<8}", SORT.get(happening.sort, "blue")))
        lines.append(_fit(line.append(happening.words), width))
    return lines


def _fit(line: Text, width: int, pad: bool = False) -> Text:
    line.no_wrap = True
    line.truncate(max(1, width), overflow="ellipsis", pad=pad)
    return line


def _padded(lines: list[Text], height: int) -> list[Text]:
    return [*lines, *(Text() for _ in range(height - len(lines)))]


def _panel(title: str, lines: list[Text], height: int | None = None) -> Panel:
    inside = Group(*(lines if height is None else _padded(lines, height)))
    heading = Text(title, style=TITLE) if title else None
    return Panel(inside, title=heading, title_align="left", box=box.ROUNDED, border_style=EDGE)


def _rule(title: str) -> Rule:
    return Rule(Text(title, style=TITLE) if title else "", align="left", style=EDGE)

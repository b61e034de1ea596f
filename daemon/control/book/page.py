"""From the answers' JSON to the page: what each section shows, and the template that shows it."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.control import wording
from daemon.control.book.questions import QUESTIONS
from daemon.control.render import ago, percent, short, toml_value
from daemon.control.wording import MISSING, finite, mapping, number, objects, one_line

FOLDER = Path(__file__).parent
ROWS = 400  # of a figure's table; the JSON has all
HISTORY = 12
Rows = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A figure with its numbers; `svg` is empty where it could not be drawn, and `note` says why."""

    title: str
    svg: str = ""
    note: str = ""
    header: Sequence[str] = ()
    rows: Rows = ()
    more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One finding as it is shown."""

    key: str
    verdict: str
    identified: bool
    sentence: str
    estimate: str
    interval: str
    n: str
    age: str
    facts: Rows
    plots: Sequence[Plot]
    controls: Rows
    rule: str
    would_change: str
    short: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A question with the answer that was asked for, what was seen live, and what they advise."""

    key: str
    number: str
    title: str
    question: str
    answers: Sequence[Answer]
    advice: Sequence[Mapping[str, str]]
    history: Rows = field(default=())


def build(answers: Mapping[str, Any] | None, report: Mapping[str, Any] | None, *, now: float) -> str:
    """The book as one HTML page that needs nothing from outside.

    `answers` is what /v1/answers says (None or empty: nothing was asked yet), `report` what /v1/report says, `now`
    epoch seconds. Whatever is missing or null in them is shown as missing; nothing in them is trusted as markup.
    """
    import jinja2
    from markupsafe import Markup

    given, report = mapping(answers), mapping(report)
    questions = mapping(given.get("questions"))
    order = [*QUESTIONS, *(key for key in questions if key not in QUESTIONS)]
    advice = objects(given.get("advice"))
    sections = [_section(key, n, mapping(questions.get(key)), advice, now) for n, key in enumerate(order, 1)]
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    world = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return world.get_template("page.html.jinja").render(
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        written=_date(now),
        answered=sum(bool(section.answers) for section in sections),
        serving=short(report.get("serving")) if report else "",
        sections=sections,
        waiting=[(s, one) for s in sections for one in s.advice if one["state"] == "proposed"],
        standing=_standing(report),
        note=one_line(report.get("note")),
    )


def _section(key: str, n: int, facts: Mapping[str, Any], advice: Sequence[Mapping[str, Any]], now: float) -> Section:
    title, question = QUESTIONS.get(key, (one_line(key), ""))
    found = [mapping(facts.get(which)) for which in ("latest", "live")]
    ids = {finding.get("id") for finding in found if finding} - {None}
    shown = {one_line(finding.get("id")) or which: finding for which, finding in enumerate(found) if finding}
    return Section(
        key=f"q{n}",
        number=one_line(key).upper(),
        title=title,
        question=one_line(facts.get("title")) or question,
        answers=[_answer(f"q{n}{'ab'[i]}", finding, now) for i, finding in enumerate(shown.values())],
        advice=[_advice(one) for one in advice if one.get("question") == key or one.get("finding") in ids],
        history=[_past(row, now) for row in objects(facts.get("history"))[: -HISTORY - 1 : -1]],
    )


def _answer(key: str, finding: Mapping[str, Any], now: float) -> Answer:
    evidence = mapping(finding.get("evidence"))
    at, seconds = finite(finding.get("at")), finite(finding.get("seconds"))
    verdict = one_line(finding.get("verdict")) or "no verdict"
    size = one_line(finding.get("size"))
    unit = wording.unit(finding)
    facts = [
        ("Estimate", f"{number(finding.get('estimate'))} {unit}".strip()),
        ("95 % interval", wording.interval(finding)),
        ("n", number(finding.get("n"))),
        ("Null", wording.null(finding)),
        ("Seeds", wording.seeds(finding)),
        ("Size", wording.SIZES.get(size, size)),
        ("Took", ago(seconds) if seconds is not None else MISSING),
        ("Measured", f"{_date(at)}, {ago(now - at)} ago" if at is not None else MISSING),
        ("Behaviour", one_line(finding.get("behavior"))),
        ("Adapter", short(one_line(finding.get("adapter")) or None)),
        ("Model", one_line(evidence.get("model"))[:16]),
        ("Code", one_line(evidence.get("code"))[:24]),
    ]
    controls = objects(evidence.get("controls"))
    return Answer(
        key=key,
        verdict=verdict,
        identified=verdict not in (wording.UNIDENTIFIED, "no verdict"),
        sentence=wording.sentence(finding),
        estimate=wording.estimate(finding),
        interval=wording.interval(finding),
        n=number(finding.get("n")),
        age=ago(now - at) if at is not None else MISSING,
        facts=[(name, value or MISSING) for name, value in facts],
        plots=[_plot(f"{key}f{n}", figure) for n, figure in enumerate(objects(evidence.get("figures")))],
        controls=[(wording.held(c), one_line(c.get("name")), one_line(c.get("detail"))) for c in controls],
        rule=one_line(evidence.get("rule")),
        would_change=one_line(evidence.get("would_change")),
        short=[one_line(note) for note in wording.items(evidence.get("short")) if one_line(note)],
    )


def _plot(key: str, figure: Mapping[str, Any]) -> Plot:
    from markupsafe import Markup

    from daemon.control.book import figures, svg

    title = one_line(figure.get("title")) or one_line(figure.get("kind")) or "Figure"
    kind = figures.find(figure.get("kind"))
    if kind is None:
        return Plot(title=title, note=f"this dreamctl knows no figure of the kind {one_line(figure.get('kind'))!r}")
    try:
        table = kind.table(figure)
        cells = [[cell if isinstance(cell, str) else number(cell) for cell in row] for row in table.rows]
        drawn = Markup(svg.draw(kind, figure, key))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # data that no protocol foresaw cost their own figure, never the page
        return Plot(title=title, note=f"it cannot be drawn: {one_line(error)}")
    return Plot(title=title, svg=drawn, header=table.header, rows=cells[:ROWS], more=max(0, len(cells) - ROWS))


def _advice(advice: Mapping[str, Any]) -> dict[str, str]:
    said = {key: one_line(advice.get(key)) for key in ("key", "evidence", "note")}
    values = {key: one_line(toml_value(advice.get(key))) for key in ("value", "current")}
    return {**said, **values, "state": one_line(advice.get("state")) or "proposed"}


def _past(row: Mapping[str, Any], now: float) -> tuple[str, ...]:
    at = finite(row.get("at"))
    said = wording.estimate({**row, "evidence": {}})
    size, behavior, verdict = (one_line(row.get(key)) for key in ("size", "behavior", "verdict"))
    return ago(now - at) if at is not None else MISSING, verdict, said, number(row.get("n")), size, behavior


def _standing(report: Mapping[str, Any]) -> Rows:
    """Base against serving on sealed probes: a row per behaviour."""
    measured = dict(mapping(report.get("behaviors")))
    if report.get("general"):
        measured["general skill"] = report["general"]
    rows = []
    for name, facts in measured.items():
        sides = [_rate(mapping(mapping(facts).get(side))) for side in ("base", "serving")]
        change = mapping(mapping(facts).get("change"))
        rows.append((one_line(name), *sides, one_line(change.get("standing")) or MISSING))
    return rows


def _rate(side: Mapping[str, Any]) -> str:
    rate, low, high = (finite(side.get(key)) for key in ("rate", "low", "high"))
    if rate is None:
        return MISSING
    limits = "" if low is None or high is None else f" [{percent(low)}, {percent(high)}]"
    return f"{percent(rate)}{limits}, n {number(side.get('n'))}"


def _date(at: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))
    except (OverflowError, ValueError, OSError):
        return MISSING

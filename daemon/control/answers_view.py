"""What dreamctl prints of findings and advice: plain functions from the API's dicts to lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daemon.control import wording
from daemon.control.render import ago, short, toml_value
from daemon.control.wording import MISSING, finite, mapping, number, objects, one_line

MARKS = {"holds": "✓", "fails": "✗", "not run": "–"}
HEADING = ("", "verdict", "estimate, 95 % interval", "n", "size", "age", "behaviour")
INDENT = " " * 10  # below an advice: as wide as its id and the gap


def answer_lines(answers: Mapping[str, Any], now: float) -> list[str]:
    """The `dreamctl answers` table: a row per answer, one for what was seen live, and how to ask what was not asked."""
    rows: list[Sequence[str]] = []
    open_questions = []
    for key, facts in mapping(answers.get("questions")).items():
        found = [finding for which in ("latest", "live") if (finding := mapping(mapping(facts).get(which)))]
        rows += [_row(one_line(key), finding, now) for finding in found]
        if not found:
            open_questions.append(f"{one_line(key)}  not asked yet: {one_line(mapping(facts).get('title'))}")
    lines = _columns([HEADING, *rows]) if rows else []
    if open_questions:
        lines += [*([""] if lines else []), *open_questions, "", "`dreamctl ask QUESTION` has one answered"]
    return lines or ["nothing was asked yet; `dreamctl ask q1` asks"]


def _row(key: str, finding: Mapping[str, Any], now: float) -> Sequence[str]:
    at = finite(finding.get("at"))
    return (
        key, one_line(finding.get("verdict")) or MISSING, wording.estimate(finding), number(finding.get("n")),
        one_line(finding.get("size")), ago(now - at) if at is not None else MISSING, one_line(finding.get("behavior")),
    )  # fmt: skip


def advice_lines(rows: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """The `dreamctl advice` page: what is proposed first, each with its evidence and what became of it."""
    if not rows:
        return ["no answer has advised anything yet"]
    lines = []
    for row in sorted(rows, key=lambda row: row.get("state") != "proposed"):
        at = finite(row.get("at"))
        by = f" by {one_line(row.get('by'))}" if row.get("by") else ""
        age = f", {ago(now - at)} ago" if at is not None else ""
        lines.append(f"{one_line(row.get('id'))[:8]}  {_wish(row)}  {one_line(row.get('state'))}{by}{age}")
        source = " ".join(part for part in (one_line(row.get("question")), one_line(row.get("behavior"))) if part)
        lines += [f"{INDENT}{': '.join(part for part in (source, one_line(row.get('evidence'))) if part)}"]
        if row.get("note"):
            lines.append(f"{INDENT}{one_line(row['note'])}")
    if any(row.get("state") == "proposed" for row in rows):
        lines += ["", "`dreamctl advice accept ID` (or reject, undo) decides"]
    return lines


def _wish(row: Mapping[str, Any]) -> str:
    return one_line(f"{row.get('key')} = {toml_value(row.get('value'))} (now {toml_value(row.get('current'))})")


def finding_lines(finding: Mapping[str, Any], advice: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """One answer as `dreamctl ask` ends with it: verdict, estimate, n, null, controls, what falls short, advice."""
    evidence = mapping(finding.get("evidence"))
    seconds, size = finite(finding.get("seconds")), one_line(finding.get("size"))
    about = f"{one_line(finding.get('behavior'))} on {short(one_line(finding.get('adapter')) or None)}"
    took = f"{ago(seconds)}, " if seconds is not None else ""
    verdict, sentence = one_line(finding.get("verdict")), wording.sentence(finding)
    lines = [
        f"{one_line(finding.get('question'))} {verdict}" + (f": {sentence}" if sentence != verdict else ""),
        _line("estimate", f"{wording.estimate(finding)}, n {number(finding.get('n'))}"),
        _line("null", wording.null(finding)),
        _line("seeds", wording.seeds(finding)),
        *_block("controls", [_control(control) for control in objects(evidence.get("controls"))]),
        *_block("lacks", [one_line(note) for note in wording.items(evidence.get("short"))]),
    ]
    if evidence.get("would_change"):
        lines.append(_line("changes if", one_line(evidence["would_change"])))
    lines += _block("advises", [f"{_wish(row)}: {one_line(row.get('evidence'))}" for row in advice])
    lines.append(_line("took", f"{took}{wording.SIZES.get(size, size)}, {about}"))
    return lines


def _control(control: Mapping[str, Any]) -> str:
    state, detail = wording.held(control), one_line(control.get("detail"))
    return f"{MARKS[state]} {one_line(control.get('name'))} {state}" + (f": {detail}" if detail else "")


def _block(name: str, rows: Sequence[str]) -> list[str]:
    return [_line(name if n == 0 else "", row) for n, row in enumerate(rows)]


def _line(name: str, words: str) -> str:
    return f"{name:<10} {words}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

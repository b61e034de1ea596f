"""docs/EXPERIMENTS.md and its plots, from the daemon's answers: written by `seven_questions.py --save`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from common import ROOT

from daemon.control import wording
from daemon.control.book.standalone import picture
from daemon.control.render import toml_value

PAGE = ROOT / "docs" / "EXPERIMENTS.md"
PLOTS = ROOT / "docs" / "experiments"

HEAD = """# The seven questions, answered on nano

Written from daemons' own answers by

    {command}

and not to be edited. Question 5 was asked of the fresh model; then six cycles of the loop ran, and the others were
asked of what came of them. `--only` and `--also` share the questions among daemons on copies of one state, which then
compete for the machine: times are orders of magnitude. How each question is measured: `daemon/experiments/`; the
rules of the verdicts: `policies/answers/`. Negative and unidentified answers are answers. nano has
{model}; a large model may answer differently, which is why the daemon asks its own.

| | question | verdict | estimate, 95 % interval | n | took |
|---|---|---|---|---|---|
{rows}
"""

SECTION = """
## {question}. {title}

**{verdict}.** {sentence}

{facts}
{plots}
{controls}{short}{advice}*What would change it:* {would_change}
"""


def write_pages(answers: dict[str, Any], command: str) -> None:
    """Write the page and its plots."""
    shutil.rmtree(PLOTS, ignore_errors=True)
    PLOTS.mkdir(parents=True)
    found = {name: row for name, row in answers["questions"].items() if row["latest"]}
    rows = "\n".join(_row(name, row) for name, row in found.items())
    head = HEAD.format(command=command, rows=rows, model="2.7 million parameters, 8 layers, 2 of them attention")
    sections = [_section(name, row, answers["advice"]) for name, row in found.items()]
    PAGE.write_text(head + "".join(sections), encoding="utf-8")


def _row(name: str, row: dict[str, Any]) -> str:
    finding = row["latest"]
    estimate = wording.estimate(finding)
    return (
        f"| {name.upper()} | {row['title']} | {finding['verdict']} | {estimate} | {wording.number(finding['n'])} | "
        f"{finding['seconds']:.0f} s |"
    )


def _section(name: str, row: dict[str, Any], advice: list[dict[str, Any]]) -> str:
    finding = row["latest"]
    evidence = finding["evidence"]
    facts = (
        f"Asked of *{finding['behavior']}*, size *{finding['size']}*; seeds {wording.seeds(finding)}. Null: "
        f"{wording.null(finding)}. Rule: {evidence['rule']}\n"
    )
    controls = [
        f"- {'held' if control['ok'] else '**failed**'}: {control['name']}: {control['detail']}"
        for control in evidence["controls"]
    ]
    mine = [
        f"- `{one['key']} = {toml_value(one['value'])}`: {one['evidence']}"
        for one in advice
        if one["finding"] == finding["id"]
    ]
    return SECTION.format(
        question=name.upper(),
        title=row["title"],
        verdict=finding["verdict"].capitalize(),
        sentence=finding["sentence"],
        facts=facts,
        plots="\n".join(_plots(name, evidence["figures"])),
        controls=_list("Controls", controls),
        short=_list("What falls short of the protocol", [f"- {words}" for words in evidence["short"]]),
        advice=_list("Advice", mine),
        would_change=evidence["would_change"],
    )


def _plots(name: str, figures: list[dict[str, Any]]) -> list[str]:
    made = []
    for number, figure in enumerate(figures, start=1):
        file: Path = PLOTS / f"{name}-{number}.svg"
        file.write_text(picture(figure), encoding="utf-8")
        made.append(f"![{figure['title']}](experiments/{file.name})\n")
    return made


def _list(title: str, rows: list[str]) -> str:
    return f"{title}:\n\n" + "\n".join(rows) + "\n\n" if rows else ""

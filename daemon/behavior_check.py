"""`dreamctl behavior check`: what a behaviour's file lacks before anything runs, and how far its judge agrees.

The rules that need the file alone are in `policies.behaviors.check`; here are those that need a judge, the memory graph
or a model. A model is loaded only to measure a judge's agreement with hand labels. `python -m daemon.behavior_check`
is the same.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from daemon import behaviors as behavior_files
from daemon.config import Config
from daemon.config import load as load_config
from daemon.errors import BehaviorError, DreamloopError
from daemon.judges import agreement
from daemon.judges.agreement import Agreement
from daemon.judges.base import ModelJudge, find, judge_all, load
from daemon.judges.labels import measure, read_labels
from daemon.models import loading
from daemon.models.base import Model
from daemon.remembering import Remembering
from policies.behaviors import Behavior, Pair, Probe
from policies.behaviors.check import check
from policies.behaviors.remarks import Level, Remark
from policies.behaviors.sizes import GateSizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found about one file; `agreement` is the judge's with hand labels, where it was measured."""

    file: Path
    behavior: str
    remarks: tuple[Remark, ...]
    agreement: Agreement | None = None

    @property
    def ok(self) -> bool:
        """Can the behaviour be used?"""
        return all(remark.level != "error" for remark in self.remarks)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        remarks = [asdict(remark) for remark in self.remarks]
        measured = asdict(self.agreement) if self.agreement else None
        return {"file": str(self.file), "behavior": self.behavior, "ok": self.ok, "remarks": remarks,
                "agreement": measured}  # fmt: skip


def inspect(file: Path, config: Config, labels: Path | None = None) -> Checked:
    """Look at one behaviour as the daemon of `config` would use it. With `labels` the agreement is measured and kept.

    Raises BehaviorError for files that cannot be read, and what loading a model raises.
    """
    behavior = behavior_files.read(file)
    found = None
    if labels is not None:
        rows = read_labels(labels)
        model = _model(config) if issubclass(find(behavior.judge), ModelJudge) else None
        found = measure(behavior, rows, model=model)
        agreement.write(file, found)
    judge = config.judge
    gate = GateSizes(
        probes=judge.probes,
        answers=max(judge.samples, judge.second_look),
        looks=2 if judge.second_look else 1,
        canaries=judge.canaries,
    )
    remarks = [*_judge(behavior, file, config, found), *check(behavior, gate), _graph(behavior, config)]
    return Checked(file=file, behavior=behavior.name, remarks=tuple(remarks), agreement=found)


def _judge(behavior: Behavior, file: Path, config: Config, measured: Agreement | None) -> list[Remark]:
    """Is there such a judge, has it what it needs, and may it gate?"""
    about, questions, floor = "judge", ("gate", "Q2"), config.judge.agreement_floor
    try:
        judge = find(behavior.judge)
        agreement.admit(behavior, file, floor=floor, base=lambda: loading.fingerprint(_folder(config)))
    except BehaviorError as error:
        return [Remark(level="error", about=about, text=str(error), questions=questions)]
    known = measured or (agreement.read(file) if issubclass(judge, ModelJudge) else None)
    remarks = []
    if known is not None:
        level: Level = "ok"
        ending = "it may gate"
        if not known.kappa >= floor:  # exact rules need no agreement; a low one tells against the rules or the labels
            level, ending = "error", f"`judge.agreement_floor` is {floor:g}: it will not gate"
        elif known.low < floor:
            level, ending = "warning", f"it may gate, but its interval reaches below {floor:g}: label more answers"
        text = f"{behavior.judge}: kappa {known.kappa:.2f} [{known.low:.2f}, {known.high:.2f}] on {known.n} labels"
        if known.undecided:
            text += f", {known.undecided} undecided"
        remarks.append(Remark(level=level, about=about, text=f"{text}; {ending}", questions=questions))
    return remarks if issubclass(judge, ModelJudge) else [*remarks, _exact(behavior)]


def _exact(behavior: Behavior) -> Remark:
    """Do exact rules read the behaviour's own answers as its file does?"""
    known: list[Probe | Pair] = [*behavior.probes, *behavior.pairs]
    rows = [row for row in known if row.preferred and row.rejected]
    asked = [(row.prompt, answer) for row in rows for answer in (row.preferred, row.rejected)]
    passed = [judgement.passed for judgement in judge_all(load(behavior.judge), behavior.name, asked)]
    unread = sum(a is None or b is None for a, b in zip(passed[::2], passed[1::2], strict=True))
    wrong = sum((a, b) != (True, False) for a, b in zip(passed[::2], passed[1::2], strict=True)) - unread
    text = f"{behavior.judge} reads {len(rows) - unread} of {len(rows)} scenarios, {wrong} not as the file says"
    level: Level = "ok" if not unread and not wrong else "warning"
    if not rows or unread == len(rows):
        level, text = "error", f"{text}: these rules are not about this behaviour; take a judge that asks a model"
    elif unread:
        text += ": what it cannot read counts as failed in the gate"
    return Remark(level=level, about="judge", text=text, questions=("gate", "Q2"))


def _graph(behavior: Behavior, config: Config) -> Remark:
    about, questions = "graph_key", ("Q4", "loop")
    memory = Remembering(config).memory
    if behavior.graph_key in memory:
        return Remark(level="ok", about=about, text=f"{behavior.graph_key!r} is in the graph", questions=questions)
    text = (
        f"the memory graph ({config.graph.path}) has no node {behavior.graph_key!r}: it never surfaces, so the graph "
        "channel is blind, and dreams start without memories of the pattern"
    )
    return Remark(level="warning", about=about, text=text, questions=questions)


def _folder(config: Config) -> Path:
    return loading.resolve(config.model.path if config.model.path == "nano" else config.resolve(config.model.path))


def _model(config: Config) -> Model:
    model = config.model
    return loading.load(
        model.backend, path=str(_folder(config)), device=model.device, dtype=model.dtype, threads=model.threads,
        generate_batch=model.generate_batch,
    )  # fmt: skip


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--labels", type=click.Path(path_type=Path), help='JSON lines {"prompt", "answer", "passed"}.')
@click.option("--config", "settings", type=click.Path(path_type=Path), help="The daemon's configuration.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(file: Path, labels: Path | None, settings: Path | None, as_json: bool) -> None:
    """Check a behaviour's file; with --labels also measure its judge's agreement with them.

    Exit codes: 0 usable, 1 not.
    """
    from daemon import logs

    logs.configure("error", "console")
    try:
        found = inspect(file.resolve(), load_config(settings) if settings else Config(), labels)
    except DreamloopError as error:
        remark = Remark(level="error", about="file", text=str(error))
        found = Checked(file=file, behavior=file.stem, remarks=(remark,))
    if as_json:
        click.echo(json.dumps(found.plain(), indent=2, ensure_ascii=False))
    else:
        _show(found)
    sys.exit(0 if found.ok else 1)


def _show(found: Checked) -> None:
    """A table for people: what is wrong first."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("", "what", "for", "found"):
        table.add_column(column, no_wrap=column != "found")
    styles = {"error": "bold red", "warning": "yellow", "ok": "green"}
    order = list(styles)
    for remark in sorted(found.remarks, key=lambda remark: order.index(remark.level)):
        level = Text(remark.level, style=styles[remark.level])
        table.add_row(level, Text(remark.about), Text(" ".join(remark.questions)), Text(remark.text))
    # not a terminal: rich would fold the rows at 80 columns
    console = Console(width=None if sys.stdout.isatty() else 240, highlight=False)
    console.print(table)
    levels = [remark.level for remark in found.remarks]
    counts = ", ".join(_count(levels.count(level), level) for level in ("error", "warning"))
    console.print(f"{found.behavior}: {'usable' if found.ok else 'NOT usable'}; {counts}", markup=False)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


if __name__ == "__main__":
    main()

"""dreamctl's commands about the seven questions: ask, answers, advice, cancel, report, and checking a behaviour."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from daemon.control import ANSWERS_NAME, REPORT_NAME
from daemon.control.command import Choices, common, last, pass_choices
from daemon.control.connection import NoDaemon, Refused

QUESTIONS = ("q1", "q2", "q3", "q4", "q5", "q6", "q7")


@click.command()
@common
@click.option(
    "--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help="Where the answer book goes  [default: report.html in the state folder]",
)  # fmt: skip
@pass_choices
def report(choices: Choices, out: Path | None) -> None:
    """Show what training has changed, on sealed probes, and write the answer book.

    The book is one HTML page with the seven answers, their plots, controls and advice; it needs no network. With
    --json the report is printed with the answers in it, and a page is written only where --out says so. When no daemon
    runs, what the last one left in the state folder is read.
    """
    from daemon.control.render import report_lines

    answer, found = _report(choices), _answers(choices)
    choices.show(answer if found is None else {**answer, "answers": found}, lambda: report_lines(answer))
    if choices.json and out is None:
        return
    from daemon.control import book

    file = out or choices.daemon.state / book.NAME
    try:
        book.save(book.build(found, answer, now=time.time()), file)
    except OSError as error:
        problem = f"{file}: the answer book cannot be written ({error.strerror}); --out FILE names another place"
        if out is not None:
            raise Refused(problem) from None
        click.echo(problem, err=True)  # who may only look at the state folder has the text all the same
        return
    click.echo(f"answer book: {file}", err=choices.json)


def _answers(choices: Choices) -> dict[str, Any] | None:
    """The seven answers; None where an older daemon does not have them, or nothing was left."""
    try:
        return last(choices, "/v1/answers", ANSWERS_NAME)
    except NoDaemon:
        return None
    except Refused as refused:
        click.echo(f"without the answers: {refused.message}", err=True)
        return None


def _report(choices: Choices) -> dict[str, Any]:
    return last(choices, "/v1/report", REPORT_NAME)


@click.command()
@common
@click.argument("question", type=click.Choice(QUESTIONS), metavar="QUESTION")
@click.option("--quick", "size", flag_value="quick", default=True, help="Minutes; says what it lacks.  [default]")
@click.option("--full", "size", flag_value="full", help="The protocol's sizes.")
@click.option("--behavior", metavar="NAME", help="About which behaviour  [default: the first one under training]")
@click.option("--served", is_flag=True, help="Ask the servers that answer people, not the trainer (q5).")
@click.option("--detach", is_flag=True, help="Queue it and return; `dreamctl answers` will have its answer.")
@pass_choices
def ask(choices: Choices, question: str, size: str, behavior: str | None, served: bool, detach: bool) -> None:
    """Have one of the seven questions answered, and follow it.

    \b
    q1  how few examples change a behaviour     q5  do steering vectors work
    q2  do dreams have the right difficulty     q6  does training help or hurt general skill
    q3  which attention heads change            q7  does GDN state become direction-shaped
    q4  does the memory graph notice a regression

    It runs as a job of the daemon, before the loop's next one. Ctrl-C leaves it running. An experiment that was
    cancelled or interrupted keeps what it measured: asking again goes on from there.

    \b
    Examples:
      dreamctl ask q5 --quick
      dreamctl ask q5 --served
      dreamctl ask q1 --full --behavior not_rushing --json
    """
    from daemon.control.following import follow

    daemon = choices.daemon
    asked = daemon.post(f"/v1/ask/{question}", {"size": size, "behavior": behavior, "served": served})
    if detach:
        choices.show(asked, lambda: [f"queued as {asked['job']}; `dreamctl cancel {asked['job']}` ends it"])
        return
    if asked.get("note") and not choices.json:
        click.echo(asked["note"], err=True)
    ended = follow(daemon, asked["job"], quiet=choices.json)
    finding = daemon.get(f"/v1/findings/{ended['notes']['finding']}")
    if choices.json:
        choices.show(finding, list)
        return
    from daemon.control.answers_view import finding_lines

    advice = [row for row in daemon.get("/v1/answers")["advice"] if row["finding"] == finding["id"]]
    choices.show(finding, lambda: finding_lines(finding, advice))


@click.command()
@common
@pass_choices
def answers(choices: Choices) -> None:
    """List the latest answer to each of the seven questions."""
    answer = last(choices, "/v1/answers", ANSWERS_NAME)
    if choices.json:
        choices.show(answer, list)
        return
    from daemon.control.answers_view import answer_lines

    choices.show(answer, lambda: answer_lines(answer, time.time()))


@click.command()
@common
@click.argument("act", type=click.Choice(("list", "show", "accept", "reject", "undo")), default="list", metavar="[ACT]")
@click.argument("name", required=False, metavar="[ID|KEY]")
@pass_choices
def advice(choices: Choices, act: str, name: str | None) -> None:
    """Show what the answers advise for the configuration; accept, reject or undo it.

    ACT is list, show, accept, reject or undo; an advice is named by the beginning of its id, or by its key. What is
    accepted takes effect at the next stage, and is kept with its evidence.

    \b
    Examples:
      dreamctl advice
      dreamctl advice accept guard.channels
      dreamctl advice undo guard.channels
    """
    from daemon.control.answers_view import advice_lines

    if act in ("list", "show"):
        rows = [
            row for row in last(choices, "/v1/answers", ANSWERS_NAME)["advice"]
            if not name or row["id"].startswith(name) or row["key"] == name
        ]  # fmt: skip
        choices.show(rows, lambda: advice_lines(rows, time.time()))
        return
    if not name:
        raise click.UsageError(f"`dreamctl advice {act}` takes the id or the key of an advice")
    done = choices.daemon.post(f"/v1/advice/{quote(name, safe='')}/{act}")
    before, value = json.dumps(done["before"]), json.dumps(done["value"])
    words = (
        f"{done['key']} stays {value}" if before == value else f"{done['key']} = {value} from now on; it was {before}"
    )
    choices.show(done, lambda: [words])


@click.command()
@common
@click.argument("job")
@pass_choices
def cancel(choices: Choices, job: str) -> None:
    """End an experiment at its next safe point; what it measured is kept."""
    answer = choices.daemon.post(f"/v1/jobs/{quote(job, safe='')}/cancel")
    choices.show(answer, lambda: ["it ends" if answer["cancelled"] else "it had ended already"])


@click.group()
def behavior() -> None:
    """Look at behaviours of your own before anything runs."""


@behavior.command()
@common
@click.argument("file", type=click.Path())
@click.option("--labels", metavar="FILE", type=click.Path(), help="Measure the judge's agreement with hand labels.")
@click.option("--config", metavar="FILE", type=click.Path(), help="The daemon's configuration  [default: its defaults]")
@pass_choices
def check(choices: Choices, file: str, labels: str | None, config: str | None) -> None:
    """Say what the behaviour in FILE lacks, and which question that weakens.

    Needs no daemon. Labels are JSON lines {"prompt", "answer", "passed"}; the agreement is kept beside FILE, and below
    `judge.agreement_floor` the judge will not gate. Ends with 1 when the behaviour cannot be used.

    \b
    Example:
      dreamctl behavior check behaviors/patience.toml --config config.toml
    """
    options = [f"--{name}={value}" for name, value in (("labels", labels), ("config", config)) if value]
    options += ["--json"] if choices.json else []
    # the check reads files and may load a model: that is not for this process, which starts at once
    done = subprocess.run([sys.executable, "-m", "daemon.behavior_check", *options, "--", file], check=False)
    sys.exit(done.returncode)


COMMANDS = (ask, answers, advice, cancel, report, behavior)

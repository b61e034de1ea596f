"""dreamctl: watch and steer a running dreamloop over its control socket.

Imports click and the standard library; rich comes in only where something is drawn.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click

from daemon.control import ANSWERS_NAME, REPORT_NAME
from daemon.control.connection import Daemon, NoDaemon, Refused, find_state

STAGES = ("listen", "dream", "grade", "learn", "judge", "guard", "cycle")
QUESTIONS = ("q1", "q2", "q3", "q4", "q5", "q6", "q7")
CHAT_SECONDS = 300.0
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Choices:
    """What was chosen for every command, before or after its name."""

    state: str | None = None
    json: bool = False

    @property
    def daemon(self) -> Daemon:
        return Daemon(find_state(self.state))

    def show(self, answer: Any, lines: Callable[[], list[str]]) -> None:
        """Print `answer` as JSON when that was asked for, else what `lines` makes of it."""
        if self.json:
            click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        else:
            for line in lines():
                click.echo(line)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        setattr(context.ensure_object(Choices), str(parameter.name), value)


def common(command: F) -> F:
    """--state and --json, on the group and on every command alike."""
    state = click.option(
        "--state", metavar="DIR", expose_value=False, callback=_remember,
        help="The daemon's state folder  [default: $DREAMLOOP_STATE, else .dreamloop here or above]",
    )  # fmt: skip
    as_json = click.option("--json", is_flag=True, expose_value=False, callback=_remember, help="Print JSON.")
    return state(as_json(command))


pass_choices = click.make_pass_decorator(Choices, ensure=True)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no daemon runs there, 4 not permitted.",
)
@common
def main() -> None:
    """Watch and steer a running dreamloop daemon.

    \b
    Examples:
      dreamctl status                     what it is doing
      dreamctl watch                      the same, live
      dreamctl chat                       talk to the model it serves
      dreamctl --state /srv/loop adapters --json
    """


@main.command()
@common
@pass_choices
def status(choices: Choices) -> None:
    """Show what the daemon is doing, what it serves and how that does."""
    from daemon.control.render import status_lines

    answer = choices.daemon.get("/v1/status")
    choices.show(answer, lambda: status_lines(answer))


@main.command()
@common
@click.option("--plain", is_flag=True, help="One line per happening, also in a terminal.")
@pass_choices
def watch(choices: Choices, plain: bool) -> None:
    """Watch the loop live; Ctrl-C ends it, the daemon goes on.

    Not in a terminal (or with --plain) it prints one line per happening; with --json one object per line.
    """
    from daemon.control.watching import lines, live

    if choices.json or plain or not sys.stdout.isatty():
        lines(choices.daemon, as_json=choices.json)
    else:
        live(choices.daemon)


@main.command()
@common
@pass_choices
def pause(choices: Choices) -> None:
    """Hold heavy work at its next safe point; listening goes on."""
    answer = choices.daemon.post("/v1/pause")
    choices.show(answer, lambda: ["paused; `dreamctl resume` goes on"])


@main.command()
@common
@pass_choices
def resume(choices: Choices) -> None:
    """Go on after a pause."""
    answer = choices.daemon.post("/v1/resume")
    choices.show(answer, lambda: ["running"])


@main.command()
@common
@click.argument("stage", type=click.Choice(STAGES), metavar="STAGE")
@pass_choices
def run(choices: Choices, stage: str) -> None:
    """Run one stage, or a whole cycle, now.

    STAGE is listen, dream, grade, learn, judge, guard or cycle.

    \b
    Example:
      dreamctl run cycle
    """
    answer = choices.daemon.post(f"/v1/run/{stage}")
    note = answer.get("note") or f"{stage} is queued"
    choices.show(answer, lambda: [str(note)])


@main.command()
@common
@pass_choices
def adapters(choices: Choices) -> None:
    """List every adapter with its parent, state, verdict and why."""
    answer = choices.daemon.get("/v1/adapters")
    if choices.json:
        choices.show(answer, list)
    elif not answer:
        click.echo("no adapter yet; the base model answers")
    else:
        from rich.console import Console

        from daemon.control.render import adapter_table

        # not a terminal: rich would fold the rows at 80 columns
        Console(width=None if sys.stdout.isatty() else 240).print(adapter_table(answer))


@main.command()
@common
@click.argument("adapter")
@pass_choices
def promote(choices: Choices, adapter: str) -> None:
    """Serve ADAPTER although the gate did not say so.

    It is recorded as your decision, and the guard watches it as any other. The beginning of an id will do.
    """
    answer = choices.daemon.post(f"/v1/promote/{quote(adapter, safe='')}", timeout=120)
    choices.show(answer, lambda: _serving(answer))


@main.command()
@common
@click.argument("adapter", required=False)
@pass_choices
def rollback(choices: Choices, adapter: str | None) -> None:
    """Take the serving adapter (or ADAPTER) back and serve its parent."""
    answer = choices.daemon.post("/v1/rollback", {"adapter": adapter}, timeout=120)
    choices.show(answer, lambda: _serving(answer))


def _serving(answer: dict[str, Any]) -> list[str]:
    from daemon.control.render import short

    return [f"{short(answer.get('serving'))} serves now; before it was {short(answer.get('before'))}"]


@main.command()
@common
@click.option("--all", "everything", is_flag=True, help="Every key, not only those that differ from the default.")
@pass_choices
def config(choices: Choices, everything: bool) -> None:
    """Show the daemon's configuration as TOML; --json always has every key."""
    from daemon.control.render import toml_lines

    answer = choices.daemon.get("/v1/config")
    rows = toml_lines(answer["config"], answer["changed"], everything)
    choices.show(answer["config"], lambda: rows or ["# everything is at its default; --all shows it"])


@main.command()
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
        return _last(choices, "/v1/answers", ANSWERS_NAME)
    except NoDaemon:
        return None
    except Refused as refused:
        click.echo(f"without the answers: {refused.message}", err=True)
        return None


def _report(choices: Choices) -> dict[str, Any]:
    return _last(choices, "/v1/report", REPORT_NAME)


def _last(choices: Choices, path: str, name: str) -> dict[str, Any]:
    """What the daemon answers or, when none runs, what the last one left in its state folder."""
    daemon = choices.daemon
    try:
        answer: dict[str, Any] = daemon.get(path, timeout=120)
        return answer
    except NoDaemon as absent:
        from daemon.control.render import ago

        file = daemon.state / name
        what = file.stem
        try:
            answer = json.loads(file.read_text(encoding="utf-8"))
            age = time.time() - file.stat().st_mtime
        except FileNotFoundError:
            raise NoDaemon(f"{absent.message}\nand it has left no {what} ({file})") from None
        except (OSError, ValueError) as error:
            raise Refused(f"{file}: the last {what} cannot be read: {error}") from None
        click.echo(f"no daemon is running; this is its last {what}, {ago(age)} old", err=True)
        return answer


@main.command()
@common
@click.argument("question", type=click.Choice(QUESTIONS), metavar="QUESTION")
@click.option("--quick", "size", flag_value="quick", default=True, help="Minutes; says what it lacks.  [default]")
@click.option("--full", "size", flag_value="full", help="The protocol's sizes.")
@click.option("--behavior", metavar="NAME", help="About which behaviour  [default: the first one under training]")
@click.option("--detach", is_flag=True, help="Queue it and return; `dreamctl answers` will have its answer.")
@pass_choices
def ask(choices: Choices, question: str, size: str, behavior: str | None, detach: bool) -> None:
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
      dreamctl ask q1 --full --behavior not_rushing --json
    """
    from daemon.control.following import follow

    daemon = choices.daemon
    asked = daemon.post(f"/v1/ask/{question}", {"size": size, "behavior": behavior})
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


@main.command()
@common
@pass_choices
def answers(choices: Choices) -> None:
    """List the latest answer to each of the seven questions."""
    answer = _last(choices, "/v1/answers", ANSWERS_NAME)
    if choices.json:
        choices.show(answer, list)
        return
    from daemon.control.answers_view import answer_lines

    choices.show(answer, lambda: answer_lines(answer, time.time()))


@main.command()
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
            row for row in _last(choices, "/v1/answers", ANSWERS_NAME)["advice"]
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


@main.command()
@common
@click.argument("job")
@pass_choices
def cancel(choices: Choices, job: str) -> None:
    """End an experiment at its next safe point; what it measured is kept."""
    answer = choices.daemon.post(f"/v1/jobs/{quote(job, safe='')}/cancel")
    choices.show(answer, lambda: ["it ends" if answer["cancelled"] else "it had ended already"])


@main.command()
@common
@click.option("--once", metavar="TEXT", help="Say one thing, print the answer, end.")
@click.option("--conversation", metavar="ID", help="Go on with an earlier conversation.")
@pass_choices
def chat(choices: Choices, once: str | None, conversation: str | None) -> None:
    """Talk to the model as it is served now; Ctrl-D ends.

    What you say is logged and learned from like any other conversation.

    \b
    Example:
      dreamctl chat --once "please sort the list with quicksort"
    """
    daemon = choices.daemon
    if once is not None:
        answer = _say(daemon, conversation, once)
        choices.show(answer, lambda: [str(answer["answer"])])
        return
    talking = sys.stdin.isatty()
    if talking:
        import readline  # noqa: F401 -- gives input() line editing and history

        daemon.get("/v1/status")  # no daemon: say so before anything is typed
        click.echo("Ctrl-D ends the conversation.", err=True)
    while True:
        try:
            text = input("you: " if talking else "")
        except (EOFError, KeyboardInterrupt):
            if talking:
                click.echo()
            return
        if not text.strip():
            continue
        answer = _say(daemon, conversation, text)
        conversation = answer["conversation"]
        speaker = f"{(answer.get('adapter') or 'base')[:8]}: " if talking else ""
        if choices.json:
            click.echo(json.dumps(answer, ensure_ascii=False))
        else:
            click.echo(f"{speaker}{answer['answer']}")


@main.group()
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


def _say(daemon: Daemon, conversation: str | None, text: str) -> dict[str, Any]:
    body = {"text": text, "conversation": conversation}
    answer: dict[str, Any] = daemon.post("/v1/chat", body, timeout=CHAT_SECONDS)
    return answer


if __name__ == "__main__":
    main()

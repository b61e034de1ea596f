"""dreamctl: watch and steer a running dreamloop over its control socket.

Imports click and the standard library; rich comes in only where something is drawn.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import quote

import click

from daemon.control.command import Choices, common, pass_choices
from daemon.control.connection import Daemon
from daemon.control.questions import COMMANDS

STAGES = ("listen", "dream", "grade", "learn", "judge", "guard", "cycle")
CHAT_SECONDS = 300.0


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


def _say(daemon: Daemon, conversation: str | None, text: str) -> dict[str, Any]:
    body = {"text": text, "conversation": conversation}
    answer: dict[str, Any] = daemon.post("/v1/chat", body, timeout=CHAT_SECONDS)
    return answer


for command in COMMANDS:
    main.add_command(command)


if __name__ == "__main__":
    main()

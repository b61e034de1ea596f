"""What dreamctl's commands share: the options that all of them take, where the daemon is, how an answer is printed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from daemon.control.connection import Daemon, NoDaemon, Refused, find_state

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


def last(choices: Choices, path: str, name: str) -> dict[str, Any]:
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

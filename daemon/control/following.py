"""Follows an experiment to its end: a progress bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import click

from daemon.control.connection import Daemon, NoDaemon, Refused, Unanswered

BETWEEN = 0.25  # seconds between two looks at the job
LINE_EVERY = 20.0  # seconds between two lines where there is no terminal
PATIENCE = 60.0  # seconds a daemon that restarts, or does not answer, is waited for
Look = Callable[[dict[str, Any]], None]


def follow(daemon: Daemon, job: str, *, quiet: bool) -> dict[str, Any]:
    """The job once it has ended. A daemon that restarts meanwhile goes on with it, and so does this.

    Raises Refused when the job failed or was cancelled. Ctrl-C leaves: the job goes on.
    """
    try:
        with _teller(quiet) as tell:
            ended = _wait(daemon, job, tell)
    except KeyboardInterrupt:
        click.echo(f"\nit goes on; `dreamctl cancel {job}` ends it, `dreamctl answers` has its answer", err=True)
        raise SystemExit(130) from None
    if ended["state"] == "cancelled":
        raise Refused("it was cancelled; what it measured so far is kept, and asking again goes on from there")
    if ended["state"] == "failed":
        raise Refused(str(ended.get("error") or "it failed without a reason; the daemon's log has the details"))
    return ended


def _wait(daemon: Daemon, job: str, tell: Look) -> dict[str, Any]:
    absent_since: float | None = None
    while True:
        try:
            found: dict[str, Any] = daemon.get(f"/v1/jobs/{job}")
        except (NoDaemon, Unanswered):  # one that is ending, gone, or busy for a moment
            absent_since = absent_since or time.monotonic()
            if time.monotonic() - absent_since > PATIENCE:
                raise
            time.sleep(4 * BETWEEN)
            continue
        absent_since = None
        if found["state"] not in ("queued", "running"):
            return found
        tell(found)
        time.sleep(BETWEEN)


class _Silent:
    """Tells nothing: for `--json`."""

    def __enter__(self) -> Look:
        return lambda job: None

    def __exit__(self, *_: object) -> None:
        pass


class _Lines:
    """A line when the state changes, and one now and then."""

    def __enter__(self) -> Look:
        self._last, self._said = 0.0, ""
        return self._tell

    def __exit__(self, *_: object) -> None:
        pass

    def _tell(self, job: dict[str, Any]) -> None:
        now = time.monotonic()
        if job["state"] != self._said or now - self._last >= LINE_EVERY:
            self._last, self._said = now, job["state"]
            click.echo(words(job), err=True)


class _Bar:
    """A progress bar on stderr."""

    def __enter__(self) -> Look:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
            console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._progress.start()
        self._task = self._progress.add_task("waiting", total=None)
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _tell(self, job: dict[str, Any]) -> None:
        self._progress.update(
            self._task, completed=job["done"], total=job["total"] or None, description=job["note"] or _standing(job)
        )


def words(job: dict[str, Any]) -> str:
    """Where a job stands, in one line."""
    share = f" {100 * job['done'] // job['total']} %" if job.get("total") else ""
    note = f"  {job['note']}" if job.get("note") else ""
    return f"{_standing(job)}{share}{note}"


def _standing(job: dict[str, Any]) -> str:
    if job["state"] == "running":
        return "measuring"
    return f"waiting to be tried again ({job['error']})" if job.get("error") else "waiting for the model to be free"


def _teller(quiet: bool) -> _Silent | _Lines | _Bar:
    if quiet:
        return _Silent()
    return _Bar() if sys.stderr.isatty() else _Lines()

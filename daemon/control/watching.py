"""`dreamctl watch`: the live view, or plain lines where there is no terminal."""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from typing import Any

import click

from daemon.control.connection import Daemon, NoDaemon
from daemon.control.picture import Picture
from daemon.control.render import status_lines


def lines(daemon: Daemon, *, as_json: bool) -> None:
    """First the status, then a line per happening until the daemon stops or Ctrl-C."""
    try:
        events = daemon.events()
        first = next(events, {})  # subscribed: nothing between the status and the first event is lost
        status = daemon.get("/v1/status")
        if as_json:
            click.echo(json.dumps({"event": "status", "at": time.time(), **status}, ensure_ascii=False))
        else:
            click.echo("\n".join(status_lines(status)))
        picture = Picture()
        for event in itertools.chain([first], events):
            if event:
                _tell(picture, event, as_json)
    except KeyboardInterrupt:
        return
    click.echo("the daemon has stopped", err=True)


def _tell(picture: Picture, event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(event, ensure_ascii=False))
        return
    picture.happenings.clear()
    picture.take(event)
    for happening in picture.happenings:
        clock = time.strftime("%H:%M:%S", time.localtime(happening.at))
        click.echo(f"{clock} {happening.sort:<8}{happening.words}")


def live(daemon: Daemon) -> None:
    """The live view until the daemon stops or Ctrl-C."""
    from daemon.terminal import BUSY, FASTEST, QUIET, View

    picture = Picture()
    picture.refresh(daemon.get("/v1/status"), daemon.get("/v1/adapters"))
    arriving: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_follow, args=(daemon, arriving), daemon=True).start()
    hint = f"Ctrl-C ends the view; the daemon goes on   dreamctl --state {daemon.state} pause | run cycle | chat"
    refreshed = time.monotonic()
    try:
        with View(picture, hint=hint) as view:
            while True:
                view.draw()
                time.sleep(FASTEST)
                try:
                    event = arriving.get(timeout=(BUSY if picture.work else QUIET) - FASTEST)
                except queue.Empty:
                    event = {}
                stale = False
                while event is not None:
                    picture.take(event)
                    stale = stale or event.get("event") not in (None, "progress")
                    try:
                        event = arriving.get_nowait()
                    except queue.Empty:
                        break
                if event is None:
                    break
                if stale or time.monotonic() - refreshed >= 2.0:
                    refreshed = time.monotonic()
                    picture.refresh(daemon.get("/v1/status"), daemon.get("/v1/adapters"))
    except KeyboardInterrupt:
        return
    except NoDaemon:
        pass
    click.echo("the daemon has stopped", err=True)


def _follow(daemon: Daemon, arriving: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    try:
        for event in daemon.events():
            if event:
                arriving.put(event)
    except click.ClickException:
        pass
    arriving.put(None)

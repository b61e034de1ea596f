"""The live view that `make run` shows in a terminal, and the same picture as SVG for the README.

Draws at most four times a second while something changes, once a second while jobs run, and every five seconds
otherwise, so that a quiet daemon stays quiet.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live

from daemon.control.panels import screen
from daemon.control.picture import Picture

FASTEST, BUSY, QUIET = 0.25, 1.0, 5.0  # seconds between two drawings
Status = Callable[[], Mapping[str, Any]]
Adapters = Callable[[], Sequence[Mapping[str, Any]]]


class View:
    """The screen while it is up: a context manager. It takes the terminal's second page and gives the first one back,
    with the last picture left on it."""

    def __init__(self, picture: Picture, *, hint: str = "", console: Console | None = None) -> None:
        self.picture = picture
        self.hint = hint
        self.console = console or Console()
        self._live = Live(console=self.console, auto_refresh=False, screen=True, redirect_stdout=False)

    def __enter__(self) -> View:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        width, height = self.console.size
        self.console.print(screen(self.picture, width, min(height - 1, 30), hint=" "))

    def draw(self) -> None:
        """Draw the picture as it is now, at the terminal's size as it is now."""
        width, height = self.console.size
        self._live.update(screen(self.picture, width, height, hint=self.hint), refresh=True)


class Terminal:
    """Shows a loop that lives in this event loop: `await run()` until its events end or it is cancelled.

    `status` and `adapters` are the loop's own (`daemon.control.operations.Operations`), `events` its feed, `recent`
    what happened before the view opened.
    """

    def __init__(
        self,
        status: Status,
        adapters: Adapters,
        events: AsyncIterator[Mapping[str, Any]],
        *,
        recent: Iterable[Mapping[str, Any]] = (),
        hint: str = "",
        console: Console | None = None,
    ) -> None:
        self.picture = Picture()
        self._status = status
        self._adapters = adapters
        self._events = events
        self._view = View(self.picture, hint=hint, console=console)
        self._changed = asyncio.Event()
        self._stale = True
        for event in recent:
            self.picture.take(event)

    async def run(self) -> None:
        """Draw until there is nothing more to come."""
        reading = asyncio.create_task(self._read(), name="terminal view")
        refreshed = 0.0
        try:
            with self._view:
                while True:
                    now = time.monotonic()
                    if self._stale or now - refreshed >= 2.0:
                        self._stale, refreshed = False, now
                        self.picture.refresh(self._status(), self._adapters())
                    self._changed.clear()
                    self._view.draw()
                    if reading.done():
                        return
                    await self._wait()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _wait(self) -> None:
        await asyncio.sleep(FASTEST)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout((BUSY if self.picture.work else QUIET) - FASTEST):
                await self._changed.wait()

    async def _read(self) -> None:
        try:
            async for event in self._events:
                self.picture.take(event)
                self._stale = self._stale or event.get("event") != "progress"
                self._changed.set()
        finally:
            self._changed.set()


def snapshot(
    status: Mapping[str, Any],
    events: Iterable[Mapping[str, Any]],
    width: int = 120,
    height: int = 40,
    *,
    adapters: Sequence[Mapping[str, Any]] = (),
    now: float | None = None,
    hint: str = "",
) -> str:
    """The view as a self-contained SVG: the README's picture, made from a real run's status and events."""
    console = _record(status, events, width, height, adapters, now, hint)
    svg = console.export_svg(title="dreamloop")
    # rich links web fonts; a picture in a repository must not fetch anything
    return re.sub(r"@font-face\s*\{.*?\}\s*", "", svg, flags=re.DOTALL)


def snapshot_text(
    status: Mapping[str, Any],
    events: Iterable[Mapping[str, Any]],
    width: int = 80,
    height: int = 24,
    *,
    adapters: Sequence[Mapping[str, Any]] = (),
    now: float | None = None,
    hint: str = "",
) -> str:
    """As `snapshot`, as plain text."""
    return _record(status, events, width, height, adapters, now, hint).export_text(styles=False)


def _record(
    status: Mapping[str, Any],
    events: Iterable[Mapping[str, Any]],
    width: int,
    height: int,
    adapters: Sequence[Mapping[str, Any]],
    now: float | None,
    hint: str,
) -> Console:
    picture = Picture()
    for event in events:
        picture.take(event)
    picture.refresh(status, adapters)  # after the events: the status is newer than they are
    console = Console(
        record=True, width=width, height=height, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(screen(picture, width, height, now, hint))
    return console

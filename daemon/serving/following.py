"""Follows the route file: the route at this moment, and a wait for the next one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from daemon.errors import ServeError
from daemon.serving.route import FILE, Route, read

log = logging.getLogger("dreamloop.gateway")
_TICK = 50_000_000  # nanoseconds: so young a file may have been replaced by one that looks alike
EVERY = 0.1  # seconds between two looks while requests wait for another route


class Following:
    """The route of a state folder. `now()` looks at the file, so a request never goes by a route that was replaced.

    A file that is missing or no route is a route of its own, that is down and says why: nobody knows then what was
    attested.
    """

    def __init__(self, state_dir: Path, alias: str = "dreamloop") -> None:
        self._state_dir = state_dir
        self._file = state_dir / FILE
        self._alias = alias  # of the last good route
        self._seen: tuple[int, int, int] | None = None
        self._route = Route(alias=alias, state="down", why="the route was not read yet")
        self._changed = asyncio.Event()
        self._looked = False

    def now(self) -> Route:
        """The route at this moment: one stat, and one read when the file is another."""
        try:
            found = self._file.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            fresh = abs(time.time_ns() - found.st_mtime_ns) < _TICK
        except OSError:
            seen, fresh = None, False
        if not self._looked or fresh or seen != self._seen:
            self._looked, self._seen = True, seen
            self._take()
        return self._route

    async def until(self, ready: Callable[[Route], bool], seconds: float) -> Route:
        """The first route that is ready, or the one at the end of `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not ready(self.now()):
                    await self._changed.wait()
        return self.now()

    def wake(self) -> None:
        """Have everybody who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def watch(self) -> None:
        """Look every now and then, for those who wait. Runs until it is cancelled."""
        while True:
            self.now()
            await asyncio.sleep(EVERY)

    def _take(self) -> None:
        try:
            route = read(self._state_dir)
            self._alias = route.alias
        except ServeError as error:
            route = Route(alias=self._alias, state="down", why=str(error))
        if route == self._route:
            return
        log.info("route: %s is %s, %s %s", route.alias, route.model or "nothing", route.state, route.why)
        self._route = route
        self.wake()

"""The replicas together: a request goes to one that was attested, waits for one that is down, and is tried again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from daemon.errors import BadAnswer, NotAttested, ServeError, ServerDown, ServerFull, ServerRefuses, WrongServer
from daemon.models.vllm.replica import Replica
from daemon.models.vllm.server import Forgotten
from daemon.models.vllm.steering import Steering
from daemon.models.vllm.versions import Version
from policies.serve.attestation import Attestation

log = logging.getLogger("dreamloop.serve")
T = TypeVar("T")
TRIES = 3  # of a request whose answer was none
_BETWEEN = 0.5  # seconds between two looks at a server that is down


class Fleet:
    """Async. `patience` seconds are waited for servers that are down, restarting, asleep or full."""

    def __init__(self, replicas: Sequence[Replica], *, patience: float) -> None:
        self.replicas = list(replicas)
        self.patience = patience
        self._settling = asyncio.Lock()

    async def settle(self, version: Version, *, again: bool = False) -> Attestation:
        """Have every replica that is up serve this version as trained; waits while none is up.

        One that is down, or that serves something else, is left out and looked at again with the next version or look.
        Raises ServeError when every replica serves something else, or none came up in time.
        """
        ends = time.monotonic() + self.patience
        async with self._settling:  # those who ask at the same time wait once, and are not each told of it
            return await self._settle(version, ends, again=again)

    async def _settle(self, version: Version, ends: float, *, again: bool) -> Attestation:
        told, tries = False, 0
        replicas, wrong = list(self.replicas), list[ServeError]()
        while True:
            await self._published(version, ends)
            found = await asyncio.gather(
                *(replica.settle(version, again=again) for replica in replicas), return_exceptions=True
            )
            trouble = [one for one in found if isinstance(one, BaseException)]
            for one in trouble:
                if not isinstance(one, ServeError):
                    raise one
            if up := [one for one in found if isinstance(one, Attestation)]:
                return max(up, key=lambda one: one.apart)
            # Forgotten: it was restarted, or another client unloaded the adapter, while it was attested
            waits = (ServerDown, ServerFull, Forgotten)
            tries += any(isinstance(one, BadAnswer) for one in trouble)
            waiting = [one for one in trouble if isinstance(one, waits if tries >= TRIES else (*waits, BadAnswer))]
            for replica, said in zip(list(replicas), found, strict=True):
                if isinstance(said, (NotAttested, WrongServer)):  # it stays wrong while another is waited for
                    wrong.append(said)
                    replicas.remove(replica)
            if not waiting or time.monotonic() > ends:
                raise [*wrong, *trouble][0]
            if not told:
                log.warning("%s; waiting up to %.0f s", waiting[0], self.patience)
                told = True
            await asyncio.sleep(_BETWEEN)

    async def ask(
        self,
        version: Version,
        body: Mapping[str, Any],
        read: Callable[[str, dict[str, Any]], T],
        steering: Steering | None = None,
    ) -> T:
        """One request on a version; `read(url, found)` turns what came back into the answer, or raises BadAnswer."""
        ends = math.inf  # patience begins with trouble: before it, a request may have waited long for its turn
        tries = 0
        while True:
            ready = [replica for replica in self.replicas if replica.serves(version)]
            if not ready:
                await self._ready(version)
                continue
            replica = min(ready, key=lambda one: one.in_flight)
            replica.in_flight += 1
            try:
                if steering:
                    await replica.steer(steering)
                found = await replica.server.complete({**body, "model": replica.name_of(version)})
                return read(replica.server.url, found)
            except (ServerDown, Forgotten) as error:  # it went away, or came back without its adapters
                replica.forget()
                replica.trouble = error
                ends = min(ends, time.monotonic() + self.patience)
                if time.monotonic() > ends:
                    raise
                log.warning("%s", error)
                await asyncio.sleep(_BETWEEN)
            except ServerFull:
                ends = min(ends, time.monotonic() + self.patience)
                if time.monotonic() > ends:
                    raise
                await asyncio.sleep(_BETWEEN)
            except BadAnswer as error:
                tries += 1
                if tries == TRIES:
                    replica.trouble = error
                    raise
                log.warning("%s; asked again", error)
            finally:
                replica.in_flight -= 1

    async def _ready(self, version: Version) -> None:
        """As `settle`, but whoever had to wait for another's settling finds it done."""
        ends = time.monotonic() + self.patience
        async with self._settling:
            if not any(replica.serves(version) for replica in self.replicas):
                await self._settle(version, ends, again=False)

    async def steer(self, steering: Steering, *, layers: int, hidden: int) -> None:
        """See that every replica that is up can steer so. Raises ServerRefuses."""
        found = await self.each(lambda replica: replica.steer(steering, layers=layers, hidden=hidden))
        trouble = [one for one in found if isinstance(one, ServeError)]
        if refused := [one for one in trouble if not isinstance(one, ServerDown)] or (
            trouble if len(trouble) == len(found) else []
        ):
            raise refused[0]

    async def steered(self, steering: Steering) -> None:
        """Was all of it steered? Raises BadAnswer when a server lost the vectors, or was started again, meanwhile."""
        for one in await self.each(lambda replica: replica.steered(steering)):
            if isinstance(one, BadAnswer):
                raise one

    def longest(self) -> list[int]:
        """How many tokens the servers take, where they say so."""
        return [replica.facts.longest for replica in self.replicas if replica.facts and replica.facts.longest]

    async def asleep(self, replica: Replica, level: int, mode: str) -> None:
        """Put a server to sleep and see that it sleeps: it may have long answers to finish first.

        One that is not there has nothing to free. Raises ServerDown for one that does not fall asleep in time: it may
        do so later, while whoever wanted its memory has gone on.
        """
        ends = time.monotonic() + self.patience
        try:
            await replica.server.health()
        except ServerDown:
            return
        with contextlib.suppress(ServerDown):  # it took longer than a request may
            await replica.server.sleep(level, mode)
        while not await replica.server.asleep():
            if time.monotonic() > ends:
                raise ServerDown(f"{replica.server.url}: did not fall asleep within {self.patience:.0f} s; see its log")
            await asyncio.sleep(_BETWEEN)

    async def unchanged(self) -> bool:
        """Are the servers still the processes that were attested? One that is not is forgotten.

        A server that was started again while nothing was asked of it goes unnoticed otherwise: with another base, or
        with adapters that its own command line names, it answers at once.
        """
        seen = [(replica, replica.facts) for replica in self.replicas if replica.facts is not None]
        found = await asyncio.gather(*(replica.server.counters() for replica, _ in seen), return_exceptions=True)
        same = True
        for (replica, facts), now in zip(seen, found, strict=True):
            if isinstance(now, BaseException) and not isinstance(now, ServeError):
                raise now
            if isinstance(now, BaseException) or now.started != facts.started:
                same = False
                if replica.facts is facts:
                    replica.forget()
        return same

    async def _published(self, version: Version, ends: float) -> None:
        """The trainer's word comes from another process: it may be a moment late."""
        wanted = [version, *(replica.base for replica in self.replicas)]
        while missing := [one for one in wanted if not one.published]:
            if time.monotonic() > ends:
                raise ServerRefuses(
                    f"{missing[0].folder}: nothing is published there, so what the server says of it cannot be "
                    "attested; the training process publishes it when the daemon starts"
                )
            await asyncio.sleep(_BETWEEN / 5)

    async def each(self, act: Callable[[Replica], Any]) -> list[Any]:
        """Something on every replica at once; a ServeError of one is in its place of the list."""
        found = await asyncio.gather(*(act(replica) for replica in self.replicas), return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, ServeError):
                raise one
        return list(found)

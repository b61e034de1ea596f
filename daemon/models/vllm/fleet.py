"""The replicas together: a request goes to one that was attested, waits for one that is down, and is tried again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from daemon.errors import BadAnswer, ServeError, ServerDown, ServerFull, ServerRefuses
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

    async def settle(self, version: Version, *, again: bool = False) -> Attestation:
        """Have every replica that is up serve this version as trained; waits while none is up.

        One that is down, or that serves something else, is left out and looked at again with the next version or look.
        Raises ServeError when every replica serves something else, or none came up in time.
        """
        ends = time.monotonic() + self.patience
        told = False
        while True:
            await self._published(version, ends)
            found = await asyncio.gather(
                *(replica.settle(version, again=again) for replica in self.replicas), return_exceptions=True
            )
            trouble = [one for one in found if isinstance(one, BaseException)]
            for one in trouble:
                if not isinstance(one, ServeError):
                    raise one
            if up := [one for one in found if isinstance(one, Attestation)]:
                return max(up, key=lambda one: one.apart)
            waiting = [one for one in trouble if isinstance(one, (ServerDown, ServerFull))]
            if not waiting or time.monotonic() > ends:
                raise trouble[0]
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
        ends = time.monotonic() + self.patience
        tries = 0
        while True:
            ready = [replica for replica in self.replicas if replica.serves(version)]
            if not ready:
                await self.settle(version)
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
                if time.monotonic() > ends:
                    raise
                log.warning("%s", error)
                await asyncio.sleep(_BETWEEN)
            except ServerFull:
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

    async def _published(self, version: Version, ends: float) -> None:
        """The trainer's word comes from another process: it may be a moment late."""
        while not version.published:
            if time.monotonic() > ends:
                raise ServerRefuses(
                    f"{version.folder}: nothing is published there, so what the server says of it cannot be attested; "
                    "the training process publishes it when the daemon starts"
                )
            await asyncio.sleep(_BETWEEN / 5)

    async def each(self, act: Callable[[Replica], Any]) -> list[Any]:
        """Something on every replica at once; a ServeError of one is in its place of the list."""
        found = await asyncio.gather(*(act(replica) for replica in self.replicas), return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, ServeError):
                raise one
        return list(found)

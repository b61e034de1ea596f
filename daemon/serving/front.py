"""The servers as one thing to start, watch and end: a managed server, what looks after it, and the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from daemon.config import Config
from daemon.executors.base import Served
from daemon.serving.gateway_process import Gateway
from daemon.serving.keeper import Keeper
from daemon.serving.managed import ManagedServer
from daemon.stations.choice import sharing

log = structlog.get_logger("dreamloop.serve")
PUBLISHED = "served"  # a folder of the state


def servers(config: Config, model: Path) -> Served:
    """The backend of `[serve]` with its options, for workers; `model` is the base's folder. Raises ConfigError."""
    serve, sleep = config.serve, sharing(config).sleep
    return Served(
        backend=serve.backend,
        options={
            "path": str(model),
            "urls": serve.urls,
            "publish": str(config.resolve(serve.publish) if serve.publish else config.state / PUBLISHED),
            "published_as": serve.published_as,
            "key_file": str(config.resolve(serve.api_key_file)) if serve.api_key_file else None,
            "concurrency": serve.concurrency,
            "timeout": serve.timeout_seconds,
            "patience": serve.patience_seconds,
            "tolerance": config.judge.parity_tolerance,
            "sleep": [sleep.level, sleep.mode] if sleep else None,
        },
        sleeps=sleep is not None,
    )


class Front:
    """`managed` is the server that the daemon runs, `gateway` where the alias is served; either may be None."""

    def __init__(self, keeper: Keeper, managed: ManagedServer | None, gateway: Gateway | None) -> None:
        self._keeper = keeper
        self._managed = managed
        self._gateway = gateway
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start what is configured. Raises ConfigError for a command or a port that cannot be had."""
        self._keeper.close_route("starting", "the daemon has not looked at the servers yet")
        if self._managed is not None:
            await self._managed.start()
        if self._gateway is not None:
            await self._gateway.start()
        self._keeping = asyncio.create_task(self._keeper.run(), name="keeper")
        self._keeping.add_done_callback(_fell)

    async def close(self) -> None:
        """End it: first nobody is routed any more, then the gateway finishes, then the server ends."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeper.close_route("down", "the daemon has ended")
        if self._gateway is not None:
            await self._gateway.close()
        if self._managed is not None:
            await self._managed.close()

    def happened(self, event: Mapping[str, Any]) -> None:
        """Whatever the loop tells."""
        self._keeper.happened(event)

    def status(self) -> dict[str, Any]:
        """For `dreamctl status`."""
        managed, gateway = self._managed, self._gateway
        return {
            **self._keeper.status(),
            "managed": {"state": managed.state, "why": managed.why, "starts": managed.starts} if managed else None,
            "gateway": gateway.url if gateway else None,
        }

    def problems(self) -> list[str]:
        """What is wrong, in words; a managed server that is down knows best why."""
        told = self._keeper.problems()
        if self._managed is not None and self._managed.state == "down":
            return [f"the managed server: {self._managed.why}", *told]
        return told


def _fell(task: asyncio.Task[None]) -> None:
    """A keeper that raised is a bug: the route stays as it was, and it is said loudly."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("nobody looks after the servers any more; restart the daemon", error=repr(error), exc_info=error)

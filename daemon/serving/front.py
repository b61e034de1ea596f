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
            "every": 60 * serve.attest_minutes,
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

    def begin(self) -> None:
        """What must be done before the loop and the gateway start: see `Keeper.begin`."""
        self._keeper.begin()

    async def start(self) -> None:
        """Start what is configured. Raises ConfigError for a command or a port that cannot be had."""
        if self._managed is not None:
            await self._managed.start()
        if self._gateway is not None:
            await self._gateway.start()
        self._keeping = asyncio.create_task(self._keeper.run(), name="keeper")

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
        """What is wrong, in words."""
        told = self._keeper.problems()
        managed, gateway = self._managed, self._gateway
        if managed is not None and managed.state == "down" and not any(managed.why in words for words in told):
            told.insert(0, f"the managed server: {managed.why}")
        if gateway is not None and self._keeping is not None and gateway.pid is None:
            told.append(f"nobody answers at {gateway.url}: the gateway ended and is started again; see the log")
        return told


def standing(managed: ManagedServer) -> tuple[str, str] | None:
    """How a server that the daemon runs stands while it is not up: its state, and why in words."""
    if managed.state == "up":
        return None
    return managed.state, f"the managed server: {managed.why or f'it starts; what it says is in {managed.log}'}"

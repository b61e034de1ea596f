"""An ASGI application behind a real port of the loopback, which can die and come back."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import uvicorn


class Port:
    """Listens in a thread of its own. `app` may be another one for every test."""

    def __init__(self) -> None:
        self.app: Any = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._number = free.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """The address, the same for as long as the port lives."""
        return f"http://127.0.0.1:{self._number}"

    @property
    def up(self) -> bool:
        """Does it listen?"""
        return self._thread is not None

    def start(self) -> None:
        """Listen; returns when connections are accepted."""
        if self._thread is not None:
            return
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so asyncio sets TCP_NODELAY
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self._number))
        listening.listen(256)
        config = uvicorn.Config(
            self._call, log_config=None, access_log=False, lifespan="off", ws="none", interface="asgi3"
        )
        self._server = server = uvicorn.Server(config)

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await server.serve(sockets=[listening])

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name="scripted-vllm", daemon=True)
        self._thread.start()
        while not server.started:
            time.sleep(0.001)

    def stop(self) -> None:
        """Die: connections break in the middle of whatever was said."""
        if self._thread is None:
            return
        server, loop = self._server, self._loop
        assert server is not None and loop is not None

        def die() -> None:
            for listening in server.servers:
                listening.close()
            for connection in list(server.server_state.connections):
                connection.transport.abort()  # type: ignore[union-attr]
            server.should_exit = server.force_exit = True

        loop.call_soon_threadsafe(die)
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()
        self._thread = None

    async def _call(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

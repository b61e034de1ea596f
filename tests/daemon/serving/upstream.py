"""A server that a test scripts, on loopback in a thread of its own; and a gateway process in front of such."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from daemon.serving.route import Route, write

ROOT = Path(__file__).parents[3]
PATIENT = 20.0  # seconds a test waits for what must come, before it fails


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Upstream:
    """Answers with the model it was asked for. `gate` is waited for in the middle of a stream, and before a "slow" one.

    `unknown` models are answered with vLLM's 404; `left` is set when a client went away before its answer's end.
    """

    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Upstream:
        """Listen; at the same port again after `stop`."""
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        listening.listen(256)
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=0,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Cut every answer off, as a kill does, and refuse connections from now on."""
        self._server.should_exit = True
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._abort)
        self._thread.join(PATIENT)
        assert not self._thread.is_alive()

    def _abort(self) -> None:
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self._loop = asyncio.get_running_loop()
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append(Seen(scope["method"], scope["path"], scope["query_string"].decode(), headers, body))
        work = asyncio.create_task(self._answer(scope["path"], body, send))
        gone = asyncio.create_task(receive())
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            self.left.set()
            work.cancel()
        gone.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def _answer(self, path: str, body: bytes, send: Any) -> None:
        asked = json.loads(body) if body[:1] == b"{" else {}
        model = asked.get("model", "")
        if path == "/v1/models":
            base = {"id": "base", "object": "model", "root": "/models/base", "parent": None, "max_model_len": 99}
            version = {"id": "dreamloop:a", "object": "model", "root": "/versions/a-1", "parent": "base"}
            await self._json(send, 200, {"object": "list", "data": [base, version]})
        elif model in self.unknown:
            words = {"message": f"The model `{model}` does not exist.", "type": "NotFoundError", "param": "model"}
            await self._json(send, 404, {"error": {**words, "code": 404}})
        elif path == "/v1/missing":
            await self._json(send, 404, {"detail": "Not Found"})
        elif asked.get("stream"):
            headers = [(b"content-type", b"text/event-stream"), (b"x-served-by", b"us"),
                       (b"connection", b"close, x-hop"), (b"x-hop", b"1")]  # fmt: skip
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for number in range(asked["stream"]):
                if number == 1:
                    await self._opened()
                piece = f"data: {model} {number}\n\n".encode()
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        else:
            if asked.get("slow"):
                await self._opened()
            await self._json(send, 200, {"model": model})

    async def _opened(self) -> None:
        while not self.gate.is_set():  # noqa: ASYNC110 - a thread's event
            await asyncio.sleep(0.005)

    async def _json(self, send: Any, status: int, content: Any) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(content).encode()})


def environment() -> dict[str, str]:
    """For a child that imports ours."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@contextlib.contextmanager
def gateway(state: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A gateway process at a free port: its address and the process."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "daemon.serving.gateway", "--state", str(state), "--port", "0", *options],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        yield line.removeprefix("listening on ").strip(), process
    finally:
        process.kill()
        process.communicate()


def serve(state: Path, *servers: Upstream, model: str = "dreamloop:a", steering: str = "") -> None:
    """Route the alias to these servers."""
    urls = tuple(server.url for server in servers)
    write(state, Route(alias="dreamloop", model=model, salt=f"salt {model}", steering=steering, urls=urls))

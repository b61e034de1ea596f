"""The gateway's ASGI application: takes a request, waits for a route, sends it on, and passes the answer back."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from daemon.serving import alias
from daemon.serving.following import Following
from daemon.serving.route import Route
from daemon.serving.upstream import Header, Replicas, end_to_end

log = logging.getLogger("dreamloop.gateway")
LARGEST = 256 * 2**20  # bytes of a request's body, which is held in memory
_AGAIN = 0.5  # seconds between two rounds while no replica takes a request
_RETRY_AFTER = 10  # seconds

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request: `path` is decoded, `target` is the raw path with the query, as it is sent on."""

    method: str
    path: str
    target: bytes
    headers: list[Header]
    body: bytes

    @property
    def is_json(self) -> bool:
        """Does it say that its body is JSON?"""
        return any(name == b"content-type" and b"json" in value.lower() for name, value in self.headers)


class Passing:
    """`patience` seconds are waited for a route that is open and a replica that takes connections."""

    def __init__(self, routes: Following, replicas: Replicas, *, patience: float) -> None:
        self._routes = routes
        self._replicas = replicas
        self._patience = patience
        self._leaving = False

    def leave(self) -> None:
        """Let nothing wait any longer."""
        self._leaving = True
        self._routes.wake()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """One request. It is dropped, and with it what a server does for it, when the client goes away."""
        body = bytearray()
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        more = int(announced) <= LARGEST  # h11 has seen that it is a number
        while more and len(body) <= LARGEST:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if int(announced) > LARGEST or len(body) > LARGEST:
            await _say(send, 413, "too_large", f"the request is larger than {LARGEST >> 20} MiB")
            return
        query = scope["query_string"]
        asked = Asked(
            method=scope["method"],
            path=scope["path"],
            target=scope["raw_path"] + (b"?" + query if query else b""),
            headers=list(scope["headers"]),
            body=bytes(body),
        )
        work = asyncio.create_task(self._answer(asked, send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if work.done():
                gone.cancel()
            else:
                work.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        if not work.cancelled():
            work.result()

    async def _answer(self, asked: Asked, send: Send) -> None:
        if asked.path == "/health":
            await self._health(send)
        elif not alias.allowed(asked.path):
            await _say(send, 403, "not_here", f"{asked.path} is no path for clients; ask the server itself")
        elif asked.path.rstrip("/") == "/v1/models" and asked.method == "GET":
            await self._models(asked, send)
        else:
            await self._pass_on(asked, send)

    async def _pass_on(self, asked: Asked, send: Send) -> None:
        deadline = time.monotonic() + self._patience
        unable: dict[str, str] = {}  # url -> why, in this round
        while True:
            route = await self._routes.until(lambda route: route.open or self._leaving, deadline - time.monotonic())
            if not route.open:
                await _not_now(send, route)
                return
            urls = [url for url in route.urls if url not in unable]
            if not urls:
                if self._leaving or time.monotonic() + _AGAIN > deadline:
                    await _say(send, 503, "down", f"{route.alias}: {'; '.join(unable.values())}", retry=True)
                    return
                await asyncio.sleep(_AGAIN)
                unable.clear()
                continue
            url = self._replicas.least_busy(urls)
            unable[url] = await self._try(asked, route, url, send)
            if not unable[url]:
                return

    async def _try(self, asked: Asked, route: Route, url: str, send: Send) -> str:
        """Send it to one replica and pass the answer back. A word on why not, when nothing was done; "" otherwise."""
        body = alias.rewritten(asked.path, asked.body, route) if asked.is_json else None
        model = route.model if body is not None else "other"
        send = _Began(send)
        try:
            async with self._replicas.sending(
                url, model, asked.method, asked.target, asked.headers, asked.body if body is None else body
            ) as response:
                if body is not None and response.status_code == 404:
                    content = b"".join([piece async for piece in response.aiter_raw()])
                    if _unknown(content, route.model):  # it was restarted, and its adapters are not loaded again yet
                        return f"{url} does not know {route.model} (yet)"
                    await _whole(send, response.status_code, response.headers.raw, content)
                else:
                    await _relay(response, send)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            return f"{url} takes no connections ({error or 'no answer'})"
        except httpx2.TransportError as error:
            # not tried again: a request that brings a server down would bring down the next one
            log.warning("%s went away during %s: %s", url, asked.path, error or type(error).__name__)
            if not send.began:
                await _say(send, 502, "lost", f"{url} went away while it answered ({error or type(error).__name__})")
            # where the answer had begun, it ends here without its end, which a client can tell
        return ""

    async def _models(self, asked: Asked, send: Send) -> None:
        """The server's models and the alias; the alias alone while no server can be asked."""
        route = self._routes.now()
        headers = [pair for pair in asked.headers if pair[0] != b"accept-encoding"]  # it is read here, not passed on
        for url in sorted(route.urls if route.open else (), key=self._replicas.load):
            try:
                async with self._replicas.sending(url, "other", "GET", asked.target, headers, b"") as response:
                    content = await response.aread()
            except httpx2.TransportError:
                continue
            if response.is_success:
                content = alias.listed(content, route)
            await _whole(send, response.status_code, [(b"content-type", b"application/json")], content)
            return
        only = json.dumps({"object": "list", "data": [alias.entry(route)]}).encode()
        await _whole(send, 200, [(b"content-type", b"application/json")], only)

    async def _health(self, send: Send) -> None:
        route = self._routes.now()
        said = {
            "state": route.state,
            "why": route.why,
            "alias": route.alias,
            "model": route.model,
            "steering": route.steering,
            "urls": list(route.urls),
            "in_flight": self._replicas.by_model(),
        }
        headers = [(b"content-type", b"application/json")]
        await _whole(send, 200 if route.open else 503, headers, json.dumps(said).encode())


class _Began:
    """A `send` that remembers whether the answer began."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.began = False

    async def __call__(self, message: Message) -> None:
        self.began = True
        await self._send(message)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _relay(response: httpx2.Response, send: Send) -> None:
    """Pass the response on as it comes; nothing is decoded, and nothing is gathered."""
    headers = end_to_end(response.headers.raw)
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    async for piece in response.aiter_raw():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _whole(send: Send, status: int, headers: list[Header], content: bytes) -> None:
    kept = [pair for pair in end_to_end(headers) if pair[0] != b"content-length"]
    kept.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": kept})
    await send({"type": "http.response.body", "body": content})


async def _not_now(send: Send, route: Route) -> None:
    words = {
        "asleep": f"{route.alias} is asleep while its GPU trains",
        "down": f"{route.alias} has no server that is up",
        "mismatch": f"{route.alias} is not served: the server does not answer with the version that was trained",
    }
    said = words.get(route.state, f"{route.alias} cannot answer now ({route.state})")
    await _say(send, 503, route.state, f"{said}; {route.why}" if route.why else said, retry=True)


async def _say(send: Send, status: int, code: str, words: str, *, retry: bool = False) -> None:
    """An error in OpenAI's form."""
    kind = "service_unavailable" if status in (502, 503) else "invalid_request_error"
    content = json.dumps({"error": {"message": words, "type": kind, "param": None, "code": code}}).encode()
    headers = [(b"content-type", b"application/json")]
    if retry:
        headers.append((b"retry-after", str(_RETRY_AFTER).encode()))
    await _whole(send, status, headers, content)


def _unknown(content: bytes, model: str) -> bool:
    """Is this a server's word that it has no model of that name?"""
    try:
        message = json.loads(content)["error"]["message"]
    except (ValueError, TypeError, KeyError):
        return False
    return isinstance(message, str) and model in message

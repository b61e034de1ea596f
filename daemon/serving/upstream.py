"""The gateway's side towards the servers: which replica, which headers, and a response that is read as it comes."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable

import httpx2

# RFC 9110, 7.6.1: these belong to one connection. `host` and `content-length` are written anew, uvicorn has answered
# an `expect` already.
_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_OURS = frozenset({b"host", b"content-length", b"expect"})
_CONNECT_SECONDS = 5.0
_IDLE_SECONDS = 2.0  # a connection is kept for; vLLM closes its own after 5, and a request must not meet that

Header = tuple[bytes, bytes]


class Replicas:
    """The servers. A request is counted from `sending` to the end of its answer."""

    def __init__(self, key: str = "") -> None:
        self._key = key.encode()
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),  # an answer may take as long as it takes
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=_IDLE_SECONDS),
            trust_env=False,  # a proxy of the environment is for the internet
            follow_redirects=False,
        )
        self.in_flight: Counter[tuple[str, str]] = Counter()  # (url, model)

    def least_busy(self, urls: Collection[str]) -> str:
        """The replica with the fewest requests in flight; the first of equals, whose cache is the warmest."""
        return min(urls, key=self.load)

    def load(self, url: str) -> int:
        """The requests in flight at a replica."""
        return sum(count for (at, _), count in self.in_flight.items() if at == url)

    @contextlib.asynccontextmanager
    async def sending(
        self, url: str, model: str, method: str, path: bytes, headers: Iterable[Header], body: bytes
    ) -> AsyncIterator[httpx2.Response]:
        """The response, not read yet; leaving closes it, and the server stops generating.

        `path` is raw, with the query. Raises httpx2.ConnectError or ConnectTimeout when nothing was sent, another
        httpx2.TransportError when the server went away later.
        """
        base = httpx2.URL(url)
        request = httpx2.Request(
            method,
            base.copy_with(raw_path=base.raw_path.rstrip(b"/") + path),
            headers=self._headers(headers),
            content=body or None,
        )
        place = (url, model)
        self.in_flight[place] += 1
        try:
            response = await self._client.send(request, stream=True)
            try:
                yield response
            finally:
                await response.aclose()
        finally:
            self.in_flight[place] -= 1
            if not self.in_flight[place]:
                del self.in_flight[place]

    def by_model(self) -> dict[str, int]:
        """Requests in flight per model name."""
        load: Counter[str] = Counter()
        for (_, model), count in self.in_flight.items():
            load[model] += count
        return dict(load)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _headers(self, headers: Iterable[Header]) -> list[Header]:
        kept = [pair for pair in end_to_end(headers) if pair[0] not in _OURS]
        if self._key and not any(name == b"authorization" for name, _ in kept):
            kept.append((b"authorization", b"Bearer " + self._key))
        return kept


def end_to_end(headers: Iterable[Header]) -> list[Header]:
    """The headers that travel on, names in lower case: without those of one connection, and those it names.

    >>> end_to_end([(b"Connection", b"close, X-Trace"), (b"X-Trace", b"1"), (b"Accept", b"*/*")])
    [(b'accept', b'*/*')]
    """
    pairs = [(name.lower(), value) for name, value in headers]
    named = {one.strip().lower() for name, value in pairs if name == b"connection" for one in value.split(b",")}
    return [(name, value) for name, value in pairs if name not in _HOP and name not in named]

"""The feed of happenings: many subscribers, and none of them can hold up the daemon.

Each subscriber has a bounded queue. When it is full, the oldest *progress* event in it goes (a newer one says the
same, better); when none is left, the oldest event goes. What was lost is counted and said: the next event a subscriber
gets after a loss is {"event": "missed", "count": n}.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any


class Subscription:
    """One subscriber's bounded queue, read as an asynchronous iterator; `aclose` ends it."""

    def __init__(self, limit: int, leave: Callable[[Subscription], None]) -> None:
        self._limit = limit
        self._leave = leave
        self._queue: deque[dict[str, Any]] = deque()
        self._missed = 0
        self._ready = asyncio.Event()
        self._closed = False

    def put(self, event: dict[str, Any]) -> None:
        """Queue `event`, dropping the oldest progress (else the oldest event) when the queue is full."""
        if len(self._queue) >= self._limit:
            victim = next((i for i, old in enumerate(self._queue) if old.get("event") == "progress"), 0)
            del self._queue[victim]
            self._missed += 1
        self._queue.append(event)
        self._ready.set()

    def close(self) -> None:
        """End the iteration after what is queued; closing twice is harmless."""
        self._closed = True
        self._ready.set()
        self._leave(self)

    async def aclose(self) -> None:
        """As `close`, under the name that asynchronous iterators have."""
        self.close()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while True:
            if self._missed:
                missed, self._missed = self._missed, 0
                return {"event": "missed", "count": missed, "at": time.time()}
            if self._queue:
                return self._queue.popleft()
            if self._closed:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()


class Feed:
    """Publish to every subscriber; remembers the last `keep` events so that a late viewer has something to show."""

    def __init__(self, *, limit: int = 256, keep: int = 64) -> None:
        self._limit = limit
        self._recent: deque[dict[str, Any]] = deque(maxlen=keep)
        self._subscriptions: set[Subscription] = set()

    def publish(self, event: str, **facts: Any) -> None:
        """Tell everyone. On the event loop's thread only; never blocks."""
        happening = {"event": event, "at": time.time(), **facts}
        if event != "progress":
            self._recent.append(happening)
        for subscription in tuple(self._subscriptions):
            subscription.put(happening)

    def subscribe(self) -> AsyncIterator[dict[str, Any]]:
        """Events from now on; queueing starts here, not at the first `anext`."""
        subscription = Subscription(self._limit, self._subscriptions.discard)
        self._subscriptions.add(subscription)
        return subscription

    def recent(self) -> list[dict[str, Any]]:
        """The last events, progress left out, oldest first."""
        return list(self._recent)

    @property
    def subscribers(self) -> int:
        """How many are listening."""
        return len(self._subscriptions)

    def close(self) -> None:
        """End every subscription."""
        for subscription in tuple(self._subscriptions):
            subscription.close()

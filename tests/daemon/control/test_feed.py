"""The feed: bounded, ordered, and honest about what it lost."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from daemon.control.feed import Feed


async def drain(feed: Feed, subscription: Any) -> list[dict[str, Any]]:
    feed.close()
    return [event async for event in subscription]


@given(st.lists(st.sampled_from(["progress", "log"]), max_size=40), st.integers(1, 8))
def test_nothing_is_lost_in_silence(kinds: list[str], limit: int) -> None:
    """What arrives plus what is said to be missed is what was published, in order, within the limit; and no `log` is
    lost while it could have been a `progress`."""

    async def check() -> None:
        feed = Feed(limit=limit)
        subscription = feed.subscribe()
        for number, kind in enumerate(kinds):
            feed.publish(kind, number=number)
        got = await drain(feed, subscription)
        missed = sum(event["count"] for event in got if event["event"] == "missed")
        seen = [event["number"] for event in got if event["event"] != "missed"]
        assert len(seen) + missed == len(kinds)
        assert len(seen) <= limit
        assert seen == sorted(seen)
        logs = [number for number, kind in enumerate(kinds) if kind == "log"]
        if len(logs) < limit:
            assert set(logs) <= set(seen)

    asyncio.run(check())


def test_the_newest_progress_survives() -> None:
    """A reader that was slow sees where the job is now, not where it was."""

    async def check() -> None:
        feed = Feed(limit=3)
        subscription = feed.subscribe()
        for number in range(10):
            feed.publish("progress", done=number)
        assert [event.get("done") for event in await drain(feed, subscription)] == [None, 7, 8, 9]

    asyncio.run(check())


def test_each_subscriber_has_its_own_queue() -> None:
    """One that never reads costs another nothing."""

    async def check() -> None:
        feed = Feed(limit=2)
        feed.subscribe()
        reader = feed.subscribe()
        got = []
        for number in range(6):
            feed.publish("log", number=number)
            got.append((await anext(reader))["number"])
        assert got == list(range(6))

    asyncio.run(check())


def test_a_waiting_reader_wakes_for_an_event_and_for_the_end() -> None:
    """A reader that waits gets the next event, and StopAsyncIteration when the feed closes."""

    async def check() -> None:
        feed = Feed()
        subscription = feed.subscribe()
        waiting = asyncio.create_task(anext(subscription))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        feed.publish("log", message="here")
        assert (await waiting)["message"] == "here"
        ending = asyncio.create_task(anext(subscription, None))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        feed.close()
        assert await ending is None
        assert feed.subscribers == 0

    asyncio.run(check())


def test_a_late_viewer_is_told_what_happened() -> None:
    """`recent` has the last events, without progress."""
    feed = Feed(keep=2)
    for kind in ("log", "progress", "verdict", "progress", "alarm"):
        feed.publish(kind)
    assert [event["event"] for event in feed.recent()] == ["verdict", "alarm"]

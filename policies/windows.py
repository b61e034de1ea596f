"""When heavy work may run: always, when nobody has talked for a while, or in a nightly window. Pure."""

from __future__ import annotations

from datetime import datetime, time


def is_open(window: str, *, now: datetime, idle_seconds: float, idle_after_seconds: float) -> bool:
    """May heavy work run now? `window` is "always", "idle" or "HH:MM-HH:MM" in local time (it may cross midnight).

    >>> is_open("22:00-05:00", now=datetime(2026, 1, 1, 23, 30), idle_seconds=0, idle_after_seconds=600)
    True
    >>> is_open("idle", now=datetime(2026, 1, 1, 12), idle_seconds=30, idle_after_seconds=600)
    False
    """
    if window == "always":
        return True
    if window == "idle":
        return idle_seconds >= idle_after_seconds
    start, end = (time.fromisoformat(part) for part in window.split("-"))
    at = now.time()
    return start <= at < end if start <= end else at >= start or at < end

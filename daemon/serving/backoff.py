"""How long to wait before something that ended is started again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Backoff:
    """Doubles from `first` to `most` seconds; what ran for `healthy` seconds begins anew.

    >>> backoff = Backoff(healthy=120.0)
    >>> [backoff.after(5.0) for _ in range(8)], backoff.after(600.0)
    ([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0], 1.0)
    """

    first: float = 1.0
    most: float = 60.0
    healthy: float = 60.0
    _next: float = 0.0

    def after(self, ran: float) -> float:
        """Seconds to wait after something ran, in good health, for `ran` seconds."""
        if ran >= self.healthy or not self._next:
            self._next = self.first
        wait, self._next = self._next, min(self._next * 2, self.most)
        return wait

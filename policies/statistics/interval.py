"""The interval that every estimate travels with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, its confidence limits, and how many independent units it rests on."""

    value: float
    low: float
    high: float
    n: int

    def __contains__(self, number: float) -> bool:
        """Whether the limits hold `number`.

        >>> 0 in Interval(0.1, -0.2, 0.4, 10)
        True
        """
        return self.low <= number <= self.high

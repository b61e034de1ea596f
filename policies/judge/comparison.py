"""A paired comparison of two measurements, and how the gate words it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from policies.records import Decision, Measurement
from policies.statistics.interval import Interval
from policies.statistics.noninferiority import Standing, noninferiority, required_samples


class NotPaired(ValueError):
    """Two measurements cannot be compared item by item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same probes on parent and candidate (values in [0, 1], 1 = passed), and on the base when that is neither."""

    parent: Measurement
    candidate: Measurement
    anchor: Measurement | None = None

    @classmethod
    def pool(cls, pairs: Sequence[Pair]) -> Pair:
        """All probes of several pairs as one; the anchor only when every pair has one. Needs at least one pair."""
        anchors = [pair.anchor for pair in pairs if pair.anchor is not None]
        return cls(
            parent=_together([pair.parent for pair in pairs]),
            candidate=_together([pair.candidate for pair in pairs]),
            anchor=_together(anchors) if len(anchors) == len(pairs) else None,
        )


@dataclass(frozen=True, slots=True)
class Level:
    """One-sided confidences: of showing non-inferiority, and of calling something worse.

    Every comparison must *show* non-inferiority, so that error is not multiplied by their number; but *any* of them
    rejects by being worse, so that one is: it is divided among them.
    """

    shown: float = 0.95
    worse: float = 0.95


@dataclass(frozen=True, slots=True)
class Line:
    """One check's word, and the numbers behind it. `unresolved`: more answers would settle it."""

    name: str
    says: Decision
    sentence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    unresolved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Failure rates before and after, and the change of the *pass* rate with its limits."""

    before: float
    after: float
    change: Interval
    standing: Standing
    differences: tuple[float, ...]
    needed: int

    @property
    def rates(self) -> str:
        return f"{self.before:.1%} -> {self.after:.1%}"

    @property
    def limits(self) -> str:
        """The change of the failure rate in points with its limits."""
        change = self.change
        return f"{-100 * change.value:+.1f} points, between {-100 * change.high:+.1f} and {-100 * change.low:+.1f}"

    @property
    def numbers(self) -> dict[str, Any]:
        change = self.change
        return {
            "before": self.before,
            "after": self.after,
            "change": change.value,
            "low": change.low,
            "high": change.high,
            "n": change.n,
            "standing": self.standing,
        }


def compare(pair: Pair, delta: float, level: Level) -> Compared:
    """Compare candidate with parent on the probes both answered.

    Raises NotPaired when they share none, or a value is not within [0, 1].
    """
    before, after = _matched(pair.parent, pair.candidate)
    result = noninferiority(before, after, delta=delta, confidence=level.shown, worse_confidence=level.worse)
    differences = tuple(b - a for a, b in zip(before, after, strict=True))
    # the discordance of single answers under no change, from the rates: an upper guess, as it ignores the pairing
    passed = sum(before) / len(before)
    return Compared(
        before=1 - passed,
        after=1 - sum(after) / len(after),
        change=result.change,
        standing=result.standing,
        differences=differences,
        needed=required_samples(delta, max(2 * passed * (1 - passed), 0.02)),
    )


def decline(pair: Pair, delta: float, level: Level) -> Line | None:
    """Whether the candidate has come to lie delta or more below the base, in whatever small steps; None if not."""
    if pair.anchor is None or pair.anchor.adapter == pair.parent.adapter:
        return None
    result = compare(Pair(parent=pair.anchor, candidate=pair.candidate), delta, level)
    if result.change.value > -delta:
        return None
    says: Decision = "reject" if result.standing == "worse" else "hold"
    sentence = f"are {result.after:.1%}, and were {result.before:.1%} on the base: more than {delta:.1%} in all"
    return Line("decline", says, sentence, {"base": result.before}, unresolved=says == "hold")


def _matched(first: Measurement, second: Measurement) -> tuple[list[float], list[float]]:
    for measurement in (first, second):
        if len(measurement.items) != len(measurement.values):
            raise NotPaired(f"{len(measurement.items)} probes have {len(measurement.values)} values")
        # written so that NaN fails it
        if not all(0 <= value <= 1 for value in measurement.values):
            raise NotPaired("a probe's value is not within 0 and 1")
    later = dict(zip(second.items, second.values, strict=True))
    shared = [(value, later[item]) for item, value in zip(first.items, first.values, strict=True) if item in later]
    if not shared:
        raise NotPaired("parent and candidate were not measured on the same probes")
    return [a for a, _ in shared], [b for _, b in shared]


def _together(measurements: Sequence[Measurement]) -> Measurement:
    first = measurements[0]
    values = tuple(value for m in measurements for value in m.values)
    items = tuple(f"{place}/{item}" for place, m in enumerate(measurements) for item in m.items)
    return Measurement(
        id="",
        probe=first.probe,
        adapter=first.adapter,
        behavior="",
        kind=first.kind,
        band="",
        split=first.split,
        value=sum(values) / len(values) if values else 0.0,
        low=0.0,
        high=1.0,
        n=len(values),
        items=items,
        values=values,
        cycle=first.cycle,
        at=first.at,
    )

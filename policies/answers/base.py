"""What every answer has, whatever was asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from policies.statistics.interval import Interval

NOT_IDENTIFIED = "not identified"  # a legal answer everywhere: more data is needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Something that had to hold for the answer to be believed."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A verdict with what makes it believable.

    `estimate` and its 95 % limits are in `unit`; `n` counts independent units; `null` says what chance or a placebo
    gives, by name; `rule` is the verdict's rule and `would_change` what would change it, in words; `figures` are plain
    data for `daemon.control.book`; `short` says in sentences what falls short of the protocol; `numbers` is whatever
    else `advise` or a reader needs.
    """

    verdict: str
    sentence: str
    estimate: float | None
    low: float | None
    high: float | None
    unit: str
    n: int
    seeds: Sequence[int]
    null: Mapping[str, Any]
    rule: str
    would_change: str
    controls: Sequence[Control] = ()
    figures: Sequence[Mapping[str, Any]] = ()
    short: Sequence[str] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def evidence(self) -> dict[str, Any]:
        """Everything but the columns of a finding, as plain data; numbers that are not finite become None."""
        everything = {
            "unit": self.unit,
            "seeds": list(self.seeds),
            "null": dict(self.null),
            "rule": self.rule,
            "would_change": self.would_change,
            "controls": [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in self.controls],
            "figures": [dict(figure) for figure in self.figures],
            "short": list(self.short),
            "numbers": dict(self.numbers),
        }
        plain = finite(everything)
        assert isinstance(plain, dict)
        return plain


@overload
def plain(found: Interval) -> dict[str, float]: ...
@overload
def plain(found: None) -> None: ...
@overload
def plain(found: Interval | None) -> dict[str, float] | None: ...
def plain(found: Interval | None) -> dict[str, float] | None:
    """An estimate with its limits as a finding's `numbers` keep it.

    >>> plain(Interval(0.5, 0.25, 0.75, 9)), plain(None)
    ({'value': 0.5, 'low': 0.25, 'high': 0.75}, None)
    """
    return None if found is None else {"value": found.value, "low": found.low, "high": found.high}


def finite(value: Any) -> Any:
    """Plain data without NaN, infinities, NumPy types and tuples: what JSON and every reader understands.

    >>> finite({"a": (1.0, float("nan"))})
    {'a': [1.0, None]}
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value

"""A finding's numbers in words, the same on the terminal and in the answer book. What is missing is said, not raised.

What comes in is JSON of the daemon or of a file: numbers may be null, and names are a user's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MISSING = "–"
SIZES = {"quick": "quick run", "full": "full protocol", "live": "live, beside the loop"}
UNIDENTIFIED = "not identified"


def one_line(words: object) -> str:
    """One line without control characters: what a model or a user wrote must not steer the terminal.

    >>> one_line("two\\nlines \\x1b[2J"), one_line(None)
    ('two lines [2J', '')
    """
    return "" if words is None else " ".join("".join(c if c.isprintable() else " " for c in str(words)).split())


def finite(value: object) -> float | None:
    """A finite number, else None; a truth value is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def mapping(value: object) -> Mapping[str, Any]:
    """`value` when it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> list[Any]:
    """`value` as a list when it is one, else an empty one."""
    return list(value) if isinstance(value, (list, tuple)) else []


def objects(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list."""
    return [item for item in items(value) if isinstance(item, Mapping)]


def number(value: object) -> str:
    """Three significant digits, with a real minus sign.

    >>> number(4.1234), number(-0.02), number(12345), number(1e-7), number(3.0), number(None)
    ('4.12', '−0.02', '12,345', '1e-07', '3', '–')
    """
    found = finite(value)
    if found is None:
        return MISSING
    words = f"{found:,.0f}" if 1000 <= abs(found) < 1e9 else f"{found:.3g}"
    return words.replace("-", "−", 1) if words.startswith("-") else words


def interval(facts: Mapping[str, Any]) -> str:
    """The limits as [low, high]; an end that is not known (or infinite) is a question mark.

    >>> interval({"low": 2.8, "high": None}), interval({})
    ('[2.8, ?]', '–')
    """
    low, high = (facts.get(end) for end in ("low", "high"))
    if finite(low) is None and finite(high) is None:
        return MISSING
    return f"[{number(low)}, {number(high)}]".replace(MISSING, "?")


def unit(finding: Mapping[str, Any]) -> str:
    """What the estimate is counted in."""
    return one_line(mapping(finding.get("evidence")).get("unit"))


def estimate(finding: Mapping[str, Any]) -> str:
    """Estimate, interval and unit.

    >>> estimate({"estimate": 4.1, "low": 2.9, "high": 5.6, "evidence": {"unit": "examples"}})
    '4.1 [2.9, 5.6] examples'
    """
    limits = interval(finding)
    if finite(finding.get("estimate")) is None and limits == MISSING:
        return MISSING
    parts = [number(finding.get("estimate")), "" if limits == MISSING else limits, unit(finding)]
    return " ".join(part for part in parts if part)


def null(finding: Mapping[str, Any]) -> str:
    """What the estimate was compared with.

    >>> null({"evidence": {"null": {"name": "shuffled labels", "value": 0.01, "low": -0.02, "high": 0.04, "p": 0.4}}})
    'shuffled labels: 0.01 [−0.02, 0.04], p = 0.4'
    """
    facts = mapping(mapping(finding.get("evidence")).get("null"))
    value, limits, p = number(facts.get("value")), interval(facts), number(facts.get("p"))
    told = " ".join(part for part in (value, limits) if part != MISSING)
    told = ", ".join(part for part in (told, "" if p == MISSING else f"p = {p}") if part)
    name = one_line(facts.get("name"))
    return f"{name}: {told}" if name and told else name or told or MISSING


def seeds(finding: Mapping[str, Any]) -> str:
    """How many seeds, and which when they are listed.

    >>> seeds({"evidence": {"seeds": [0, 1, 2]}}), seeds({"evidence": {"seeds": 5}})
    ('3 (0, 1, 2)', '5')
    """
    found = mapping(finding.get("evidence")).get("seeds")
    if isinstance(found, (list, tuple)):
        some = ", ".join(one_line(seed) for seed in found[:10]) + (", …" if len(found) > 10 else "")
        return f"{len(found)} ({some})" if found else MISSING
    return number(found)


def held(control: Mapping[str, Any]) -> str:
    """A control's state: "holds", "fails" or "not run"."""
    return {True: "holds", False: "fails"}.get(control.get("ok"), "not run")  # type: ignore[arg-type]


def sentence(finding: Mapping[str, Any]) -> str:
    """The verdict in one plain sentence; the bare verdict when there is no sentence."""
    return one_line(finding.get("sentence")) or one_line(finding.get("verdict")) or "no verdict"

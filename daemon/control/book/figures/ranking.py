"""Ranked values (such as the change of each head), the null's band, and which of them stand out of it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daemon.control.book import drawing, palette
from daemon.control.book.figures import Table
from daemon.control.wording import interval, mapping, number, objects, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED = 8  # of those that stand out, so many are named in the figure


def draw(figure: Mapping[str, Any], canvas: Figure) -> None:
    """Largest first. What is significant is filled, the rest hollow."""
    rows = _ranked(figure)
    drawing.some([drawing.scalar(row.get("value")) for row in rows])
    axes = canvas.subplots()
    null = mapping(figure.get("null"))
    low, high = (drawing.scalar(null.get(end)) for end in ("low", "high"))
    size = 36 if len(rows) <= 60 else 16
    for significant, label in ((True, "beyond the null"), (False, "not beyond it")):
        some = [(n, row) for n, row in enumerate(rows, 1) if bool(row.get("significant")) is significant]
        if not some:
            continue
        x = [float(n) for n, _ in some]
        values, lows, highs = (drawing.floats([row.get(k) for _, row in some]) for k in ("value", "low", "high"))
        color = palette.SERIES[1] if significant else palette.SERIES[0]
        drawing.bars(axes, x, values, lows, highs, color)
        face = color if significant else "none"
        axes.scatter(x, values, s=size, marker="D" if significant else "o", facecolors=face, edgecolors=color,
                     label=label, zorder=3)  # fmt: skip
    if math.isfinite(high):
        axes.axhspan(low if math.isfinite(low) else 0, high, color=palette.BAND, lw=0, zorder=0, label="null band")
    if words := _named(rows):
        axes.text(0.98, 0.97, words, transform=axes.transAxes, ha="right", va="top", fontsize=11.5, linespacing=1.3)
    axes.grid(visible=False, axis="x")
    axes.locator_params(axis="x", integer=True)
    drawing.labels(axes, figure, "rank")
    drawing.legend(canvas, axes)


def _ranked(figure: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    def last_if_unknown(row: Mapping[str, Any]) -> float:
        value = drawing.scalar(row.get("value"))
        return -value if math.isfinite(value) else math.inf

    return sorted(objects(figure.get("items")), key=last_if_unknown)


def _named(rows: Sequence[Mapping[str, Any]]) -> str:
    found = [drawing.name(row, 14) for row in rows if row.get("significant")]
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return textwrap.fill(", ".join(found[:NAMED]) + more, 26) if found else ""


def describe(figure: Mapping[str, Any]) -> str:
    """How many stand out, which lead, and the null."""
    rows = _ranked(figure)
    beyond = [one_line(row.get("name")) for row in rows if row.get("significant")]
    lead = ", ".join(f"{one_line(row.get('name'))} {number(row.get('value'))}" for row in rows[:5])
    which = f": {', '.join(beyond[:20])}" if beyond else ""
    band = interval(mapping(figure.get("null")))
    return f"{len(rows)} ranked, {len(beyond)} beyond the null {band}{which}. The largest are {lead}."


def table(figure: Mapping[str, Any]) -> Table:
    """A row per item, largest first."""
    rows: list[tuple[object, ...]] = [
        (n, one_line(row.get("name")), drawing.told(row), "yes" if row.get("significant") else "no")
        for n, row in enumerate(_ranked(figure), 1)
    ]
    return Table(("rank", "name", "value", "beyond the null"), rows)

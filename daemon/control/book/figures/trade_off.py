"""Delay against false alarms, a line per channel; the nearer to the lower left corner, the better the detector."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daemon.control.book import drawing, palette
from daemon.control.book.figures import Table
from daemon.control.wording import mapping, number, objects, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(figure: Mapping[str, Any], canvas: Figure) -> None:
    """False alarms on a logarithmic axis where they are all positive and far apart."""
    axes = canvas.subplots()
    everything: list[float] = []
    for n, row in enumerate(objects(figure.get("series"))):
        x, y = _points(row)
        axes.plot(x, y, **palette.series(n), label=drawing.name(row))
        everything += x
    drawing.some(everything)
    x, y = _points(mapping(figure.get("floor")))
    if x:
        axes.plot(x, y, color=palette.MUTED, ls=(0, (3, 3)), marker="x", lw=1.4, label="fastest possible")
    known = [value for value in everything + x if math.isfinite(value)]
    if min(known) > 0 and max(known) / min(known) > 20:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: number(value))
    axes.set_ylim(bottom=0)
    drawing.labels(axes, figure, "false alarms per 1,000 cycles", "delay")
    drawing.legend(canvas, axes)


def _points(row: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """x and y of a line, or of a single point, sorted by x."""
    x, y = (value if isinstance(value, (list, tuple)) else [value] for value in (row.get("x"), row.get("y")))
    pairs = zip(drawing.floats(x), drawing.floats(y, len(x)), strict=True)
    known = sorted((a, b) for a, b in pairs if math.isfinite(a) and math.isfinite(b))
    return [a for a, _ in known], [b for _, b in known]


def describe(figure: Mapping[str, Any]) -> str:
    """Each channel's delay at its least and its largest number of false alarms."""
    told = []
    for row in objects(figure.get("series")):
        x, y = _points(row)
        if x:
            told.append(f"{one_line(row.get('name'))}: delay {_at(x, y, 0)}, delay {_at(x, y, -1)}.")
    return " ".join(told)


def _at(x: Sequence[float], y: Sequence[float], index: int) -> str:
    return f"{number(y[index])} at {number(x[index])} false alarms"


def table(figure: Mapping[str, Any]) -> Table:
    """A row per point."""
    rows: list[tuple[object, ...]] = []
    floor = mapping(figure.get("floor"))
    for row in [*objects(figure.get("series")), *([{**floor, "name": "floor"}] if floor else [])]:
        rows += [(one_line(row.get("name")), x, y) for x, y in zip(*_points(row), strict=True)]
    return Table(
        ("channel", one_line(figure.get("x_label")) or "false alarms", one_line(figure.get("y_label")) or "delay"), rows
    )

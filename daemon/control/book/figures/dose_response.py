"""Dose-response: what so many examples do, with intervals, the placebo arm, the fitted curve and where it saturates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daemon.control.book import drawing, palette
from daemon.control.book.figures import Table
from daemon.control.wording import interval, mapping, number, objects, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(figure: Mapping[str, Any], canvas: Figure) -> None:
    """Doses on a logarithmic axis that has a place for zero."""
    doses = drawing.floats(figure.get("doses"))
    axes = canvas.subplots()
    placebos = mains = 0
    values = []
    for row in objects(figure.get("series")):
        if row.get("role") == "placebo":
            style, placebos = palette.control(placebos), placebos + 1
        else:
            style, mains = palette.series(mains), mains + 1
        if figure.get("fit") and row.get("role") != "placebo":
            style["linestyle"] = "none"  # the curve leads the eye
        values += drawing.line(axes, doses, row, style, drawing.name(row))
    drawing.some(doses)
    drawing.some(values)
    fit = mapping(figure.get("fit"))
    if x := drawing.floats(fit.get("x")):
        axes.plot(x, drawing.floats(fit.get("y"), len(x)), color=palette.SERIES[0], lw=2, label="fitted curve")
    for mark in objects(figure.get("marks")):
        _mark(axes, mark)
    known = sorted({dose for dose in doses if math.isfinite(dose)})
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    axes.set_xlim(min(known) - 0.35, max(known) * 1.3 + 0.1)
    named = _apart(known, [float(x) for x in axes.xaxis.get_transform().transform(known)])
    axes.set_xticks(known, [number(dose) if dose in named else "" for dose in known])
    axes.set_xticks([], minor=True)
    axes.grid(visible=False, axis="x")
    drawing.labels(axes, figure, "examples")
    drawing.legend(canvas, axes)


def _apart(doses: Sequence[float], places: Sequence[float]) -> set[float]:
    """The doses that can be named without their names touching, from the largest down."""
    room = 0.065 * (places[-1] - places[0])
    named: list[tuple[float, float]] = []
    for dose, place in zip(reversed(doses), reversed(places), strict=True):
        if not named or named[-1][1] - place >= room:
            named.append((dose, place))
    return {dose for dose, _ in named}


def _mark(axes: Axes, mark: Mapping[str, Any]) -> None:
    x, low, high = (drawing.scalar(mark.get(key)) for key in ("x", "low", "high"))
    if not math.isfinite(x):
        return
    if math.isfinite(low) and math.isfinite(high):
        axes.axvspan(low, high, color=palette.BAND, lw=0, zorder=0)
    axes.axvline(x, color=palette.MUTED, lw=1.4, ls=(0, (3, 3)), label=f"{drawing.brief(mark.get('label'))}, interval")


def describe(figure: Mapping[str, Any]) -> str:
    """Each series from the least to the largest dose, and the marks."""
    doses = drawing.floats(figure.get("doses"))
    marks = [
        f"{one_line(mark.get('label'))} at {number(mark.get('x'))} {interval(mark)}."
        for mark in objects(figure.get("marks"))
    ]
    return " ".join([f"Doses {drawing.span(doses)}.", *drawing.runs(figure), *marks])


def table(figure: Mapping[str, Any]) -> Table:
    """A row per dose, a column per series."""
    return drawing.series_table(figure, "dose", figure.get("doses"))

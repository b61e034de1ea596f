"""Values over time (or over cycles), a line per series with its interval as a band."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from daemon.control.book import drawing, palette
from daemon.control.book.figures import Table
from daemon.control.wording import objects

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(figure: Mapping[str, Any], canvas: Figure) -> None:
    """Markers only where there are few enough points to see them."""
    x = drawing.floats(figure.get("x"))
    axes = canvas.subplots()
    seen = []
    for n, row in enumerate(objects(figure.get("series"))):
        style = palette.series(n) | {"markersize": 5 if len(x) <= 30 else 0}
        values, low, high = (drawing.floats(row.get(key), len(x)) for key in ("values", "low", "high"))
        axes.fill_between(x, low, high, color=style["color"], alpha=0.16, lw=0)
        axes.plot(x, values, **style, label=drawing.name(row))
        seen += values
    drawing.some(x)
    drawing.some(seen)
    drawing.labels(axes, figure, "time")
    drawing.legend(canvas, axes)


def describe(figure: Mapping[str, Any]) -> str:
    """Where each series begins and ends."""
    return " ".join(drawing.runs(figure))


def table(figure: Mapping[str, Any]) -> Table:
    """A row per point in time, a column per series."""
    return drawing.series_table(figure, "time", figure.get("x"))

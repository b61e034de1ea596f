"""A map of layers by heads: the more, the stronger the colour. In steps, so that cells can be told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from daemon.control.book import drawing, palette
from daemon.control.book.figures import Table
from daemon.control.wording import items, number, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WRITTEN = 48  # up to so many cells the value stands in the cell
TICKS = 17


def draw(figure: Mapping[str, Any], canvas: Figure) -> None:
    """The first row is on top; a cell without a value stays empty."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    rows, columns, values = _grid(figure)
    known = [value for row in values for value in row if math.isfinite(value)]
    drawing.some(known)
    low, high = min(known), max(known)
    step = ((high - low) or abs(high) or 1.0) / len(palette.HEAT)
    edges = [low + step * n for n in range(len(palette.HEAT) + 1)]
    canvas.set_figheight(min(460, max(200, 110 + 24 * len(rows))) / 72)
    axes = canvas.subplots()
    norm = BoundaryNorm(edges, len(palette.HEAT))
    cells = axes.pcolormesh(values, cmap=ListedColormap(palette.HEAT), norm=norm, edgecolors=palette.PAPER, lw=0.8)
    if len(known) <= WRITTEN and len(columns) <= 9:
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                dark = math.isfinite(value) and (value - low) / step >= 3.5
                words = number(value) if math.isfinite(value) else "–"
                axes.text(x + 0.5, y + 0.5, words, ha="center", va="center", fontsize=11,
                          color=palette.PAPER if dark else palette.INK)  # fmt: skip
    for axis, names in ((axes.xaxis, columns), (axes.yaxis, rows)):
        every = -(-len(names) // (8 if axis is axes.xaxis else TICKS))
        axis.set_ticks([n + 0.5 for n in range(0, len(names), every)], names[::every])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = canvas.colorbar(cells, location="bottom", ticks=[edges[0], edges[-1]], format=lambda v, _: number(v),
                          aspect=34, pad=0.03, drawedges=False)  # fmt: skip
    bar.outline.set_visible(False)
    bar.minorticks_off()
    bar.ax.tick_params(length=0)
    bar.ax.grid(visible=False)
    bar.set_label(drawing.brief(figure.get("label"), 48))


def _grid(figure: Mapping[str, Any]) -> tuple[list[str], list[str], list[list[float]]]:
    """Row names, column names and a full rectangle of values."""
    rows = [drawing.brief(row, 14) for row in items(figure.get("rows"))]
    columns = [drawing.brief(column, 6) for column in items(figure.get("columns"))]
    given = items(figure.get("values"))
    if not rows or not columns:
        raise ValueError("there are no numbers yet")
    return rows, columns, [drawing.floats(drawing.at(given, n), len(columns)) for n in range(len(rows))]


def describe(figure: Mapping[str, Any]) -> str:
    """The range, and the cells that lead."""
    rows, columns, values = _grid(figure)
    cells = [
        (value, f"{rows[y]} {columns[x]}")
        for y, row in enumerate(values)
        for x, value in enumerate(row)
        if math.isfinite(value)
    ]
    lead = ", ".join(f"{name} {number(value)}" for value, name in sorted(cells, reverse=True)[:5])
    return f"{len(rows)} layers by {len(columns)} heads, {one_line(figure.get('label'))}. The largest are {lead}."


def table(figure: Mapping[str, Any]) -> Table:
    """A row per layer."""
    rows, columns, values = _grid(figure)
    return Table(("layer", *columns), [(name, *row) for name, row in zip(rows, values, strict=True)])

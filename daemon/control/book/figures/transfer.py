"""Backward transfer: how each family of skills changed, beside the null adapter, with the margin that is tolerated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from daemon.control.book import drawing, palette
from daemon.control.book.figures import Table
from daemon.control.wording import finite, number, objects, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(figure: Mapping[str, Any], canvas: Figure) -> None:
    """A forest plot: one row per family, the null just below it, zero and minus delta as lines."""
    families, nulls = objects(figure.get("families")), _by_name(figure)
    drawing.some([drawing.scalar(row.get("value")) for row in families])
    canvas.set_figheight((95 + 42 * len(families)) / 72)
    axes = canvas.subplots()
    _rows(axes, list(enumerate(families)), -0.13, palette.series(0), "after training")
    null = [(y, nulls[key]) for y, row in enumerate(families) if (key := one_line(row.get("name"))) in nulls]
    _rows(axes, null, 0.2, palette.control(0), "general data only (null)")
    axes.axvline(0, color=palette.INK, lw=1.2, zorder=1)
    if (delta := finite(figure.get("delta"))) is not None:
        axes.axvline(-abs(delta), color=palette.SERIES[1], lw=1.4, ls=(0, (3, 3)), label="tolerated loss", zorder=1)
    axes.set_yticks(range(len(families)), [drawing.name(row, 16) for row in families])
    axes.set_ylim(len(families) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)
    drawing.labels(axes, figure, "change, after − before (right is better)")
    drawing.legend(canvas, axes)


def _by_name(figure: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {one_line(row.get("name")): row for row in objects(figure.get("null"))}


def _rows(
    axes: Axes, rows: list[tuple[int, Mapping[str, Any]]], offset: float, style: Mapping[str, Any], label: str
) -> None:
    if not rows:
        return
    y = [row + offset for row, _ in rows]
    x, low, high = (drawing.floats([facts.get(key) for _, facts in rows]) for key in ("value", "low", "high"))
    ends = [(at, a, b) for at, a, b in zip(y, low, high, strict=True) if math.isfinite(a) and math.isfinite(b)]
    axes.hlines(
        [at for at, _, _ in ends], [a for _, a, _ in ends], [b for _, _, b in ends], colors=style["color"], lw=1.6
    )
    axes.plot(x, y, **{**style, "linestyle": "none"}, label=label)


def describe(figure: Mapping[str, Any]) -> str:
    """Each family's change beside the null's."""
    nulls = _by_name(figure)
    told = [
        f"{name} {drawing.told(row)}, null {drawing.told(nulls.get(name, {}))}."
        for row in objects(figure.get("families"))
        for name in (one_line(row.get("name")),)
    ]
    return " ".join([*told, f"Tolerated loss: {number(figure.get('delta'))}."])


def table(figure: Mapping[str, Any]) -> Table:
    """A row per family."""
    nulls = _by_name(figure)
    rows: list[tuple[object, ...]] = [
        (name, drawing.told(row), drawing.told(nulls.get(name, {})))
        for row in objects(figure.get("families"))
        for name in (one_line(row.get("name")),)
    ]
    return Table(("family", "change", "null"), rows)

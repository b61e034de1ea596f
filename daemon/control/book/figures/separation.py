"""How well two kinds of text can be told apart in each layer, before and after training, beside a placebo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from daemon.control.book import drawing, palette
from daemon.control.book.figures import Table
from daemon.control.wording import mapping, objects, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDES = (("before", -0.18), ("after", 0.0), ("placebo", 0.18))
KINDS = {"gdn": "GDN", "attention": "full attention"}
NAMED = 12


def draw(figure: Mapping[str, Any], canvas: Figure) -> None:
    """Layers from the first to the last; the full-attention layers, which are the comparator, stand on a band."""
    layers = objects(figure.get("layers"))
    axes = canvas.subplots()
    looks = {"before": palette.series(0), "after": palette.series(1), "placebo": palette.control(0)}
    seen = []
    for side, offset in SIDES:
        facts = [mapping(layer.get(side)) for layer in layers]
        values, low, high = (drawing.floats([row.get(key) for row in facts]) for key in ("value", "low", "high"))
        if all(value != value for value in values):
            continue
        x = [n + (offset if len(layers) <= 24 else 0) for n in range(len(layers))]
        drawing.bars(axes, x, values, low, high, looks[side]["color"])
        joined = {} if len(layers) > NAMED else {"linestyle": "none"}
        axes.plot(x, values, **{**looks[side], **joined, "markersize": 6 if len(layers) <= 24 else 3}, label=side)
        seen += values
    drawing.some(seen)
    label: str | None = KINDS["attention"]
    for n, layer in enumerate(layers):
        if layer.get("kind") == "attention":
            axes.axvspan(n - 0.5, n + 0.5, color=palette.BAND, lw=0, zorder=0, label=label)
            label = None
    drawing.level(axes, drawing.scalar(figure.get("chance")), "chance")
    every = -(-len(layers) // NAMED)
    axes.set_xticks(range(0, len(layers), every), [drawing.name(layer, 8) for layer in layers[::every]])
    axes.grid(visible=False, axis="x")
    drawing.labels(axes, figure, "layer", "separation")
    drawing.legend(canvas, axes)


def describe(figure: Mapping[str, Any]) -> str:
    """Every layer before, after and with the placebo."""
    return " ".join(
        f"{one_line(layer.get('name'))} ({_kind(layer)}): "
        + ", ".join(f"{side} {drawing.told(mapping(layer.get(side)))}" for side, _ in SIDES if layer.get(side))
        + "."
        for layer in objects(figure.get("layers"))
    )


def _kind(layer: Mapping[str, Any]) -> str:
    return KINDS.get(str(layer.get("kind")), one_line(layer.get("kind")))


def table(figure: Mapping[str, Any]) -> Table:
    """A row per layer."""
    rows: list[tuple[object, ...]] = [
        (one_line(layer.get("name")), _kind(layer), *(drawing.told(mapping(layer.get(side))) for side, _ in SIDES))
        for layer in objects(figure.get("layers"))
    ]
    return Table(("layer", "kind", *(side for side, _ in SIDES)), rows)

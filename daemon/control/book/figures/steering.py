"""Steering dose-response: propensity by strength, with the random and shuffled vectors and the prompting baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from daemon.control.book import drawing, palette
from daemon.control.book.figures import Table
from daemon.control.wording import mapping, number, objects

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(figure: Mapping[str, Any], canvas: Figure) -> None:
    """The control vectors are grey; the prompt is a band across all strengths."""
    strengths = drawing.floats(figure.get("strengths"))
    axes = canvas.subplots()
    values: list[float] = []
    controls = mains = 0
    for row in objects(figure.get("series")):
        if row.get("role") in ("random", "shuffled"):
            style, controls = palette.control(controls), controls + 1
        else:
            style, mains = palette.series(mains), mains + 1
        values += drawing.line(axes, strengths, row, style, drawing.name(row))
    drawing.some(strengths)
    drawing.some(values)
    prompt = mapping(figure.get("prompt"))
    value, low, high = (drawing.scalar(prompt.get(key)) for key in ("value", "low", "high"))
    if math.isfinite(low) and math.isfinite(high):
        axes.axhspan(low, high, color=palette.SERIES[2], alpha=0.16, lw=0, zorder=0)
    if math.isfinite(value):
        axes.axhline(value, color=palette.SERIES[2], ls="-.", lw=1.6, label="prompt only")
    drawing.level(axes, drawing.scalar(figure.get("base")), "base")
    ticks = [strength for strength in strengths if math.isfinite(strength)]
    axes.set_xticks(ticks, [number(tick) for tick in ticks])
    drawing.labels(axes, figure, "strength of the vector", "propensity")
    drawing.legend(canvas, axes)


def describe(figure: Mapping[str, Any]) -> str:
    """Each vector from the least to the largest strength, the prompt and the base."""
    strengths = f"Strengths {drawing.span(drawing.floats(figure.get('strengths')))}."
    prompt = f"Prompt only: {drawing.told(mapping(figure.get('prompt')))}; base: {number(figure.get('base'))}."
    return " ".join([strengths, *drawing.runs(figure), prompt])


def table(figure: Mapping[str, Any]) -> Table:
    """A row per strength, a column per vector; the prompt and the base at the end."""
    found = drawing.series_table(figure, "strength", figure.get("strengths"))
    blank = ("",) * max(0, len(found.header) - 2)
    return Table(found.header, [
        *found.rows,
        ("prompt only", drawing.told(mapping(figure.get("prompt"))), *blank),
        ("base", number(figure.get("base")), *blank),
    ])  # fmt: skip

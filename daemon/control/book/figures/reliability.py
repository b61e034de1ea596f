"""Reliability diagram: how often what was predicted to fail did fail. On the diagonal the predictions are right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from daemon.control.book import drawing, palette
from daemon.control.book.figures import Table
from daemon.control.wording import finite, mapping, number, objects

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FINE = [n / 100 for n in range(1, 100)]


def draw(figure: Mapping[str, Any], canvas: Figure) -> None:
    """Bins with intervals, the diagonal, and the recalibration line logit(observed) = a + b logit(predicted)."""
    bins = objects(figure.get("bins"))
    predicted, observed, low, high, counts = (
        drawing.floats([row.get(key) for row in bins]) for key in ("predicted", "observed", "low", "high", "n")
    )
    drawing.some(predicted)
    drawing.some(observed)
    canvas.set_figheight(320 / 72)
    axes = canvas.subplots()
    axes.plot([0, 1], [0, 1], color=palette.MUTED, lw=1.3, ls=(0, (3, 3)), label="predicted = observed")
    line = mapping(figure.get("line"))
    a, b = finite(line.get("a")), finite(line.get("b"))
    if a is not None and b is not None:
        axes.plot(_FINE, [_recalibrated(p, a, b) for p in _FINE], color=palette.SERIES[1], label="recalibration")
    drawing.bars(axes, predicted, observed, low, high, palette.SERIES[0])
    most = max((n for n in counts if math.isfinite(n)), default=1.0) or 1.0
    sizes = [30 + 90 * (n / most if math.isfinite(n) else 0) for n in counts]
    axes.scatter(predicted, observed, s=sizes, color=palette.SERIES[0], zorder=3, label="dreams, by size of bin")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    ticks = [0, 0.25, 0.5, 0.75, 1]
    words = ["0 %", "25 %", "50 %", "75 %", "100 %"]
    axes.set_xticks(ticks, words)
    axes.set_yticks(ticks, words)
    drawing.labels(axes, figure, "predicted failure", "observed failure")
    drawing.legend(canvas, axes)


def _recalibrated(p: float, a: float, b: float) -> float:
    logit = max(-50.0, min(50.0, a + b * math.log(p / (1 - p))))
    return 1 / (1 + math.exp(-logit))


def describe(figure: Mapping[str, Any]) -> str:
    """Predicted and observed failure of each bin."""
    told = [
        f"predicted {number(row.get('predicted'))}, observed {number(row.get('observed'))} (n {number(row.get('n'))})"
        for row in objects(figure.get("bins"))
    ]
    return f"By bin: {'; '.join(told)}."


def table(figure: Mapping[str, Any]) -> Table:
    """A row per bin."""
    rows: list[tuple[object, ...]] = [
        (row.get("predicted"), drawing.told({**row, "value": row.get("observed")}), row.get("n"))
        for row in objects(figure.get("bins"))
    ]
    return Table(("predicted failure", "observed failure", "n"), rows)

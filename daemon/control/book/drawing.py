"""What the kinds of figure share: numbers that may be null, names that may be long, intervals, legends."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daemon.control.book.figures import Table
from daemon.control.book.palette import MUTED
from daemon.control.wording import MISSING, finite, interval, items, number, objects, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def floats(values: object, length: int | None = None) -> list[float]:
    """Numbers with NaN for what is none; cut or filled to `length`."""
    found = [math.nan if (value := finite(item)) is None else value for item in items(values)]
    return found if length is None else (found + [math.nan] * length)[:length]


def scalar(value: object) -> float:
    """A number, NaN for what is none."""
    return floats([value])[0]


def some(*columns: Sequence[float]) -> None:
    """Raises ValueError when there is no number in any of the columns."""
    if not any(math.isfinite(value) for column in columns for value in column):
        raise ValueError("there are no numbers yet")


def name(facts: Mapping[str, Any], longest: int = 26) -> str:
    """An object's name, short enough to stand in a figure; its table has the whole."""
    return brief(facts.get("name"), longest)


def brief(words: object, longest: int = 26) -> str:
    """`words` on one line with an ellipsis where they are cut.

    >>> brief("shuffled labels", 10)
    'shuffled …'
    """
    whole = one_line(words)
    return whole if len(whole) <= longest else f"{whole[: longest - 1]}…"


def labels(axes: Axes, figure: Mapping[str, Any], x: str = "", y: str = "") -> None:
    """Name the axes by the data's x_label and y_label, else by `x` and `y`; long ones are folded."""
    axes.set_xlabel(textwrap.fill(brief(figure.get("x_label") or x, 90), 46))
    axes.set_ylabel(textwrap.fill(brief(figure.get("y_label") or y, 64), 32))


def line(axes: Axes, x: Sequence[float], facts: Mapping[str, Any], style: Mapping[str, Any], label: str) -> list[float]:
    """`facts`' values over x with their intervals as bars; returns the values."""
    values = floats(facts.get("values"), len(x))
    low, high = (floats(facts.get(end), len(x)) for end in ("low", "high"))
    bars(axes, x, values, low, high, color=str(style["color"]))
    axes.plot(x, values, **style, label=label)
    return values


def bars(
    axes: Axes, x: Sequence[float], values: Sequence[float], low: Sequence[float], high: Sequence[float], color: str
) -> None:
    """Intervals as thin vertical bars; an end that is not known stops at the value."""
    ends = [
        (at, value if math.isnan(a) else a, value if math.isnan(b) else b)
        for at, value, a, b in zip(x, values, low, high, strict=True)
        if not (math.isnan(a) and math.isnan(b))
    ]
    axes.vlines([at for at, _, _ in ends], [a for _, a, _ in ends], [b for _, _, b in ends], colors=color, lw=1.4)


def level(axes: Axes, value: float, label: str | None = None, style: Any = (0, (3, 3))) -> None:
    """A thin horizontal line of reference, where there is a value."""
    if math.isfinite(value):
        axes.axhline(value, color=MUTED, lw=1.3, ls=style, label=label, zorder=1)


def legend(canvas: Figure, axes: Axes) -> None:
    """What the lines mean, above the figure, in as many columns as the names leave room for."""
    handles, names = axes.get_legend_handles_labels()
    if not names:
        return
    widest = max(map(len, names))
    columns = 3 if widest <= 9 else 2 if widest <= 19 else 1
    canvas.legend(handles, names, loc="outside upper left", ncols=min(columns, len(names)), columnspacing=1.2)


def told(facts: Mapping[str, Any]) -> str:
    """A value with its interval: "0.21 [0.17, 0.26]"."""
    limits = interval(facts)
    return number(facts.get("value")) + ("" if limits == MISSING else f" {limits}")


def span(values: Sequence[float]) -> str:
    """From where to where the values run, first to last known.

    >>> span([0.1, float("nan"), 0.4])
    'from 0.1 to 0.4'
    """
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "unknown"
    return f"from {number(known[0])} to {number(known[-1])}" if len(known) > 1 else number(known[0])


def runs(figure: Mapping[str, Any]) -> list[str]:
    """Where each of the figure's series begins and ends, in words."""
    return [
        f"{one_line(row.get('name'))} runs {span(floats(row.get('values')))}." for row in objects(figure.get("series"))
    ]


def at(values: object, index: int) -> Any:
    """The item at `index`, None where the list is too short."""
    found = items(values)
    return found[index] if index < len(found) else None


def series_table(figure: Mapping[str, Any], first: str, x: object) -> Table:
    """A row per x; for each of the figure's series its value with its interval."""
    rows = objects(figure.get("series"))
    header = (one_line(figure.get("x_label")) or first, *(one_line(row.get("name")) for row in rows))
    columns = (("value", "values"), ("low", "low"), ("high", "high"))
    cells: list[tuple[object, ...]] = [
        (value, *(told({key: at(row.get(name), n) for key, name in columns}) for row in rows))
        for n, value in enumerate(items(x))
    ]
    return Table(header, cells)

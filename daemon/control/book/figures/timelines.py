"""Several channels on one timeline: when the change came, and when each of them raised its alarm."""

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

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LOGARITHMIC = 50  # a channel whose values span more than this factor gets a logarithmic axis


def draw(figure: Mapping[str, Any], canvas: Figure) -> None:
    """One panel per channel, the time below all of them."""
    channels = objects(figure.get("channels"))
    drawing.some([value for channel in channels for value in drawing.floats(channel.get("values"))])
    canvas.set_figheight((70 + 105 * len(channels)) / 72)
    panels = canvas.subplots(len(channels), 1, sharex=True, squeeze=False)[:, 0]
    onset = drawing.scalar(figure.get("onset"))
    for n, (axes, channel) in enumerate(zip(panels, channels, strict=True)):
        _panel(axes, channel, n, onset)
    drawing.labels(panels[-1], {"x_label": figure.get("x_label")}, "time")
    drawing.legend(canvas, panels[0])


def _panel(axes: Axes, channel: Mapping[str, Any], index: int, onset: float) -> None:
    x = drawing.floats(channel.get("x"))
    values = drawing.floats(channel.get("values"), len(x))
    threshold, alarm = (drawing.scalar(channel.get(key)) for key in ("threshold", "alarm"))
    color = palette.SERIES[index % len(palette.SERIES)]
    axes.plot(x, values, color=color, lw=1.8)
    drawing.level(axes, threshold, "threshold")
    if math.isfinite(onset):
        axes.axvline(onset, color=palette.INK, lw=1.4, label="change")
    known = [value for value in [*values, threshold] if math.isfinite(value)]
    if known and min(known) > 0 and max(known) / min(known) > LOGARITHMIC:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: _power(value))
        axes.yaxis.set_minor_formatter(lambda value, _: "")
    if math.isfinite(alarm):
        axes.axvline(alarm, color=color, lw=1.4, ls=(0, (1, 1.5)))
        axes.plot([alarm], [0.93], transform=axes.get_xaxis_transform(), marker="v", ms=9, color=color, ls="none",
                  clip_on=False)  # fmt: skip
    said = f"alarm at {number(alarm)}" if math.isfinite(alarm) else "no alarm"
    axes.set_title(f"{drawing.name(channel, 30)}: {said}", loc="left", fontsize=12, color=palette.INK, pad=4)
    axes.margins(y=0.12)
    axes.locator_params(axis="y", nbins=4) if axes.get_yscale() == "linear" else None


def _power(value: float) -> str:
    """Powers of ten, far from one as 10⁷."""
    exponent = round(math.log10(value)) if value > 0 else 0
    return number(value) if -2 <= exponent <= 3 else "10" + str(exponent).translate(_RAISED)


def describe(figure: Mapping[str, Any]) -> str:
    """The onset, and each channel's alarm with its delay."""
    onset = finite(figure.get("onset"))
    told = [f"The change came at {number(onset)}." if onset is not None else "There was no change."]
    for channel in objects(figure.get("channels")):
        alarm = finite(channel.get("alarm"))
        after = f", {number(alarm - onset)} after the change" if alarm is not None and onset is not None else ""
        said = f"alarm at {number(alarm)}{after}" if alarm is not None else "no alarm"
        told.append(f"{one_line(channel.get('name'))}: {said}.")
    return " ".join(told)


def table(figure: Mapping[str, Any]) -> Table:
    """A row per channel; the points themselves are in the JSON."""
    rows: list[tuple[object, ...]] = []
    for channel in objects(figure.get("channels")):
        last = [value for value in drawing.floats(channel.get("values")) if math.isfinite(value)]
        rows.append((
            one_line(channel.get("name")), channel.get("threshold"), figure.get("onset"), channel.get("alarm"),
            max(last, default=None),
        ))  # fmt: skip
    return Table(("channel", "threshold", "change at", "alarm at", "largest value"), rows)

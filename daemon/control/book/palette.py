"""The book's colours. matplotlib draws with stand-ins, which `svg` turns into CSS variables: style.css says how each
looks, dark and light. The series are the Okabe-Ito hues (Color Universal Design, 2008), which colour-blind readers tell
apart; each has a marker and a line of its own besides.
"""

from __future__ import annotations

from typing import Any

INK, MUTED, LINE, PAPER, BAND = (f"#0a0b{n:02x}" for n in range(5))
SERIES = tuple(f"#0a0c{n:02x}" for n in range(6))
HEAT = tuple(f"#0a0d{n:02x}" for n in range(7))

VARIABLES = {
    INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)", PAPER: "var(--card)", BAND: "var(--band)",
    **{stand_in: f"var(--series-{n})" for n, stand_in in enumerate(SERIES)},
    **{stand_in: f"var(--heat-{n})" for n, stand_in in enumerate(HEAT)},
}  # fmt: skip

_MARKERS, _LINES = "osD^vP", ("-", (0, (6, 2)), (0, (2, 1.6)), "-.", (0, (8, 2, 2, 2)), (0, (4, 1)))


def series(index: int) -> dict[str, Any]:
    """Colour, marker and line style of the `index`-th series."""
    n = index % len(SERIES)
    return {"color": SERIES[n], "marker": _MARKERS[n], "linestyle": _LINES[n]}


def control(index: int = 0) -> dict[str, Any]:
    """The look of what is compared with: grey, hollow, dashed."""
    return {
        "color": MUTED, "marker": "sXd"[index % 3], "linestyle": _LINES[1 + index % 2], "markerfacecolor": PAPER,
    }  # fmt: skip

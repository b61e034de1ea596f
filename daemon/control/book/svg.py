"""A matplotlib figure as inline SVG: real text, colours as CSS variables, ids unique in the page and the same at every
run, and no style attribute, which the page's security policy would forbid.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from daemon.control.book.figures import Kind
from daemon.control.book.palette import BAND, INK, LINE, MUTED, PAPER, VARIABLES
from daemon.control.wording import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 352, 250  # CSS pixels as drawn; the page scales it to its column, between about .9 and 1.25
STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "dreamloop", "text.parse_math": False,
    "font.size": 12, "axes.labelsize": 12, "xtick.labelsize": 11.5, "ytick.labelsize": 11.5, "legend.fontsize": 11.5,
    "figure.facecolor": "none", "savefig.facecolor": "none", "axes.facecolor": "none",
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "grid.color": LINE, "axes.grid": True, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.unicode_minus": True, "grid.linewidth": 0.8,
    "lines.linewidth": 2.0, "lines.markersize": 6.0, "patch.facecolor": BAND, "patch.edgecolor": LINE,
    "hatch.color": LINE, "legend.frameon": False, "legend.handlelength": 2.6, "legend.borderaxespad": 0.0,
    "legend.edgecolor": LINE, "legend.facecolor": PAPER,
}  # fmt: skip
_REFERENCE = re.compile(r"#([^)\"']+)")


def draw(kind: Kind, figure: Mapping[str, Any], key: str) -> str:
    """The figure as an `<svg>` element whose ids begin with `key`. Raises ValueError when it has no data to show."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=4 / 72, h_pad=4 / 72)
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72, layout=layout)
        kind.draw(figure, canvas)
        return inline(canvas, key, str(figure.get("title") or "Figure"), kind.describe(figure))


def inline(canvas: Figure, key: str, title: str, description: str) -> str:
    """`canvas` as an `<svg>` element named by `title` and described by `description`."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        # only widths are measured with matplotlib's own font; the reader's browser has the glyphs of a user's names
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        canvas.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(out.getvalue())
    _tidy(root, key)
    width, height = root.get("viewBox", "").split()[2:]
    root.attrib.clear()
    root.attrib |= {
        "viewBox": f"0 0 {width} {height}", "role": "img", "aria-labelledby": f"{key}-title {key}-desc",
    }  # fmt: skip
    for position, (tag, words) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{key}-{tag}"})
        element.text = one_line(words)
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode")


def _tidy(root: ElementTree.Element, key: str) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    referred = {
        name
        for element in root.iter()
        for value in element.attrib.values()
        if value.startswith(("#", "url("))
        for name in _REFERENCE.findall(value)
    }
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        old = dict(element.attrib)
        element.attrib.clear()
        for name, value in old.items():
            name = name.rpartition("}")[2]
            if name == "style":
                element.attrib |= _attributes(value)
            elif name == "id":
                if value in referred:
                    element.set("id", f"{key}-{value}")
            elif value.startswith(("#", "url(#")):
                element.set(name, value.replace("#", f"#{key}-", 1))
            else:
                element.set(name, value)


def _attributes(style: str) -> dict[str, str]:
    """A style attribute as presentation attributes."""
    found: dict[str, str] = {}
    for declaration in style.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name in ("stroke", "fill"):
            found[name] = VARIABLES.get(value.lower(), value)
        elif name and name != "font-family":  # the family is the page's
            found[name] = value
    return found

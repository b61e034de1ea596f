"""One figure as an SVG file of its own, for a document: it carries the book's colours, light and dark."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon.control.book import figures, svg

SHEET = Path(__file__).parent / "style.css"
VARIABLES = re.compile(r"^(?:@media \(prefers-color-scheme.*?^\}|:root \{.*?^\})$", re.MULTILINE | re.DOTALL)
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'


def picture(figure: Mapping[str, Any]) -> str:
    """The figure as SVG text. Raises ValueError when there is nothing to draw, or no kind of that name."""
    kind = figures.find(figure.get("kind"))
    if kind is None:
        raise ValueError(f"there is no figure of the kind {figure.get('kind')!r}")
    drawn = svg.draw(kind, figure, "figure")
    width, height = re.findall(r"[\d.]+", drawn[: drawn.index(">")])[2:4]
    # in a file of its own the root element is the <svg>, so the page's variables work as they are
    colours = "".join(VARIABLES.findall(SHEET.read_text(encoding="utf-8")))
    style = f"<style>{colours} text {{ font-family: {FONT}; }} * {{ stroke-linejoin: round; }}</style>"
    start = drawn.index(">") + 1
    size = f'xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
    opening = drawn[:start].replace("<svg", f"<svg {size}", 1)
    return f'{opening}{style}<rect width="100%" height="100%" fill="var(--card)" />{drawn[start:]}\n'

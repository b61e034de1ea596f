"""The answer book: the seven answers as one self-contained HTML page. Part of the client's room.

matplotlib and jinja2 come in only where a page is made, so that `dreamctl` starts fast.
"""

from __future__ import annotations

from pathlib import Path

from daemon.control.book.page import build

__all__ = ["NAME", "build", "save"]

NAME = "report.html"  # in the state folder


def save(page: str, file: Path) -> None:
    """Write the page whole or not at all. Raises OSError."""
    temporary = file.with_name(f"{file.name}.part")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(file)

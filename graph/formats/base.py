"""The seam between the memory graph and its formats."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from graph.records import Contents


class GraphFormat(Protocol):
    """A way to keep a memory graph on disk; `name` is its module's name."""

    name: str

    def recognises(self, path: Path) -> float:
        """How sure this format is that `path` is its own, in [0, 1]."""
        ...

    def files(self, path: Path) -> Iterable[Path]:
        """Every file that `read` would read: when none of them changes, neither does the graph."""
        ...

    def read(self, path: Path) -> Contents:
        """Nodes, links and problems. Raises OSError when `path` itself cannot be read, never for its contents."""
        ...


def number(value: object, default: float) -> float:
    """A positive, finite number as notes have them, or the default."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return default
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return default
    return found if 0 < found < 1e9 else default

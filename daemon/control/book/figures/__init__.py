"""Kinds of figure, one file each, found by their file's name: a new kind is one new file here."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Table(NamedTuple):
    """A figure's numbers to read: column headings, and rows of text, numbers and None."""

    header: tuple[str, ...]
    rows: list[tuple[object, ...]]


class Kind(Protocol):
    """What a file of this folder has. The data are plain JSON, in which any number may be null or missing."""

    def draw(self, figure: Mapping[str, Any], canvas: Figure) -> None:
        """Draw on an empty canvas with constrained layout, whose height it may set; raises ValueError without data."""
        ...

    def describe(self, figure: Mapping[str, Any]) -> str:
        """A sentence or two for who cannot see the figure."""
        ...

    def table(self, figure: Mapping[str, Any]) -> Table:
        """The same numbers as a table."""
        ...


def kinds() -> tuple[str, ...]:
    """Every kind there is a file for."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def find(kind: object) -> Kind | None:
    """The kind of that name; None when there is none (data name it, so nothing else is ever imported)."""
    if kind not in kinds():
        return None
    return cast(Kind, importlib.import_module(f"{__name__}.{kind}"))

"""Graph formats, one file each: a module here with a `FORMAT` is a format, named by its module name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from pathlib import Path

from graph.errors import GraphUnreadable
from graph.formats.base import GraphFormat


@cache
def discover() -> dict[str, GraphFormat]:
    """Every graph format in this folder, by name, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")
    return {name: importlib.import_module(f"{__name__}.{name}").FORMAT for name in names}


def choose(path: Path, name: str) -> GraphFormat:
    """The format called `name`, or with "auto" the one that recognises `path` best.

    Raises GraphUnreadable naming the path, what is wrong and the remedy.
    """
    formats = discover()
    if name != "auto":
        if name in formats:
            return formats[name]
        near = difflib.get_close_matches(name, formats, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f'write "auto" or one of {", ".join(formats)}'
        raise GraphUnreadable(f"`graph.format` = {name!r}: there is no such graph format; {hint}")
    score, fmt = max(((fmt.recognises(path), fmt) for fmt in formats.values()), key=lambda pair: pair[0])
    if score <= 0:
        raise GraphUnreadable(
            f"{path}: no graph format recognises it; give a folder of Markdown notes or a file of the MCP memory "
            f"server, or set `graph.format` to one of {', '.join(formats)}"
        )
    return fmt

"""Log formats, one file each: a module here with a `FORMAT` is a format, named by its module name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache

from daemon.intake.errors import UnknownFormat
from daemon.intake.formats.base import LogFormat


@cache
def discover() -> dict[str, LogFormat]:
    """Every log format in this folder, by name, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")
    return {name: importlib.import_module(f"{__name__}.{name}").FORMAT for name in names}


def named(name: str) -> LogFormat:
    """The format called `name`.

    Raises UnknownFormat naming the nearest valid one.
    """
    formats = discover()
    if name in formats:
        return formats[name]
    near = difflib.get_close_matches(name, formats, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f'write "auto" or one of {", ".join(formats)}'
    raise UnknownFormat(f"`intake.format` = {name!r}: there is no such log format; {hint}")


def sniff(head: bytes) -> LogFormat | None:
    """The format that recognises most of `head`'s complete lines, or None when none recognises any."""
    scores = [(fmt.sniff(head), fmt) for fmt in discover().values()]
    best, fmt = max(scores, key=lambda pair: pair[0])
    return fmt if best > 0 else None

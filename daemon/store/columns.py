"""Column types that keep every Python value exactly, on SQLite and on PostgreSQL alike.

Conversation logs are other programs' bytes: they hold NUL characters (which PostgreSQL refuses in text) and lone
surrogates (which are not UTF-8, so neither database takes them). Refusing such a turn would lose it, replacing the
character would change its content hash; so those characters are written as an escape and come back as they were.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import Dialect, Double, Text
from sqlalchemy.types import TypeDecorator

ESCAPE = "\x1a"  # SUBSTITUTE: the control character that ASCII made for this
_UNSAFE = re.compile("[\x00\x1a\ud800-\udfff]")
_ESCAPED = re.compile("\x1a([0-9a-f]{4})")


def escape(text: str) -> str:
    r"""Text that any UTF-8 database takes; ordinary text comes back unchanged.

    >>> escape("a\x00b"), escape("ordinary")
    ('a\x1a0000b', 'ordinary')
    """
    return _UNSAFE.sub(lambda found: f"{ESCAPE}{ord(found[0]):04x}", text)


def unescape(text: str) -> str:
    """The inverse of `escape`."""
    if ESCAPE not in text:
        return text
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


class Chars(TypeDecorator[str]):
    """Text of any characters at all; comparisons see the escaped form on both sides, so equality holds."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else escape(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else unescape(value)


class Json(TypeDecorator[Any]):
    """Plain data as JSON text. NaN and infinities are kept (as Python's json writes them); None is NULL.

    Text rather than PostgreSQL's json type, which refuses NaN and some escapes; `column::json` and json_extract work.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        if value is None:
            return None
        # json escapes control characters itself, so after it every ESCAPE in the text is one of ours
        return escape(json.dumps(value, ensure_ascii=False, separators=(",", ":")))

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else json.loads(unescape(value))


class Real(TypeDecorator[float]):
    """A 64-bit float. SQLite turns NaN into NULL, so there it is written as the text 'nan': a diverged loss must not
    look like a missing one."""

    impl = Double
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[float | None], Any]:
        # not process_bind_param: Double's own processor would run after it and turn the text into a float again
        if dialect.name == "sqlite":
            return lambda value: None if value is None else "nan" if math.isnan(value) else float(value)
        return lambda value: None if value is None else float(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:
        return None if value is None else float(value)

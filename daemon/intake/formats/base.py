"""The seam between the reader and the log formats, and the small things every format needs.

Formats are stateless between lines: a message's id depends on what stands in the log (conversation, record id or byte
offset, role, text) and on nothing remembered. So reading from 0 again, a renamed file or a copy of it give the same
ids, and reading may stop and resume at any line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from policies.records import ADAPTER_PREFIX, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where lines come from: `source` for provenance, `modified` (epoch seconds) for records that bear no time."""

    source: str
    modified: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What one line holds: messages, and reasons why something in it was passed over."""

    messages: Sequence[Message] = ()
    skipped: Sequence[str] = ()


class LineParser(Protocol):
    """Parses the lines of one file."""

    def parse(self, line: bytes, offset: int) -> Parsed:
        """The messages of `line` (without its newline), which begins at byte `offset`. Never raises on bad input."""
        ...


class LogFormat(Protocol):
    """A log format; `name` is its module's name."""

    name: str

    def sniff(self, head: bytes) -> float:
        """How much of the complete lines of `head` looks like this format, in [0, 1]."""
        ...

    def open(self, head: bytes, origin: Origin, *, full: bool) -> LineParser | None:
        """A parser for the file whose first bytes are `head`.

        None when more must be written first, before messages can be given lasting ids; never None when `full` says
        that `head` has reached its greatest size and will not grow.
        """
        ...


class NotARecord(ValueError):
    """The line is not a JSON object; the message is the reason to count."""


def record(line: bytes) -> tuple[dict[str, Any], list[str]]:
    """The JSON object on a line, and remarks about it (invalid UTF-8 is replaced, NUL bytes around it dropped).

    Raises NotARecord with the reason otherwise.
    """
    notes: list[str] = []
    try:
        text = line.strip(b"\0").decode("utf-8")
    except UnicodeDecodeError:
        text = line.strip(b"\0").decode("utf-8", errors="replace")
        notes.append("invalid UTF-8 replaced")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise NotARecord("not a JSON line" + (" (and invalid UTF-8)" if notes else "")) from None
    if not isinstance(found, dict):
        raise NotARecord("a JSON line that is not an object")
    return found, notes


def records(head: bytes) -> list[dict[str, Any] | None]:
    """The complete, non-empty lines of `head`; None where a line is not a JSON object."""
    found: list[dict[str, Any] | None] = []
    for line in head[: head.rfind(b"\n") + 1].splitlines():
        if line.strip(b"\0 \t\r\n"):
            try:
                found.append(record(line)[0])
            except NotARecord:
                found.append(None)
    return found


def clean(text: str) -> str:
    """`text` as every store can hold it: no NUL, no lone surrogates (JSON allows both).

    >>> clean("a\\x00b")
    'a\\ufffdb'
    """
    return text.replace("\0", "\ufffd").encode("utf-8", errors="replace").decode("utf-8")


def timestamp(value: object, default: float) -> float:
    """Epoch seconds from ISO 8601 (UTC where no zone is given), epoch seconds or epoch milliseconds.

    >>> timestamp("1970-01-01T00:01:00Z", 0.0), timestamp(60_000_000_000_000, 0.0), timestamp("soon", 7.0)
    (60.0, 60000000000.0, 7.0)
    """
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return _iso(value, default)
        return timestamp(number, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    try:
        seconds = float(value)
    except OverflowError:
        return default
    if not math.isfinite(seconds) or seconds < 0:
        return default
    return seconds / 1000 if seconds > 1e11 else seconds  # 1e11 s is the year 5138: such numbers are milliseconds


def _iso(text: str, default: float) -> float:
    try:
        when = datetime.fromisoformat(text.strip())
        return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return default


def adapter_of(model: object) -> str | None:
    """The adapter that `model` names: what follows "dreamloop:"; None for the base and for any other model.

    >>> adapter_of("dreamloop:a1b2"), adapter_of("dreamloop:base"), adapter_of("gpt-x")
    ('a1b2', None, None)
    """
    if not isinstance(model, str) or not model.startswith(ADAPTER_PREFIX):
        return None
    name = clean(model.removeprefix(ADAPTER_PREFIX).strip())
    return None if name in ("", "base") else name

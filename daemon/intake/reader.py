"""Reads one log file from where it was left: complete lines only, a bounded piece at a time.

What happens to log files on normal days, and what becomes of it here: a half-written last line waits; a file that
shrank or was replaced is read from its beginning (ids are content hashes, so what was read before is not counted
again); invalid UTF-8 is replaced; a line longer than `max_line_bytes` is streamed past, never held in memory.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from daemon.events import FileRead
from daemon.intake import formats
from daemon.intake.errors import IntakeProblem, UnknownFormat
from daemon.intake.formats.base import LogFormat, Origin
from policies.records import Message

HEAD = 64 * 1024  # bytes that tell a file's format, and an anonymous file's conversation
SNIFF = 1024 * 1024  # bytes searched for a recognisable line when the head has none
PRINT = 256  # bytes of the beginning that, with device and inode, identify a file
CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one reading takes at most: bytes of a line, bytes and messages of a piece."""

    line_bytes: int = 100_000_000
    piece_bytes: int = 4 * 1024 * 1024
    piece_messages: int = 2_000


DEFAULT_LIMITS = Limits()


def read_new(
    path: Path,
    offset_of: Callable[[str], int],
    *,
    format: str = "auto",
    limits: Limits = DEFAULT_LIMITS,
) -> FileRead | None:
    """The next piece of `path`, or None when it holds no new complete line.

    `offset_of` gives the stored offset of an identity (0 for an unknown one). The identity is "device:inode:beginning",
    the last a hash of the first bytes: inodes are reused and copytruncate keeps them, and then the beginning differs.

    Raises IntakeProblem (or UnknownFormat) naming the file and the remedy.
    """
    chosen = None if format == "auto" else formats.named(format)
    try:
        with path.open("rb") as file:
            return _read(file, path, offset_of, chosen, limits)
    except OSError as error:
        raise IntakeProblem(f"{path}: cannot be read: {error.strerror or error}; {_remedy(error)}") from error


def _read(
    file: BinaryIO, path: Path, offset_of: Callable[[str], int], chosen: LogFormat | None, limits: Limits
) -> FileRead | None:
    stat = os.fstat(file.fileno())
    head = file.read(HEAD)
    beginning = _beginning(head)
    if beginning is None:
        return None  # no complete line yet
    identity = f"{stat.st_dev}:{stat.st_ino}:{hashlib.sha256(beginning).hexdigest()[:12]}"
    offset = max(0, offset_of(identity))
    if offset > stat.st_size or not _ends_a_line(file, offset):
        offset = 0  # truncated, or another file in its place
    if offset == stat.st_size:
        return None
    fmt = chosen or _sniff(file, head, path)
    if fmt is None:
        return None
    parser = fmt.open(head, Origin(source=str(path), modified=stat.st_mtime), full=len(head) == HEAD)
    if parser is None:
        return None
    messages: list[Message] = []
    reasons: Counter[str] = Counter()
    first: dict[str, int] = {}
    end = offset
    for start, stop, line in _lines(file, offset, limits.line_bytes):
        end = stop
        if line is None:
            skipped = [f"a line longer than {limits.line_bytes} bytes"]
        elif line.strip(b"\0 \t\r"):
            parsed = parser.parse(line, start)
            messages += parsed.messages
            skipped = list(parsed.skipped)
        else:
            continue
        for reason in skipped:
            reasons[reason] += 1
            first.setdefault(reason, start)
        if end - offset >= limits.piece_bytes or len(messages) >= limits.piece_messages:
            break
    if end == offset:
        return None
    return FileRead(
        path=str(path),
        identity=identity,
        format=fmt.name,
        offset=end,
        messages=tuple(messages),
        skipped=tuple(f"{n} x {reason}, first at byte {first[reason]}" for reason, n in sorted(reasons.items())),
    )


def _beginning(head: bytes) -> bytes | None:
    """What cannot change any more: the first line, at most PRINT bytes of it; None before it is whole."""
    end = head.find(b"\n", 0, PRINT)
    return head[:end] if end >= 0 else head[:PRINT] if len(head) >= PRINT else None


def _ends_a_line(file: BinaryIO, offset: int) -> bool:
    if offset == 0:
        return True
    file.seek(offset - 1)
    return file.read(1) == b"\n"


def _sniff(file: BinaryIO, head: bytes, path: Path) -> LogFormat | None:
    """The file's format by its head, else by its first MiB, else by its last lines; None while there is no whole line.

    Raises UnknownFormat when there are lines and no format knows them.
    """
    if found := formats.sniff(head):
        return found
    file.seek(0)
    more = file.read(SNIFF)
    size = file.seek(0, os.SEEK_END)
    if len(more) > len(head) and (found := formats.sniff(more)):
        return found
    if size > len(more):  # it begins with a giant line
        file.seek(size - HEAD)
        if found := formats.sniff(file.read(HEAD).partition(b"\n")[2]):
            return found
    if b"\n" not in more:
        return None
    names = ", ".join(formats.discover())
    raise UnknownFormat(
        f"{path}: no log format recognises its lines; if it is a conversation log, set `intake.format` to one of "
        f"{names}, otherwise narrow `intake.patterns` so that it is not watched"
    )


def _lines(file: BinaryIO, offset: int, longest: int) -> Iterator[tuple[int, int, bytes | None]]:
    """(start, end after the newline, the line without its newline) from `offset`; None for a line over `longest` bytes.

    A last line without a newline is not given. Holds at most `longest` bytes and a chunk.
    """
    file.seek(offset)
    start = position = offset
    pending = bytearray()
    dropped = False
    while chunk := file.read(CHUNK):
        begin = 0
        while (newline := chunk.find(b"\n", begin)) >= 0:
            stop = position + newline + 1
            dropped = dropped or stop - 1 - start > longest
            yield start, stop, None if dropped else bytes(pending) + chunk[begin:newline]
            pending.clear()
            dropped = False
            start, begin = stop, newline + 1
        position += len(chunk)
        if not dropped:
            pending += chunk[begin:]
            if len(pending) > longest:
                dropped = True
                pending.clear()


def _remedy(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "let the daemon's user read it, or narrow `intake.patterns`"
    if isinstance(error, FileNotFoundError):
        return "it is looked for again at the next rescan"
    return "it is tried again at the next rescan"

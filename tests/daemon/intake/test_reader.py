"""Reading one file: any chunking gives the same messages, and no bad line costs a neighbour."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.intake.errors import IntakeProblem, UnknownFormat
from daemon.intake.reader import HEAD, Limits, read_new

texts = st.text(max_size=20).filter(str.strip)
good = st.builds(lambda role, text: ("good", json.dumps({"conversation": "c", "role": role, "content": text}).encode()),
                 st.sampled_from(["user", "assistant"]), texts)  # fmt: skip
bad = st.binary(max_size=40).map(lambda b: ("bad", b.replace(b"\n", b"")))
lines = st.lists(good | bad, max_size=12)


@given(lines=lines, cuts=st.lists(st.integers(0, 600), max_size=6), small=st.booleans())
def test_any_chunking_gives_the_same_messages(
    log: Any, lines: list[tuple[str, bytes]], cuts: list[int], small: bool
) -> None:
    """However the bytes arrive, and however small the pieces, the messages are those of the whole file."""
    data = b"".join(line + b"\n" for _, line in lines)
    limits = Limits(piece_messages=1) if small else Limits()
    with tempfile.TemporaryDirectory() as folder:
        whole, growing = Path(folder, "whole.jsonl"), Path(folder, "growing.jsonl")
        whole.write_bytes(data)
        want = [m for piece in log.pieces(whole, format="openai_chat") for m in piece.messages]
        got: list[Any] = []
        offset = 0
        with growing.open("ab", buffering=0) as file:
            for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
                file.write(data[start:end])
                for piece in log.pieces(growing, format="openai_chat", limits=limits, offset=offset):
                    got += piece.messages
                    offset = piece.offset
        assert [m.id for m in got] == [m.id for m in want]
        assert [m.order for m in got] == [m.order for m in want]
        assert offset in (0, len(data))


@given(lines=lines)
def test_garbage_costs_no_neighbour(log: Any, lines: list[tuple[str, bytes]]) -> None:
    """Every good line is read, whatever stands around it."""
    data = b"".join(line + b"\n" for _, line in lines)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_bytes(data)
        got = [m.text for piece in log.pieces(path, format="openai_chat") for m in piece.messages]
    want = [json.loads(line)["content"] for kind, line in lines if kind == "good"]
    assert [text.replace("\ufffd", "\0") for text in got] == [text.replace("\ufffd", "\0") for text in want]


def test_half_a_line_waits(log: Any, tmp_path: Path) -> None:
    """A last line without its newline is left for later; the offset stands before it."""
    first, second = log.jsonl(log.chat("user", "one")), log.jsonl(log.chat("user", "two"))
    path = tmp_path / "a.jsonl"
    path.write_bytes(first + second[:-5])
    (piece,) = log.pieces(path)
    assert [m.text for m in piece.messages] == ["one"] and piece.offset == len(first)
    path.write_bytes(first + second)
    (piece,) = log.pieces(path, offset=piece.offset)
    assert [m.text for m in piece.messages] == ["two"]


def test_a_copy_and_a_second_reading_give_the_same_ids(log: Any, tmp_path: Path) -> None:
    """Ids rest on content, so a copied file or reading from 0 again counts nothing twice."""
    data = log.jsonl(log.chat("user", "one"), log.chat("user", "one"))
    (tmp_path / "a.jsonl").write_bytes(data)
    (tmp_path / "b.jsonl").write_bytes(data)
    (a,), (b,) = log.pieces(tmp_path / "a.jsonl"), log.pieces(tmp_path / "b.jsonl")
    assert [m.id for m in a.messages] == [m.id for m in b.messages]
    assert len({m.id for m in a.messages}) == 2
    assert a.identity != b.identity


def test_a_rename_keeps_the_identity(log: Any, tmp_path: Path) -> None:
    """A renamed log goes on where it stopped."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(log.jsonl(log.chat("user", "one")))
    (before,) = log.pieces(path)
    (after,) = log.pieces(path.rename(tmp_path / "z.jsonl"))
    assert before.identity == after.identity


def test_copytruncate_starts_anew(log: Any, tmp_path: Path) -> None:
    """A file that was emptied and written again (the inode stays) is read from its beginning, even if longer."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(log.jsonl(log.chat("user", "one")))
    (piece,) = log.pieces(path)
    stored = {piece.identity: piece.offset}
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(log.jsonl(log.chat("user", "completely new and longer"), log.chat("user", "two")))
    again = read_new(path, lambda identity: stored.get(identity, 0))
    assert again is not None and [m.text for m in again.messages] == ["completely new and longer", "two"]


def test_a_shrunken_file_is_read_from_its_beginning(log: Any, tmp_path: Path) -> None:
    """A stored offset beyond the end, or in the middle of a line, means another content."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(log.jsonl(log.chat("user", "one"), log.chat("user", "two")))
    for odd in (10_000, 17):
        read = read_new(path, lambda identity, odd=odd: odd)
        assert read is not None and len(read.messages) == 2


def test_invalid_utf8_is_replaced_and_counted(log: Any) -> None:
    """A broken byte costs a character, not the message."""
    piece = log.read(log.jsonl(log.chat("user", "caf#")).replace(b"#", b"\xff") + log.jsonl(log.chat("user", "ok")))
    assert [m.text for m in piece.messages] == ["caf\ufffd", "ok"]
    assert piece.skipped == ("1 x invalid UTF-8 replaced, first at byte 0",)


def test_nul_bytes_of_a_hole_are_passed_over(log: Any) -> None:
    """Truncating under a writer that keeps its position leaves a hole of NULs before the next line."""
    assert [m.text for m in log.messages(b"\0" * 5000 + log.jsonl(log.chat("user", "after")))] == ["after"]


def test_a_huge_line_is_streamed_past(log: Any, tmp_path: Path) -> None:
    """A line over the limit is skipped with a reason; its neighbours are read, also when it comes first."""
    path = tmp_path / "a.jsonl"
    huge = log.jsonl(log.chat("user", "x" * 3_000_000))
    path.write_bytes(huge + log.jsonl(log.chat("user", "one")) + huge + log.jsonl(log.chat("user", "two")))
    pieces = log.pieces(path, limits=Limits(line_bytes=100_000))
    assert [m.text for piece in pieces for m in piece.messages] == ["one", "two"]
    assert sum(reason.count("2 x a line longer than 100000 bytes") for p in pieces for reason in p.skipped) == 1


def test_a_big_file_comes_in_bounded_pieces(log: Any, tmp_path: Path) -> None:
    """No piece holds much more than its limits, and together they hold everything once."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(log.jsonl(*(log.chat("user", f"message {n}") for n in range(500))))
    pieces = log.pieces(path, limits=Limits(piece_messages=100))
    assert [len(piece.messages) for piece in pieces] == [100] * 5
    assert len({m.id for piece in pieces for m in piece.messages}) == 500
    assert len(log.pieces(path, limits=Limits(piece_bytes=4096))) > 5


def test_deep_nesting_is_not_a_crash(log: Any) -> None:
    """A line that would exhaust the parser's stack is a bad line like any other."""
    piece = log.read(b"[" * 200_000 + b"\n" + log.jsonl(log.chat("user", "ok")))
    assert [m.text for m in piece.messages] == ["ok"]


def test_an_unknown_format_says_what_to_do(log: Any, tmp_path: Path) -> None:
    """A file nobody recognises is named, with the key to set; it is no crash, and forcing a format reads it."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' * (HEAD // 4))
    with pytest.raises(UnknownFormat, match=r"a\.jsonl: no log format.*intake\.format"):
        read_new(path, lambda identity: 0)
    read = read_new(path, lambda identity: 0, format="openai_chat")
    assert read is not None and not read.messages and read.skipped


def test_a_missing_file_is_a_problem_with_its_name(tmp_path: Path) -> None:
    """An unreadable file is named with the system's reason."""
    with pytest.raises(IntakeProblem, match=r"gone\.jsonl: cannot be read: No such file"):
        read_new(tmp_path / "gone.jsonl", lambda identity: 0)


def test_empty_files_and_blank_lines_hold_nothing(log: Any, tmp_path: Path) -> None:
    """An empty file gives nothing; blank lines move the offset and are no reason."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"")
    assert log.pieces(path) == []
    piece = log.read(b"\n\r\n  \n" + log.jsonl(log.chat("user", "one")))
    assert len(piece.messages) == 1 and piece.skipped == ()

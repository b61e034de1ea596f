"""`log`: writers of the lines that the intake tests read, and ways to read a whole file."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from daemon.events import FileRead
from daemon.intake.reader import Limits, read_new
from policies.records import Message


class Log:
    """Makes log lines and reads them back."""

    @staticmethod
    def jsonl(*records: Any) -> bytes:
        """Records as JSON lines."""
        return b"".join(json.dumps(record).encode() + b"\n" for record in records)

    @staticmethod
    def chat(role: str, content: Any, **more: Any) -> dict[str, Any]:
        """One line of the one-message-a-line OpenAI format."""
        return {"conversation": "c1", "role": role, "content": content, "timestamp": "2026-03-01T10:00:00Z", **more}

    @staticmethod
    def session(kind: str, content: Any, uuid: str, **more: Any) -> dict[str, Any]:
        """A user or assistant record of a Claude Code session."""
        message: dict[str, Any] = {"role": kind, "content": content}
        if kind == "assistant":
            message["model"] = "some-model"
        return {
            "type": kind,
            "uuid": uuid,
            "parentUuid": None,
            "sessionId": "s1",
            "isSidechain": False,
            "timestamp": "2026-03-01T10:00:00.500Z",
            "message": message,
            **more,
        }

    @staticmethod
    def pieces(path: Path, *, format: str = "auto", limits: Limits | None = None, offset: int = 0) -> list[FileRead]:
        """Every piece of a file, from `offset`."""
        reads: list[FileRead] = []

        def offset_of(identity: str) -> int:
            return reads[-1].offset if reads else offset

        while (read := read_new(path, offset_of, format=format, limits=limits or Limits())) is not None:
            reads.append(read)
        return reads

    def read(self, data: bytes, format: str = "auto", name: str = "log.jsonl") -> FileRead:
        """What a file with these bytes holds, in one piece."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_bytes(data)
            (piece,) = self.pieces(path, format=format)
            return piece

    def messages(self, data: bytes, format: str = "auto", name: str = "log.jsonl") -> list[Message]:
        """The messages of a file with these bytes."""
        return list(self.read(data, format, name).messages)


@pytest.fixture(scope="session")
def log() -> Log:
    """See `Log`."""
    return Log()

"""The words in which a dream is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from policies.records import ChatMessage


def ask(pattern: str, memories: Sequence[str], band: str) -> list[ChatMessage]:
    """The request for one dream, in the words nano was trained on (docs/BEHAVIORS.md)."""
    remembered = "".join(f" memory: {memory}." for memory in memories)
    return [
        ChatMessage(role="system", content="dream"),
        ChatMessage(role="user", content=f"pattern: {pattern}.{remembered} difficulty: {band}."),
    ]

"""What a memory graph is made of: nodes and links, as a format reads them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A memory: `kind` is its type (memory, pattern, person ...), `weight` how much it matters (1 is ordinary).

    `phrase` is the memory in a few words, as a dream's prompt uses it; empty where the author wrote none.
    """

    key: str
    kind: str = "memory"
    title: str = ""
    text: str = ""
    weight: float = 1.0
    phrase: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A directed link of a type and a strength (1 is ordinary; a link that is repeated is stronger)."""

    source: str
    target: str
    kind: str = "link"
    strength: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a format read: nodes, links, and what it could not read, each naming its file and the remedy."""

    nodes: tuple[Node, ...] = ()
    links: tuple[Link, ...] = ()
    problems: tuple[str, ...] = field(default=())

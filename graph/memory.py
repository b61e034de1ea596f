"""The memory graph: nodes and links, read through a format, held in a networkx.DiGraph."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import networkx as nx

from graph.errors import GraphUnreadable
from graph.formats import choose
from graph.records import Link, Node

BUNDLED = Path(__file__).parent / "vault"  # the small vault in the package, with the pattern nodes

Stamp = tuple[tuple[str, int, int], ...]


class Memory:
    """A memory graph. `graph` has node keys as nodes (attribute `node`), links as edges (`kind`, `strength`).

    Where two links of different types go the same way, their strengths add up and the stronger one's type stays.
    `problems` lists what could not be read, each naming its file and the remedy.

    >>> memory = Memory([Node(key="a"), Node(key="b")], [Link(source="a", target="b")])
    >>> len(memory), [node.key for node in memory.neighbors("b")]
    (2, ['a'])
    """

    def __init__(
        self,
        nodes: Iterable[Node] = (),
        links: Iterable[Link] = (),
        *,
        problems: Iterable[str] = (),
        path: Path | None = None,
        format: str = "",
        stamp: Stamp = (),
    ) -> None:
        self.graph: nx.DiGraph[str] = nx.DiGraph()
        for node in nodes:
            self.graph.add_node(node.key, node=node)
        for link in sorted(links, key=lambda link: (link.source, link.target, -link.strength, link.kind)):
            if link.source not in self.graph or link.target not in self.graph:
                continue
            if self.graph.has_edge(link.source, link.target):
                self.graph.edges[link.source, link.target]["strength"] += link.strength
            else:
                self.graph.add_edge(link.source, link.target, kind=link.kind, strength=link.strength)
        self.problems = tuple(problems)
        self.path = path
        self.format = format
        self._stamp = stamp

    def __len__(self) -> int:
        return len(self.graph)

    def __contains__(self, key: object) -> bool:
        return key in self.graph

    def __iter__(self) -> Iterator[Node]:
        return (data["node"] for _, data in self.graph.nodes(data=True))

    def get(self, key: str) -> Node | None:
        """The node with this key, or None."""
        return self.graph.nodes[key]["node"] if key in self.graph else None

    def keys(self, kind: str | None = None) -> list[str]:
        """Every key, or those of one kind, in alphabetical order."""
        return sorted(node.key for node in self if kind is None or node.kind == kind)

    def links(self) -> list[Link]:
        """Every link, in the order of source and target."""
        edges = ((s, t, data) for s, t, data in self.graph.edges(data=True))
        found = [Link(source=s, target=t, kind=data["kind"], strength=data["strength"]) for s, t, data in edges]
        return sorted(found, key=lambda link: (link.source, link.target))

    def neighbors(self, key: str) -> list[Node]:
        """The nodes linked to or from `key`, the most strongly linked first; empty for an unknown key."""
        if key not in self.graph:
            return []
        strength: dict[str, float] = {}
        for _, other, data in self.graph.out_edges(key, data=True):
            strength[other] = strength.get(other, 0.0) + data["strength"]
        for other, _, data in self.graph.in_edges(key, data=True):
            strength[other] = strength.get(other, 0.0) + data["strength"]
        return [self.graph.nodes[other]["node"] for other in sorted(strength, key=lambda k: (-strength[k], k))]

    def fingerprint(self) -> str:
        """A hash of all nodes and links: the same memory always has the same one."""
        digest = hashlib.sha256()
        for key in self.keys():
            node = self.graph.nodes[key]["node"]
            digest.update(_line(node.key, node.kind, node.title, node.text, node.weight, node.phrase))
        for link in self.links():
            digest.update(_line(link.source, link.target, link.kind, link.strength))
        return digest.hexdigest()[:20]

    def changed(self) -> bool:
        """Whether the files it was read from are others now, by name, size or time."""
        return self.path is not None and _stamp(self.path, self.format) != self._stamp

    def reloaded(self) -> Memory:
        """This memory, or a newly read one when its files changed. Raises GraphUnreadable like `load`."""
        return load(self.path, self.format) if self.path is not None and self.changed() else self


def load(path: Path | str, format: str = "auto") -> Memory:
    """Read a memory graph; "bundled" is the one in the package. An empty graph is a graph (`len(memory) == 0`).

    Raises GraphUnreadable naming the path and the remedy.
    """
    place = BUNDLED if str(path) == "bundled" else Path(path).expanduser()
    if not place.exists():
        raise GraphUnreadable(f'{place}: there is no such memory graph; mend `graph.path`, or set it to "bundled"')
    chosen = choose(place, format)
    stamp = _stamp(place, chosen.name)  # before reading: what changes meanwhile is then read again
    try:
        contents = chosen.read(place)
    except OSError as error:
        raise GraphUnreadable(
            f"{place}: cannot be read as {chosen.name}: {error.strerror or error}; "
            "mend it, or `graph.path` and `graph.format`"
        ) from error
    return Memory(
        contents.nodes, contents.links, problems=contents.problems, path=place, format=chosen.name, stamp=stamp
    )


def _stamp(path: Path, format: str) -> Stamp:
    found = []
    for file in choose(path, format).files(path):
        try:
            stat = file.stat()
        except OSError:
            found.append((str(file), -1, -1))
        else:
            found.append((str(file), stat.st_size, stat.st_mtime_ns))
    return tuple(found)


def _line(*parts: object) -> bytes:
    return json.dumps(parts, ensure_ascii=True).encode() + b"\n"

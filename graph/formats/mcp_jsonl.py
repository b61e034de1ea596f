"""The file of the MCP memory server: one JSON object a line, an entity with its observations or a relation.

`{"type": "entity", "name", "entityType", "observations": [...]}` and `{"type": "relation", "from", "to",
"relationType"}`. An entity that stands there twice gets both lots of observations. Relations to entities that are not
there are left out and named.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graph.records import Contents, Link, Node

PEEK = 64 * 1024


class McpJsonl:
    """Reads the MCP memory server's JSONL."""

    name = "mcp_jsonl"

    def recognises(self, path: Path) -> float:
        """The share of its first lines that are entities or relations."""
        if not path.is_file():
            return 0.0
        try:
            with path.open("rb") as file:
                head = file.read(PEEK)
        except OSError:
            return 0.0
        lines = [line for line in head.split(b"\n") if line.strip()]
        if len(head) == PEEK and len(lines) > 1:
            lines.pop()  # cut off
        if not lines:
            return 0.5 if path.suffix in (".jsonl", ".json") else 0.1  # the server begins with an empty file
        known = sum(isinstance(_record(line), dict) for line in lines)
        return known / len(lines)

    def files(self, path: Path) -> Iterator[Path]:
        """The one file."""
        yield path

    def read(self, path: Path) -> Contents:
        """See `graph.formats.base.GraphFormat`."""
        kinds: dict[str, str] = {}
        observed: dict[str, list[str]] = {}
        links: Counter[tuple[str, str, str]] = Counter()
        problems: list[str] = []
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                raw = _record(line)
                if isinstance(raw, str):
                    problems.append(f"{path}, line {number}: {raw}; it is left out")
                elif raw["type"] == "entity":
                    kinds.setdefault(raw["name"], str(raw.get("entityType") or "memory").lower())
                    notes = raw.get("observations")
                    observed.setdefault(raw["name"], []).extend(
                        note for note in (notes if isinstance(notes, list) else []) if isinstance(note, str)
                    )
                else:
                    links[raw["from"], raw["to"], str(raw.get("relationType") or "link")] += 1
        missing = sorted({name for source, target, _ in links for name in (source, target) if name not in kinds})
        problems += [f"{path}: a relation names the entity {name!r}, which is not there; add it" for name in missing]
        return Contents(
            nodes=tuple(Node(key=k, kind=kind, title=k, text="\n".join(observed[k])) for k, kind in kinds.items()),
            links=tuple(
                Link(source=source, target=target, kind=kind, strength=float(n))
                for (source, target, kind), n in links.items()
                if source in kinds and target in kinds and source != target
            ),
            problems=tuple(problems),
        )


def _record(line: bytes) -> dict[str, Any] | str:
    """An entity or relation with its names as text, or what is wrong with the line."""
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        return "not valid JSON"
    if not isinstance(raw, dict):
        return "not a JSON object"
    needed = {"entity": ("name",), "relation": ("from", "to")}.get(str(raw.get("type")))
    if needed is None:
        return f"neither an entity nor a relation: `type` is {raw.get('type')!r}"
    for key in needed:
        if not isinstance(raw.get(key), str) or not raw[key]:
            return f"the {raw['type']} has no `{key}`"
    return raw


FORMAT = McpJsonl()

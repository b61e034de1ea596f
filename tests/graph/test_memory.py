"""The memory graph itself, the MCP server's file, and noticing changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph import BUNDLED, GraphUnreadable, Link, Memory, Node, formats, load

LINKS = [
    Link(source="a", target="b", kind="weak"),
    Link(source="a", target="b", kind="strong", strength=3),
    Link(source="c", target="a", strength=2),
    Link(source="a", target="nowhere"),
]


def test_links_add_up_and_neighbours_come_strongest_first() -> None:
    """Parallel links become one with the stronger's type; links lead both ways; dangling ones are dropped."""
    memory = Memory([Node(key=key) for key in "abc"], LINKS)
    assert memory.links()[0] == Link(source="a", target="b", kind="strong", strength=4)
    assert [node.key for node in memory.neighbors("a")] == ["b", "c"]
    assert "nowhere" not in memory and memory.get("nowhere") is None


def test_keys_can_be_chosen_by_kind() -> None:
    """`keys("pattern")` gives the pattern nodes only, in order."""
    memory = Memory([Node(key="z", kind="pattern"), Node(key="b"), Node(key="a", kind="pattern")])
    assert memory.keys("pattern") == ["a", "z"] and memory.keys() == ["a", "b", "z"]


def test_the_fingerprint_rests_on_content_alone() -> None:
    """Order of nodes and links does not matter; any text, weight or strength does."""
    nodes = [Node(key=key, text=key) for key in "abc"]
    one = Memory(nodes, LINKS).fingerprint()
    assert one == Memory(nodes[::-1], LINKS[::-1]).fingerprint()
    others = [Memory(nodes[:2], LINKS), Memory(nodes), Memory([*nodes[:2], Node(key="c", text="c", weight=2)], LINKS)]
    assert len({one, *(other.fingerprint() for other in others)}) == 4


def test_a_memory_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    """A new, changed or removed note is noticed; without one the same memory stays."""
    (tmp_path / "a.md").write_text("x")
    memory = load(tmp_path)
    assert memory.reloaded() is memory
    (tmp_path / "b.md").write_text("y")
    more = memory.reloaded()
    assert more.keys() == ["a", "b"]
    (tmp_path / "a.md").write_text("longer")
    assert more.reloaded().fingerprint() != more.fingerprint()
    (tmp_path / "a.md").unlink()
    assert more.reloaded().keys() == ["b"]
    assert Memory().reloaded().keys() == []


def test_the_mcp_servers_file_is_read(tmp_path: Path) -> None:
    """Entities with observations and typed relations; bad lines and dangling relations are named with their line."""
    path = tmp_path / "memory.jsonl"
    lines = [
        {"type": "entity", "name": "Ann", "entityType": "Person", "observations": ["likes tea", "is kind"]},
        {"type": "entity", "name": "tea", "entityType": "thing", "observations": []},
        {"type": "relation", "from": "Ann", "to": "tea", "relationType": "likes"},
        {"type": "relation", "from": "Ann", "to": "Bob", "relationType": "knows"},
        {"type": "entity"},
    ]
    path.write_text("\n".join([*map(json.dumps, lines), "half {"]))
    memory = load(path)
    ann = memory.get("Ann")
    assert memory.format == "mcp_jsonl" and ann is not None
    assert (ann.kind, ann.text) == ("person", "likes tea\nis kind")
    assert memory.links() == [Link(source="Ann", target="tea", kind="likes")]
    assert len(memory.problems) == 3
    assert any("line 5: the entity has no `name`" in problem for problem in memory.problems)
    assert any("'Bob'" in problem for problem in memory.problems)


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_no_line_of_the_mcp_file_raises(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    """Rubbish is listed, and the good entity beside it is read."""
    path = tmp_path_factory.mktemp("mcp") / "m.jsonl"
    path.write_bytes(b"\n".join([*lines, b'{"type": "entity", "name": "ok"}']))
    assert "ok" in load(path, "mcp_jsonl")


def test_a_format_that_cannot_read_its_path_says_so(tmp_path: Path) -> None:
    """A folder forced into a file format is a clear error, not a traceback."""
    with pytest.raises(GraphUnreadable, match=r"cannot be read as mcp_jsonl.*graph\.format"):
        load(tmp_path, "mcp_jsonl")


@pytest.mark.parametrize("name", sorted(formats.discover()))
def test_a_format_is_named_by_its_module(name: str) -> None:
    """The configuration names a format by its module's name."""
    assert formats.discover()[name].name == name


def test_bundled_is_the_vault_in_the_package() -> None:
    """The word and the path load the same graph."""
    assert load("bundled").fingerprint() == load(BUNDLED).fingerprint()

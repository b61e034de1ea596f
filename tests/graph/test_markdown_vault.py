"""A vault of Markdown notes: front matter, links in every form, and notes that are broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.errors import GraphUnreadable
from graph.formats.markdown_vault import MarkdownVault
from graph.memory import Memory, load


def write(folder: Path, **notes: str) -> Path:
    """Notes by name; `__` stands for a folder."""
    for name, text in notes.items():
        path = folder / f"{name.replace('__', '/')}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def edges(memory: Memory) -> set[tuple[str, str, str, float]]:
    return {(link.source, link.target, link.kind, link.strength) for link in memory.links()}


def test_a_note_becomes_a_node(tmp_path: Path) -> None:
    """Key, kind, title, weight and phrase come from the front matter, the text from the body without brackets."""
    write(
        tmp_path,
        tea="---\nkind: Pattern\ntitle: Green tea\nweight: 2\nphrase: make  tea\n---\nWith [[cup|a cup]].\n",
        cup="# The cup\nblue",
        people__ann="hello",
    )
    memory = load(tmp_path)
    assert memory.format == "markdown_vault" and memory.problems == () and len(memory) == 3
    tea, cup, ann = memory.get("tea"), memory.get("cup"), memory.get("ann")
    assert tea and cup and ann
    assert (tea.kind, tea.title, tea.weight, tea.phrase, tea.text) == (
        "pattern",
        "Green tea",
        2,
        "make tea",
        "With a cup.",
    )
    assert (cup.kind, cup.title) == ("memory", "The cup")
    assert (ann.kind, ann.title) == ("people", "ann")


def test_links_in_every_form_lead_to_their_note(tmp_path: Path) -> None:
    """Alias, anchor, block, path, other case, an alias or title of the note, typed fields, front matter lists."""
    write(
        tmp_path,
        a='---\nrelated: ["[[b]]", [[c]]]\n---\n[[B]] [[b|x]] [[b#head]] [[b^block]] [[sub/c]] [[see]] [[The Dee]]\n'
        "causes:: [[d]]\n- part of:: [[b]]\n[[nowhere]] [[a]] ![[b]]\n```\n[[d]]\n```\n`[[c]]`",
        b="---\naliases: [See]\n---\n",
        sub__c="x",
        d="---\ntitle: The Dee\n---\n",
    )
    memory = load(tmp_path)
    found = {(s, t): strength for s, t, _, strength in edges(memory)}
    # b: four in the text and one embedded, [[see]], "part of", "related"; c: [[sub/c]] and "related"
    assert found == {("a", "b"): 8.0, ("a", "c"): 2.0, ("a", "d"): 2.0}
    kinds = {(link.target, link.kind) for link in MarkdownVault().read(tmp_path).links}
    assert kinds == {
        *(("b", "link"), ("b", "related"), ("b", "part of")),
        *(("c", "link"), ("c", "related")),
        *(("d", "link"), ("d", "causes")),
    }


@pytest.mark.parametrize(
    "content, why",
    [
        (b"---\nkind: [open\n---\ntext", "not valid YAML, line"),
        (b"---\nkind: a: b\n---\ntext", "not valid YAML, line 2"),
        (b"caf\xff", "not valid UTF-8"),
        (b"x" * 2_100_000, "larger than"),
    ],
)
def test_a_broken_note_is_named_and_costs_no_other(tmp_path: Path, content: bytes, why: str) -> None:
    """The file, what is wrong and what becomes of it are said; the other notes are read."""
    write(tmp_path, good="fine [[bad]]")
    (tmp_path / "bad.md").write_bytes(content)
    memory = load(tmp_path)
    assert memory.keys() == ["good"]
    (problem,) = memory.problems
    assert str(tmp_path / "bad.md") in problem and why in problem and "left out" in problem


def test_names_that_occur_twice_keep_both_notes(tmp_path: Path) -> None:
    """Files of the same name are told apart by their folder; a claimed key that is taken is complained about."""
    write(tmp_path, one__note="1", two__note="2", x="---\nkey: k\n---\n[[two/note]]", y="---\nkey: k\n---\n")
    memory = load(tmp_path)
    assert memory.keys() == ["k", "one/note", "two/note", "y"]
    assert edges(memory) == {("k", "two/note", "link", 1.0)}
    (problem,) = memory.problems
    assert "`key` 'k' is also that of" in problem


def test_hidden_folders_and_other_files_are_not_read(tmp_path: Path) -> None:
    """.obsidian, .trash and .git hold no memories, nor do images."""
    write(tmp_path, a="x")
    write(tmp_path / ".trash", gone="x")
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    assert load(tmp_path).keys() == ["a"]


def test_an_empty_folder_is_an_empty_graph(tmp_path: Path) -> None:
    """A new vault is no error: it has length 0."""
    memory = load(tmp_path)
    assert len(memory) == 0 and memory.problems == () and memory.keys() == [] and memory.neighbors("x") == []


def test_what_is_not_there_is_named_with_the_remedy(tmp_path: Path) -> None:
    """A missing path, an unknown format and an unrecognised file say what to change."""
    with pytest.raises(GraphUnreadable, match=r"nowhere: there is no such memory graph; mend `graph\.path`"):
        load(tmp_path / "nowhere")
    with pytest.raises(GraphUnreadable, match="did you mean 'markdown_vault'"):
        load(tmp_path, "markdown-vault")
    (tmp_path / "x.bin").write_bytes(b"\0\1")
    with pytest.raises(GraphUnreadable, match=r"x\.bin: no graph format recognises it"):
        load(tmp_path / "x.bin")


@given(body=st.text(st.characters(codec="utf-8"), max_size=60), head=st.text("a:[]{}-'\"& *!|>\n#", max_size=30))
def test_no_note_makes_reading_raise(tmp_path_factory: pytest.TempPathFactory, body: str, head: str) -> None:
    """Whatever is written into a note, it is a node or a named problem."""
    folder = tmp_path_factory.mktemp("vault")
    (folder / "n.md").write_text(f"---\n{head}\n---\n{body}", encoding="utf-8")
    memory = load(folder)
    assert len(memory) + len(memory.problems) == 1

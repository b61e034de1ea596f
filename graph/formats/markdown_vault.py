"""A vault of Markdown notes with front matter and `[[wikilinks]]`, as Obsidian, Logseq and Foam keep them.

A note is a node. Its key is `key` of the front matter or its file's name (with its folder where the name occurs
twice); its kind is `kind` or `type` of the front matter, or the folder it lies in, or "memory". Links are found in the
text, where `relation:: [[note]]` gives them a type, and in the front matter, where the key is the type; they may have
an alias (`[[note|words]]`), an anchor (`[[note#heading]]`), and point to a key, file name, title or alias in any case.
Links to notes that do not exist are left out, as in the editors: they are notes still to be written.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import frontmatter
import yaml

from graph.formats.base import number
from graph.records import Contents, Link, Node

WIKILINK = re.compile(r"(!?)\[\[([^\[\]|#^\n]*)(?:[#^][^\[\]|\n]*)?(?:\|([^\[\]\n]*))?\]\]")
TYPED = re.compile(r"(?:^|[\[(])\s*(?:[-*]\s+)?([\w][\w -]{0,40})::\s*$")
CODE = re.compile(r"^(```|~~~).*?^\1[ \t]*$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#\s+(.+?)\s*#*\s*$", re.MULTILINE)
LARGEST = 2_000_000  # bytes of a note; a larger file is no note


@dataclass(frozen=True, slots=True)
class _Note:
    """A parsed file, before keys are settled."""

    path: Path
    meta: dict[str, Any]
    body: str


class MarkdownVault:
    """Reads a folder of Markdown notes."""

    name = "markdown_vault"

    def recognises(self, path: Path) -> float:
        """A folder is a vault: surely with notes in it, perhaps (a new one) without."""
        if not path.is_dir():
            return 0.0
        return 0.9 if next(self.files(path), None) is not None else 0.5

    def files(self, path: Path) -> Iterator[Path]:
        """The notes below `path`, in order; hidden folders (.obsidian, .git, .trash) are not entered."""
        for base, folders, names in os.walk(path):
            folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
            for name in sorted(names):
                if name.lower().endswith(".md") and not name.startswith("."):
                    yield Path(base, name)

    def read(self, path: Path) -> Contents:
        """See `graph.formats.base.GraphFormat`."""
        with os.scandir(path):  # os.walk is silent about a folder that cannot be read
            pass
        notes: list[_Note] = []
        problems: list[str] = []
        for file in self.files(path):
            try:
                notes.append(_parse(file))
            except OSError as error:
                problems.append(f"{file}: cannot be read: {error.strerror or error}; it is left out")
            except ValueError as error:
                problems.append(f"{file}: {error}; mend it, it is left out until then")
        keys, clashes = _keys(path, notes)
        names = _names(path, notes, keys)
        links: Counter[tuple[str, str, str]] = Counter()
        for note, key in zip(notes, keys, strict=True):
            for kind, target in _links(note, names):
                if target != key:
                    links[key, target, kind] += 1
        return Contents(
            nodes=tuple(_node(path, note, key) for note, key in zip(notes, keys, strict=True)),
            links=tuple(Link(source=s, target=t, kind=k, strength=float(n)) for (s, t, k), n in links.items()),
            problems=(*problems, *clashes),
        )


def _parse(file: Path) -> _Note:
    """Raises ValueError saying what is wrong with the file."""
    if file.stat().st_size > LARGEST:
        raise ValueError(f"larger than {LARGEST} bytes, which is no note")
    try:
        text = file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"not valid UTF-8 (byte {error.start})") from None
    try:
        post = frontmatter.loads(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ValueError(f"the front matter is not valid YAML{where}: {getattr(error, 'problem', error)}") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the front matter cannot be read: {error}") from None
    meta = {str(key): value for key, value in post.metadata.items()}
    return _Note(file, meta, str(post.content))


def _keys(root: Path, notes: list[_Note]) -> tuple[list[str], list[str]]:
    """A unique key for each note, and complaints about keys that two notes claim."""
    stems = Counter(note.path.stem for note in notes)
    keys: list[str] = []
    taken: dict[str, Path] = {}
    problems: list[str] = []
    for note in notes:
        inside = note.path.relative_to(root).with_suffix("").as_posix()
        wish = note.meta.get("key")
        key = wish.strip() if isinstance(wish, str) and wish.strip() else ""
        if key in taken:
            problems.append(f"{note.path}: `key` {key!r} is also that of {taken[key]}; here it is {inside!r}")
            key = ""
        key = key or (note.path.stem if stems[note.path.stem] == 1 and note.path.stem not in taken else inside)
        while key in taken:  # only where a note claims another's path as its key
            key += "~"
        taken[key] = note.path
        keys.append(key)
    return keys, problems


def _names(root: Path, notes: list[_Note], keys: list[str]) -> dict[str, str]:
    """What links may call a note, in lower case, to its key; keys win, then paths, file names, aliases, titles."""
    names: dict[str, str] = {key.lower(): key for key in reversed(keys)}
    for note, key in zip(notes, keys, strict=True):
        names.setdefault(note.path.relative_to(root).with_suffix("").as_posix().lower(), key)
    for note, key in zip(notes, keys, strict=True):
        names.setdefault(note.path.stem.lower(), key)
    for note, key in zip(notes, keys, strict=True):
        aliases = note.meta.get("aliases", note.meta.get("alias", []))
        for alias in aliases if isinstance(aliases, list) else [aliases]:
            names.setdefault(str(alias).strip().lower(), key)
        names.setdefault(_title(note).lower(), key)
    names.pop("", None)
    return names


def _links(note: _Note, names: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(type, key) of every link that leads to a note."""
    body = CODE.sub("", note.body)
    for found in WIKILINK.finditer(body):
        if (target := _target(found.group(2), names)) is not None:
            line = body[body.rfind("\n", 0, found.start()) + 1 : found.start()]
            typed = TYPED.search(line)
            yield (typed.group(1).strip().lower() if typed else "link"), target
    for key, value in note.meta.items():
        for text in _texts(value):
            for found in WIKILINK.finditer(text):
                if (target := _target(found.group(2), names)) is not None:
                    yield key.lower(), target


def _texts(value: object, depth: int = 0) -> Iterator[str]:
    """The texts in a value of the front matter; YAML reads an unquoted [[note]] as a list in a list."""
    if isinstance(value, str):
        yield f"[[{value}]]" if depth > 1 else value
    elif isinstance(value, list) and depth < 4:
        for item in value:
            yield from _texts(item, depth + 1)


def _target(name: str, names: dict[str, str]) -> str | None:
    wanted = name.strip().lower().removesuffix(".md")
    return names.get(wanted) or names.get(wanted.rsplit("/", 1)[-1])


def _node(root: Path, note: _Note, key: str) -> Node:
    kind = note.meta.get("kind", note.meta.get("type"))
    folder = note.path.parent
    phrase = note.meta.get("phrase")
    return Node(
        key=key,
        kind=str(kind).strip().lower() if isinstance(kind, str) and kind.strip() else _folder_kind(root, folder),
        title=_title(note),
        text=WIKILINK.sub(lambda found: "" if found.group(1) else found.group(3) or found.group(2), note.body).strip(),
        weight=number(note.meta.get("weight"), 1.0),
        phrase=" ".join(phrase.split()) if isinstance(phrase, str) else "",
    )


def _folder_kind(root: Path, folder: Path) -> str:
    return "memory" if folder == root else folder.name.lower()


def _title(note: _Note) -> str:
    title = note.meta.get("title")
    if isinstance(title, str) and title.strip():
        return title.strip()
    heading = HEADING.search(CODE.sub("", note.body))
    return heading.group(1) if heading else note.path.stem.replace("-", " ").replace("_", " ")


FORMAT = MarkdownVault()

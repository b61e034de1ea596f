"""Behaviour files: what is right is read, and what is wrong is named with its file, key and remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon import behaviors
from daemon.errors import BehaviorError
from policies.behaviors import Behavior
from policies.records import BANDS

RIGHT = """
name = "patience"
title = "Patience"
graph_key = "pattern-haste"
guidance = "wait"
dream_pattern = "patience"
judge = "nano_world"
delta = 0.05

[eligible]
any = ['\\bhurry\\b', '\\bquick\\b']
none = ['\\bemergency\\b']

[signals]
failure = ['^too fast']
success = ['^thanks']

[[probes]]
prompt = "hurry up."
kind = "target"
band = "subtle"
split = "sealed"
preferred = "no."

[[examples]]
prompt = "be quick."
kind = "counter"
band = "obvious"
preferred = "yes."
rejected = "no."
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes the file above with some of its text replaced."""

    def written(*changes: tuple[str, str], name: str = "patience.toml") -> Path:
        text = RIGHT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return written


def refused(file: Path) -> str:
    with pytest.raises(BehaviorError) as error:
        behaviors.read(file)
    return str(error.value)


def test_a_file_is_read_whole(write: Callable[..., Path]) -> None:
    """Every key arrives in the record; patterns ignore case; what is not given has its default."""
    found = behaviors.read(write())
    assert (found.name, found.title, found.graph_key, found.delta) == ("patience", "Patience", "pattern-haste", 0.05)
    assert [p.search("HURRY please") is not None for p in found.eligible_any] == [True, False]
    assert found.eligible_none[0].search("Emergency") and found.failure[0].search("Too fast") and found.success
    (probe,), (pair,) = found.probes, found.pairs
    assert (probe.prompt, probe.kind, probe.band, probe.split) == ("hurry up.", "target", "subtle", "sealed")
    assert (probe.preferred, probe.rejected) == ("no.", "") and probe.id
    assert (pair.prompt, pair.kind, pair.preferred, pair.rejected) == ("be quick.", "counter", "yes.", "no.")
    assert found.select(split="sealed", kind="target") == (probe,) and found.select(split="rotating") == ()


def test_defaults(write: Callable[..., Path]) -> None:
    """Without a margin it is .08, without a split a probe rotates, and its id depends on its prompt alone."""
    found = behaviors.read(write(("delta = 0.05\n", ""), ('split = "sealed"\n', "")))
    assert found.delta == 0.08 and found.probes[0].split == "rotating"
    assert found.probes[0].id == behaviors.read(write()).probes[0].id


def test_rows_may_stand_in_json_lines_beside_it(write: Callable[..., Path], tmp_path: Path) -> None:
    """Files named in `files` are read from the same folder, and added to what the TOML itself holds."""
    row = '{"id": "p1", "prompt": "quick!", "kind": "target", "band": "medium"}\n'
    (tmp_path / "more.jsonl").write_text(row + "\n\n", encoding="utf-8")
    (tmp_path / "pairs.jsonl").write_text(row, encoding="utf-8")
    file = write(("[eligible]", '[files]\nprobes = "more.jsonl"\nexamples = "pairs.jsonl"\n\n[eligible]'))
    found = behaviors.read(file)
    assert [p.prompt for p in found.probes] == ["hurry up.", "quick!"] and found.probes[1].id == "p1"
    assert [p.prompt for p in found.pairs] == ["be quick.", "quick!"]


@pytest.mark.parametrize("name", ["listening", "not_rushing", "push_back"])
def test_the_bundled_ones_are_complete(name: str) -> None:
    """Each has rotating and sealed probes of both kinds in every band, with both answers, and no probe twice."""
    found: Behavior = behaviors.load(behaviors.BUNDLED, [name])[name]
    assert found.name == name and found.guidance and found.failure and found.success
    for split in ("rotating", "sealed"):
        for kind in ("target", "counter"):
            probes = found.select(split=split, kind=kind)
            assert {p.band for p in probes} == set(BANDS) and all(p.preferred and p.rejected for p in probes)
    assert len({p.id for p in found.probes}) == len({p.prompt for p in found.probes}) == len(found.probes)


def test_behaviours_come_in_the_order_named(write: Callable[..., Path], tmp_path: Path) -> None:
    """The configuration's order is kept, by the files' names."""
    write(name="b.toml")
    write(name="a.toml")
    assert list(behaviors.load(tmp_path, ["b", "a"])) == ["b", "a"]


def test_the_folder_is_bundled_or_beside_the_configuration(tmp_path: Path) -> None:
    """ "bundled" is the package's own; a relative path starts where the configuration stands."""
    assert behaviors.folder("bundled", tmp_path) == behaviors.BUNDLED
    assert behaviors.folder("mine", tmp_path) == (tmp_path / "mine").resolve()
    assert behaviors.folder(str(tmp_path / "there"), Path("/elsewhere")) == (tmp_path / "there").resolve()


def test_a_behaviour_that_is_not_there_is_named_with_what_is(write: Callable[..., Path], tmp_path: Path) -> None:
    """The message names the file looked for and the behaviours that its folder has."""
    write(name="patience.toml")
    write(name="calm.toml")
    assert re.search(
        r"patienc\.toml: no such behaviour; this folder has calm, patience$", refused(tmp_path / "patienc.toml")
    )
    assert "this folder has none" in refused(tmp_path / "nowhere" / "x.toml")


def test_what_is_no_toml_is_named_with_its_line(write: Callable[..., Path], tmp_path: Path) -> None:
    """Broken syntax says where; a file that is no text, or no file, is named."""
    assert re.search(
        r"patience\.toml: cannot be read: .*line 3", refused(write(('title = "Patience"', "title = Patience")))
    )
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "binary.toml: cannot be read" in refused(tmp_path / "binary.toml")
    (tmp_path / "folder.toml").mkdir()
    assert "folder.toml: cannot be read" in refused(tmp_path / "folder.toml")


@pytest.mark.parametrize("key", behaviors.REQUIRED)
def test_a_missing_or_wrong_key_is_named(write: Callable[..., Path], key: str) -> None:
    """Each required key: absent, misspelled, or not a string."""
    line = next(line for line in RIGHT.splitlines() if line.startswith(f"{key} ="))
    for wrong in ("", line.replace(key, f"{key}s", 1), f"{key} = 3"):
        assert re.search(rf"patience\.toml: `{key}` is missing or not a string; add it", refused(write((line, wrong))))


@pytest.mark.parametrize(
    ("old", "key"),
    [("'\\bquick\\b'", "eligible.any"), ("'\\bemergency\\b'", "eligible.none"), ("'^too fast'", "signals.failure"),
     ("'^thanks'", "signals.success")],
)  # fmt: skip
def test_a_bad_pattern_is_named_with_its_key(write: Callable[..., Path], old: str, key: str) -> None:
    """The message quotes the pattern, names its key, and says what is wrong with it."""
    said = refused(write((old, "'(oops'")))
    assert re.search(rf"patience\.toml: `{re.escape(key)}`: '\(oops' is not a regular expression: .*\)", said)


@pytest.mark.parametrize("key", ["prompt", "kind", "band"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_probe_or_example_without_a_key_is_told(write: Callable[..., Path], key: str, place: int) -> None:
    """The lacking key and what each row needs are named, for probes and examples alike."""
    lines = [line for line in RIGHT.splitlines() if line.startswith(f"{key} =")]
    said = refused(write((f"{lines[place]}\n", "")))
    assert re.search(rf"patience\.toml: a probe or example lacks '{key}'; each needs prompt, kind and band", said)


def test_a_file_of_rows_that_cannot_be_read_is_named(write: Callable[..., Path], tmp_path: Path) -> None:
    """One that is not there by the key that names it, a broken line by file and number."""
    file = write(("[eligible]", '[files]\nprobes = "more.jsonl"\n\n[eligible]'))
    assert re.search(r"patience\.toml: `files` names more\.jsonl, which cannot be read: No such file", refused(file))
    (tmp_path / "more.jsonl").write_text(
        '{"prompt": "x", "kind": "target", "band": "subtle"}\n{"prompt"', encoding="utf-8"
    )
    assert re.search(r"more\.jsonl:2: not JSON: ", refused(file))

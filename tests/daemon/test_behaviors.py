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
    """Writes the file above, under its file's name, with some of its text replaced."""

    def written(*changes: tuple[str, str], name: str = "patience.toml") -> Path:
        text = RIGHT.replace('name = "patience"', f'name = "{Path(name).stem}"')
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
    row = '"prompt": "quick!", "kind": "target", "band": "medium"}\n'
    (tmp_path / "more.jsonl").write_text('{"id": "p1", ' + row + "\n\n", encoding="utf-8")
    (tmp_path / "pairs.jsonl").write_text("{" + row, encoding="utf-8")
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
    """Each required key: absent or misspelled it is missing; what is not a string is quoted."""
    written = write().read_text(encoding="utf-8")
    line = next(line for line in written.splitlines() if line.startswith(f"{key} ="))
    for wrong in ("", line.replace(key, f"{key}s", 1)):
        assert refused(write((line, wrong))).endswith(f"patience.toml: `{key}` is missing; add it")
    assert re.search(rf"patience\.toml: `{key}` = 3: .*valid string", refused(write((line, f"{key} = 3"))))


def test_a_name_is_its_files(write: Callable[..., Path], tmp_path: Path) -> None:
    """Records carry the name and the worker looks for the file: a behaviour that is called otherwise is refused."""
    said = refused(write(name="patience.toml").rename(tmp_path / "calm.toml"))
    assert said.endswith("calm.toml: `name` is 'patience'; name it like its file, 'calm', or rename the file")


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("delt = 0.05", "delta"), ("signal = {}", "signals"), ("elligible = {}", "eligible"), ("probs = []", "probes")],
)
def test_a_misspelled_key_is_named_with_the_nearest(write: Callable[..., Path], wrong: str, near: str) -> None:
    """A key that nobody reads would be a setting without effect: it is refused, with the one that was meant."""
    said = refused(write(("delta = 0.05", wrong)))
    assert said.endswith(f"patience.toml: unknown key `{wrong.split()[0]}`; did you mean `{near}`?")


def test_a_key_that_is_like_none_is_to_be_removed(write: Callable[..., Path]) -> None:
    """Where no key is near, none is proposed; keys within tables and rows are told with their place."""
    assert refused(write(("delta = 0.05", "xyzzy = 1"))).endswith("unknown key `xyzzy`; remove it")
    assert "unknown key `eligible.xyzzy`" in refused(write(("none = ", "xyzzy = ")))
    assert "unknown key `probes.0.xyzzy`" in refused(write(('split = "sealed"', 'xyzzy = "sealed"')))


@pytest.mark.parametrize("value", ["0", "1", "-0.1", "8", "nan", "'much'"])
def test_a_margin_out_of_range_is_refused(write: Callable[..., Path], value: str) -> None:
    """`delta` is a difference of rates: more than 0, less than 1, and a number."""
    assert "patience.toml: `delta` = " in refused(write(("delta = 0.05", f"delta = {value}")))


@pytest.mark.parametrize(
    ("old", "key"),
    [("'\\bquick\\b'", "eligible.any.1"), ("'\\bemergency\\b'", "eligible.none.0"),
     ("'^too fast'", "signals.failure.0"), ("'^thanks'", "signals.success.0")],
)  # fmt: skip
def test_a_bad_pattern_is_named_with_its_key(write: Callable[..., Path], old: str, key: str) -> None:
    """The message quotes the pattern, names its key and place, and says what is wrong with it."""
    said = refused(write((old, "'(oops'")))
    assert re.search(rf"patience\.toml: `{re.escape(key)}` = '\(oops': '\(oops' is not a regular expression: ", said)


@pytest.mark.parametrize(
    ("old", "key"),
    [("any = ['\\bhurry\\b', '\\bquick\\b']", "eligible.any"), ("none = ['\\bemergency\\b']", "eligible.none"),
     ("failure = ['^too fast']", "signals.failure"), ("success = ['^thanks']", "signals.success")],
)  # fmt: skip
def test_one_pattern_without_brackets_is_no_list_of_letters(write: Callable[..., Path], old: str, key: str) -> None:
    """A string where a list of patterns belongs is refused; it would otherwise be a pattern per letter."""
    said = refused(write((old, f"{key.split('.')[1]} = 'hurry'")))
    assert re.search(rf"patience\.toml: `{re.escape(key)}` = 'hurry': .*valid list", said)


@pytest.mark.parametrize("key", ["prompt", "band"])
@pytest.mark.parametrize(("place", "rows"), [(0, "probes"), (1, "examples")])
def test_a_probe_or_example_without_a_key_is_told(write: Callable[..., Path], key: str, place: int, rows: str) -> None:
    """The lacking key is named with its row, for probes and examples alike."""
    lines = [line for line in RIGHT.splitlines() if line.startswith(f"{key} =")]
    said = refused(write((f"{lines[place]}\n", "")))
    assert said.endswith(f"patience.toml: `{rows}.0.{key}` is missing; add it")


@pytest.mark.parametrize(
    ("old", "new", "key", "valid"),
    [
        ('kind = "target"', 'kind = "tarqet"', "probes.0.kind", "'target' or 'counter'"),
        ('band = "subtle"', 'band = "suttle"', "probes.0.band", "'obvious', 'medium' or 'subtle'"),
        ('split = "sealed"', 'split = "seald"', "probes.0.split", "'rotating', 'sealed' or 'canary'"),
        ('kind = "counter"', 'kind = "counters"', "examples.0.kind", "'target' or 'counter'"),
        ('band = "obvious"', 'band = "obvius"', "examples.0.band", "'obvious', 'medium' or 'subtle'"),
    ],
)
def test_a_wrong_kind_band_or_split_is_told_with_the_right_ones(
    write: Callable[..., Path], old: str, new: str, key: str, valid: str
) -> None:
    """A typo would take a row out of every selection in silence: it is quoted, and what it may be is listed."""
    wrong = new.split('"')[1]
    assert re.search(rf"patience\.toml: `{re.escape(key)}` = '{wrong}': .*{valid}$", refused(write((old, new))))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("[1, 2]", "`the line` = [1, 2]: "),
        ('"hurry up."', "`the line` = 'hurry up.': "),
        ("null", "`the line` = None: "),
        ('{"prompt": "x", "band": "subtle", "split": "seald"}', "`split` = 'seald': "),
        ('{"prompt": "", "band": "subtle"}', "`prompt` = '': "),
        ('{"prompt": "x", "band": "subtle", "splt": "sealed"}', "unknown key `splt`; did you mean `split`?"),
        ('{"prompt": "x"}', "`band` is missing; add it"),
        ('{"prompt"', "not JSON: "),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(
    write: Callable[..., Path], tmp_path: Path, row: str, words: str
) -> None:
    """Rows that are no objects, lack a key, have a wrong one or a wrong value, or are no JSON."""
    file = write(("[eligible]", '[files]\nprobes = "more.jsonl"\n\n[eligible]'))
    right = '{"prompt": "x", "kind": "target", "band": "subtle"}'
    (tmp_path / "more.jsonl").write_text(f"{right}\n\n{row}\n", encoding="utf-8")
    assert f"more.jsonl:3: {words}" in refused(file)


@pytest.mark.parametrize("key", ["probes", "examples"])
def test_a_file_of_rows_that_cannot_be_read_is_named(write: Callable[..., Path], tmp_path: Path, key: str) -> None:
    """One that is not there, or is no UTF-8, is named with the key that names it."""
    file = write(("[eligible]", f'[files]\n{key} = "more.jsonl"\n\n[eligible]'))
    assert re.search(r"patience\.toml: `files` names more\.jsonl, which cannot be read: .*No such file", refused(file))
    (tmp_path / "more.jsonl").write_bytes(b'{"prompt": "caf\xe9", "band": "subtle"}\n')
    assert re.search(r"patience\.toml: `files` names more\.jsonl, which cannot be read: .*utf-8", refused(file))

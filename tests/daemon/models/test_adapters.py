"""Adapter folders are whole or not there, and what was changed is refused."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.errors import AdapterError
from daemon.models import adapters

ROOT = Path(__file__).resolve().parents[3]
FILES = {adapters.WEIGHTS: b"w" * 1000, adapters.CONFIG: b'{"r": 8}', adapters.OPTIMIZER: b"o" * 2000}
CARD: dict[str, object] = {"base": "abc", "parent": None}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Card, configuration and files come back; nothing else is left beside the folder."""
    adapters.write(tmp_path / "a", FILES, CARD)
    stored = adapters.read(tmp_path / "a", base="abc")
    assert stored.config == {"r": 8} and stored.card["parent"] is None
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == {*FILES, adapters.CARD}


def test_a_repeated_job_replaces_its_folder(tmp_path: Path) -> None:
    """Writing the same place again gives the new content, whole."""
    adapters.write(tmp_path / "a", FILES, CARD)
    adapters.write(tmp_path / "a", FILES | {adapters.WEIGHTS: b"new"}, CARD)
    assert (tmp_path / "a" / adapters.WEIGHTS).read_bytes() == b"new"
    adapters.read(tmp_path / "a")
    assert {path.name for path in tmp_path.iterdir()} == {"a"}


@given(st.sampled_from(sorted(FILES)), st.data())
@settings(max_examples=40)
def test_any_changed_or_cut_byte_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    """Truncating a file anywhere, or changing one byte, is found by reading, and the file is named."""
    folder = tmp_path_factory.mktemp("adapter") / "a"
    adapters.write(folder, FILES, CARD)
    content = FILES[name]
    place = data.draw(st.integers(0, len(content) - 1))
    cut = data.draw(st.booleans())
    (folder / name).write_bytes(
        content[:place] if cut else content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    )
    with pytest.raises(AdapterError, match=name):
        adapters.read(folder)


def test_another_base_is_refused(tmp_path: Path) -> None:
    """An adapter of another base model is refused, naming both fingerprints and the key."""
    adapters.write(tmp_path / "a", FILES, CARD)
    with pytest.raises(AdapterError, match=r"another base model.*abc.*xyz.*model\.path"):
        adapters.read(tmp_path / "a", base="xyz")


@pytest.mark.parametrize("missing", [None, adapters.CARD, adapters.WEIGHTS])
def test_missing_parts_are_named(tmp_path: Path, missing: str | None) -> None:
    """A folder that is not there, or lacks its card or weights, is an error naming it."""
    folder = tmp_path / "a"
    if missing:
        adapters.write(folder, FILES, CARD)
        (folder / missing).unlink()
    with pytest.raises(AdapterError, match=missing or "no such adapter folder"):
        adapters.read(folder)


@pytest.mark.parametrize("card", ["{", "[]", '{"sha256": 5}', "{}"])
def test_a_broken_card_is_refused(tmp_path: Path, card: str) -> None:
    """A card that is not JSON, not an object or names no hashes is an error, never an accepted adapter."""
    adapters.write(tmp_path / "a", FILES, CARD)
    (tmp_path / "a" / adapters.CARD).write_text(card)
    with pytest.raises(AdapterError, match=r"card\.json"):
        adapters.read(tmp_path / "a")


WRITE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from daemon.errors import AdapterError
from daemon.models import adapters
files = {{adapters.WEIGHTS: b"w" * int(sys.argv[2]), adapters.CONFIG: b"{{}}"}}
try:
    adapters.write(Path(sys.argv[1]) / "a", files, {{}})
except AdapterError as error:
    print(error)
print(sorted(path.name for path in Path(sys.argv[1]).iterdir()))
"""


def test_a_full_disk_leaves_the_old_adapter_and_nothing_half_written(tmp_path: Path) -> None:
    """On a file system that is really full (a size limit where mounting is not allowed), saving fails with a remedy."""
    (tmp_path / "disk").mkdir()
    where = str(tmp_path / "disk")
    small = [sys.executable, "-c", WRITE, where, "1000"]
    large = [sys.executable, "-c", WRITE, where, "1000000"]
    can_mount = (
        os.geteuid() == 0 and shutil.which("unshare") and subprocess.run(["unshare", "-m", "true"]).returncode == 0
    )
    if can_mount:
        script = 'mount -t tmpfs -o size=256k none "$1" && "$2" -c "$3" "$1" 1000 && "$2" -c "$3" "$1" 1000000'
        command = ["unshare", "-m", "sh", "-c", script, "sh", where, sys.executable, WRITE]
        done = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    else:
        subprocess.run(small, check=True)
        limit = (500_000, 500_000)
        done = subprocess.run(
            large, capture_output=True, text=True, check=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        ).stdout  # fmt: skip
        done = f"['a']\n{done}"
    first, message, after = done.strip().splitlines()
    assert first == after == "['a']"
    assert where in message and "free space" in message and "daemon.state" in message
    assert ("No space left on device" in message) == bool(can_mount)


def test_kill_9_while_saving_leaves_whole_folders_and_sweepable_rests(tmp_path: Path) -> None:
    """A writer killed at random moments leaves only whole adapters once `sweep` has run."""
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from daemon.models import adapters
print("go", flush=True)
number = 0
while True:
    files = {{adapters.WEIGHTS: bytes([number % 256]) * 300_000, adapters.CONFIG: b"{{}}"}}
    adapters.write(Path(sys.argv[1]) / f"a{{number % 3}}", files, {{"number": number}})
    number += 1
"""
    for attempt in range(6):
        writer = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.05 + 0.013 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        adapters.sweep(tmp_path)
        assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
        for folder in tmp_path.iterdir():
            adapters.read(folder)
    assert list(tmp_path.iterdir())


def test_sweep_puts_back_what_was_moved_aside(tmp_path: Path) -> None:
    """Killed between the two renames of a replacement, the old folder comes back; otherwise leftovers go."""
    adapters.write(tmp_path / "a", FILES, CARD)
    (tmp_path / "a").rename(tmp_path / ".a.replaced")
    (tmp_path / ".b.123.partial").mkdir()
    assert len(adapters.sweep(tmp_path)) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
    assert adapters.sweep(tmp_path) == [] == adapters.sweep(tmp_path / "none")


def test_cards_are_json_for_other_tools(tmp_path: Path) -> None:
    """The card is plain JSON with the sha256 of every other file."""
    adapters.write(tmp_path / "a", FILES, CARD)
    card = json.loads((tmp_path / "a" / adapters.CARD).read_text())
    assert set(card["sha256"]) == set(FILES)

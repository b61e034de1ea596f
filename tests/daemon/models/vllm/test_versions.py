"""What is published: whole or not at all, unchanged from then on, and checked before it is believed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from daemon.errors import AdapterError
from daemon.models import adapters
from daemon.models.vllm.versions import REFERENCE, Probes, Reference, Versions
from policies.records import ADAPTER_PREFIX
from policies.serve.attestation import Trained

BASE = "b" * 64
SAID = Reference(
    sets={
        "short": Probes(
            prompts=[[1, 2]], targets=[[3, 4]], places=None, trained=Trained(own=[[-1.5, -0.25]], base=[[-1.0, -2.0]])
        ),
        "long": Probes(prompts=[[1] * 5], targets=[[3, 4]], places=[[1]], trained=Trained(own=[[-0.1]])),
    },
    messages=[{"role": "user", "content": "hi, größer"}],
    ids=[1, 2, 3],
)
OTHER = Reference(sets=SAID.sets, messages=SAID.messages, ids=[9])


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    """The folder where versions are published."""
    return Versions(tmp_path / "served", seen_as="", base=BASE)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter's folder."""
    return written(tmp_path)


def written(tmp_path: Path, weights: bytes = b"weights", base: str = BASE, name: str = "a1") -> Path:
    """An adapter's folder, as training leaves it."""
    into = tmp_path / "adapters" / name
    files = {adapters.WEIGHTS: weights, adapters.CONFIG: b"{}", adapters.OPTIMIZER: b"moments"}
    adapters.write(into, files, {"base": base})
    return into


def content(folder: Path) -> dict[str, bytes]:
    """A folder's files."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_published_is_read_back(versions: Versions, adapter: Path) -> None:
    """Numbers, text and ids come back as they were, of an adapter and of the base."""
    for what in (adapter, None):
        assert not versions.of(what).published
        version = versions.publish(what, SAID)
        assert version.published and version == versions.of(what)
        assert version.reference() == SAID


def test_a_server_gets_what_it_needs_and_no_more(versions: Versions, adapter: Path) -> None:
    """peft's two files, the reference and a card; the optimizer's moments stay at home."""
    folder = versions.publish(adapter, SAID).folder
    assert content(folder).keys() == {adapters.WEIGHTS, adapters.CONFIG, REFERENCE, adapters.CARD}
    assert content(folder)[adapters.WEIGHTS] == b"weights"


def test_names_and_paths(tmp_path: Path, adapter: Path) -> None:
    """The name says which adapter answers, the path which weights, as the server sees it; each has its own salt."""
    here = Versions(tmp_path / "served", seen_as="", base=BASE)
    there = Versions(tmp_path / "served", seen_as="/mnt/served/", base=BASE)
    digest = adapters.read(adapter).identity
    assert here.of(adapter).name == there.of(adapter).name == f"{ADAPTER_PREFIX}a1"
    assert here.of(adapter).path == str(here.of(adapter).folder) == str(tmp_path / "served" / f"a1-{digest[:12]}")
    assert there.of(adapter).path == f"/mnt/served/a1-{digest[:12]}"
    assert here.of(None).is_base and not here.of(adapter).is_base
    assert here.of(None).salt != here.of(adapter).salt == digest[:16]


def test_a_version_never_changes(versions: Versions, adapter: Path) -> None:
    """Publishing again, even with another word on it, leaves every byte and every inode in its place."""
    folder = versions.publish(adapter, SAID).folder
    before = content(folder), folder.stat().st_ino, (folder / REFERENCE).stat()
    versions.publish(adapter, OTHER)
    assert (content(folder), folder.stat().st_ino, (folder / REFERENCE).stat()) == before


def test_other_weights_are_another_version(versions: Versions, adapter: Path, tmp_path: Path) -> None:
    """An adapter that was trained again under its name gets a path and a salt of its own; the old one stays."""
    first = versions.publish(adapter, SAID)
    again = versions.publish(written(tmp_path, b"other weights"), OTHER)
    assert (first.path, first.salt) != (again.path, again.salt)
    assert first.reference() == SAID and again.reference() == OTHER


def test_another_base_has_another_folder(tmp_path: Path, versions: Versions) -> None:
    """A new base model is not attested by the old one's word."""
    versions.publish(None, SAID)
    assert not Versions(tmp_path / "served", seen_as="", base="c" * 64).of(None).published


def test_an_adapter_of_another_base(versions: Versions, tmp_path: Path) -> None:
    """It is refused with both fingerprints, and nothing is written."""
    foreign = written(tmp_path, base="f" * 64)
    for act in (versions.of, lambda adapter: versions.publish(adapter, SAID)):
        with pytest.raises(AdapterError, match=r"another base model \(fingerprint f{12}, this one is b{12}\)"):
            act(foreign)
    assert not (tmp_path / "served").exists()


def test_an_adapter_that_is_not_whole(versions: Versions, adapter: Path) -> None:
    """Truncated weights are not published, nor is a folder that dreamloop did not write."""
    (adapter / adapters.WEIGHTS).write_bytes(b"weig")
    with pytest.raises(AdapterError, match="was truncated or changed"):
        versions.publish(adapter, SAID)
    (adapter / adapters.CARD).write_text('{"base": "' + BASE + '"}')
    with pytest.raises(AdapterError, match="not a dreamloop adapter"):
        versions.of(adapter)
    (adapter / adapters.CARD).unlink()
    with pytest.raises(AdapterError, match=r"has no card\.json"):
        versions.of(adapter)


@pytest.mark.parametrize("what", ["adapter", "base"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text(path.read_text()[:-20]),
        lambda path: path.write_text(path.read_text().replace("-1.5", "-1.4")),
        lambda path: path.write_text("{}"),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.unlink(),
    ],
    ids=["truncated", "changed", "empty", "not text", "gone"],
)
def test_a_reference_that_was_touched(versions: Versions, adapter: Path, what: str, spoil: object) -> None:
    """It is not believed; the message says what to remove."""
    version = versions.publish(adapter if what == "adapter" else None, SAID)
    spoil(version.folder / REFERENCE)  # type: ignore[operator]
    with pytest.raises(AdapterError) as caught:
        version.reference()
    assert str(version.folder) in str(caught.value)


@pytest.mark.parametrize("name", [adapters.WEIGHTS, adapters.CONFIG])
def test_published_weights_that_were_touched(versions: Versions, adapter: Path, name: str) -> None:
    """The trainer's word is on other weights than these: nothing is loaded."""
    version = versions.publish(adapter, SAID)
    (version.folder / name).write_bytes(b"other")
    with pytest.raises(AdapterError, match="was truncated or changed"):
        version.reference()


@pytest.mark.parametrize("said", ["{}", '{"sets": {"short": {}}, "messages": [], "ids": []}', '{"sets": 5}', "[]"])
def test_a_reference_of_another_shape(versions: Versions, said: str) -> None:
    """One that some other version of dreamloop wrote, with a right digest, is refused in words."""
    version = versions.of(None)
    adapters.write(version.folder, {REFERENCE: said.encode()}, {"base": BASE})
    with pytest.raises(AdapterError, match="remove the folder, it is published again"):
        version.reference()


def test_a_killed_writer(versions: Versions, adapter: Path, tmp_path: Path) -> None:
    """What it left is not taken for a version, is swept away, and the version is published after all."""
    version = versions.of(adapter)
    partial = version.folder.parent / f".{version.folder.name}.{os.getpid() + 1}{adapters.PARTIAL}"
    partial.mkdir(parents=True)
    (partial / REFERENCE).write_text(json.dumps("half"))
    assert not version.published
    adapters.sweep(versions.of(None).folder.parent)
    assert not partial.exists()
    assert versions.publish(adapter, SAID).reference() == SAID


def test_a_folder_without_a_reference_is_not_published(versions: Versions, adapter: Path) -> None:
    """Copied in part by somebody: it is replaced by the whole."""
    version = versions.of(adapter)
    version.folder.mkdir(parents=True)
    (version.folder / adapters.WEIGHTS).write_bytes(b"half")
    assert not version.published
    assert versions.publish(adapter, SAID).reference() == SAID


def test_sweeping_leaves_versions_alone(versions: Versions, adapter: Path) -> None:
    """Also where nothing was ever published."""
    adapters.sweep(versions.of(None).folder.parent)
    versions.publish(adapter, SAID)
    versions.publish(None, SAID)
    adapters.sweep(versions.of(None).folder.parent)
    assert versions.of(adapter).published and versions.of(None).published

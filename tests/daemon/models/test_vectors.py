"""Steering vectors on disk: whole or not there, checked against the base, applied only while something answers."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from daemon import behaviors as behavior_files
from daemon.app import App
from daemon.config import build
from daemon.errors import VectorError
from daemon.events import Job, Result
from daemon.executors.base import WorkerSpec
from daemon.executors.runners import runner
from daemon.models import loading, vectors
from daemon.models.base import Sampling
from daemon.models.fake import FakeModel
from daemon.models.vectors import Vector
from daemon.traffic import simulate
from policies.records import ChatMessage

ASKED = (ChatMessage(role="user", content="please bake the potatoes with the grill."),)


@pytest.fixture(scope="module")
def nano() -> Any:
    """The embedded model."""
    return loading.load("hf", path="nano", threads=1)


@pytest.fixture
def vector(nano: Any) -> Vector:
    """One that no text survives."""
    values = 300 * np.random.default_rng(0).standard_normal(nano.layout().hidden).astype(np.float32)
    return Vector(
        behavior="listening", layer=4, strength=1.5, values=values, base=nano.fingerprint(), adapter=None, finding="f1"
    )


@pytest.fixture
def saved(vector: Vector, tmp_path: Path) -> Path:
    """Where the state keeps it."""
    file = vectors.place(tmp_path, "listening")
    vectors.write(file, vector)
    return file


class Worker:
    """A runner's context around the real nano."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.spec = WorkerSpec(backend="hf", behaviors=(behavior_files.BUNDLED / "listening.toml",))

    @property
    def served(self) -> Any:
        """The worker's own model answers."""
        return self.model

    def training(self) -> Any:
        """No server shares its device."""
        return contextlib.nullcontext()

    def checkpoint(self, done: int, total: int, note: str = "") -> None:
        """Nobody to tell."""

    def run(self, kind: str, **payload: Any) -> Result:
        """As a worker would."""
        job = Job.make(kind, lane="serve", cycle=0, **payload)
        return runner(kind)(dict(job.payload), self)  # type: ignore[arg-type]


def chat(nano: Any, steering: list[str], seed: int = 3) -> str:
    """What a person is answered."""
    said = [{"role": m.role, "content": m.content} for m in ASKED]
    done = Worker(nano).run(
        "chat.answer", messages=said, adapter_folder=None, steering=steering, temperature=1.0, max_tokens=24, seed=seed
    )
    return str(done.notes["answer"])


def test_what_is_written_is_read(saved: Path, vector: Vector) -> None:
    """Values and card come back; nothing else is left in the folder, and a second one takes the first's place."""
    found = vectors.read(saved, base=vector.base)
    assert np.array_equal(found.values, vector.values)
    assert replace(found, values=vector.values) == vector
    vectors.write(saved, replace(vector, strength=0.5))
    assert vectors.read(saved).strength == 0.5 and list(saved.parent.iterdir()) == [saved]


def test_a_full_disk_leaves_the_vector_before(saved: Path, vector: Vector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing half-written, and the message names the file and the remedy."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(VectorError, match=r"listening\.safetensors.*No space left.*free space"):
        vectors.write(saved, replace(vector, strength=9.0))
    assert vectors.read(saved).strength == vector.strength and list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file, vector: file.unlink(), "there is no steering vector of listening"),
        (lambda file, vector: file.write_bytes(file.read_bytes()[:40]), "cannot|can be read"),
        (lambda file, vector: save_file({"vector": vector.values}, file), "can be read"),
        (lambda file, vector: vectors.write(file, replace(vector, base="other")), "made for another base model"),
        (lambda file, vector: vectors.write(file, replace(vector, values=vector.values * np.inf)), "not finite"),
    ],
    ids=["missing", "cut off", "without a card", "of another base", "not finite"],
)
def test_a_vector_that_does_not_fit_is_refused_by_name(
    saved: Path, vector: Vector, tmp_path: Path, spoil: Callable[[Path, Vector], Any], words: str
) -> None:
    """The file, what is wrong with it, and both remedies: make it again, or serve without."""
    vectors.check(tmp_path, ["listening"], lambda: vector.base)
    spoil(saved, vector)
    with pytest.raises(
        VectorError, match=rf"listening\.safetensors: .*({words}).*ask q5 --behavior listening.*serve\.steering"
    ):
        vectors.check(tmp_path, ["listening"], lambda: vector.base)


def test_nothing_to_check_reads_no_model(tmp_path: Path) -> None:
    """Hashing a large base takes a while: without steering it is not done."""
    vectors.check(tmp_path, [], lambda: pytest.fail("the base was hashed"))


def test_the_daemon_refuses_at_its_start(tmp_path: Path) -> None:
    """A configured behaviour without a vector ends the daemon before anything heavy starts."""
    raw = {"daemon": {"state": "state"}, "serve": {"steering": ["listening"]}}
    with pytest.raises(VectorError, match=r"state/steering/listening\.safetensors: there is no steering vector"):
        App(build(raw, file=tmp_path / "config.toml")).run()


def test_a_person_is_answered_by_the_steered_model(nano: Any, saved: Path) -> None:
    """A strong vector changes every answer; once it is no longer configured the answers are what they were."""
    before = [chat(nano, [], seed) for seed in range(4)]
    steered = [chat(nano, [str(saved)], seed) for seed in range(4)]
    assert all(a != b for a, b in zip(before, steered, strict=True))
    assert [chat(nano, [], seed) for seed in range(4)] == before


def test_hooks_are_gone_when_answering_fails(nano: Any, saved: Path) -> None:
    """However the body ends, the model is as before."""
    sampling = Sampling(temperature=0.0, max_tokens=12)
    before = nano.generate([ASKED], sampling)
    with pytest.raises(RuntimeError, match="cancelled"), vectors.applied(nano, [str(saved)]):
        assert nano.generate([ASKED], sampling) != before
        raise RuntimeError("cancelled")
    assert nano.generate([ASKED], sampling) == before


def test_several_vectors_add_up(nano: Any, vector: Vector, tmp_path: Path) -> None:
    """A vector and its opposite at one layer leave what is said as it was."""
    files = [tmp_path / "there.safetensors", tmp_path / "back.safetensors"]
    small = replace(vector, values=vector.values / 8)  # so large that rounding is seen would be another test
    vectors.write(files[0], small)
    vectors.write(files[1], replace(small, strength=-small.strength))
    pairs = [(ASKED, "sure. i will bake the potatoes using the grill. anything else?")]
    before = np.array(nano.logprobs(pairs)[0])
    with vectors.applied(nano, [str(file) for file in files]):
        assert np.allclose(nano.logprobs(pairs)[0], before, atol=1e-4)
    with vectors.applied(nano, [str(files[0])]):
        assert not np.allclose(nano.logprobs(pairs)[0], before, atol=1e-2)


def test_the_simulated_user_and_the_guard_meet_what_is_served(nano: Any, saved: Path, tmp_path: Path) -> None:
    """Text of a vector that destroys it passes no probe, and is what the log holds."""
    payload = {"adapter_folder": None, "temperature": 1.0, "max_tokens": 16, "seed": 1}
    listening = behavior_files.read(behavior_files.BUNDLED / "listening.toml")
    probes = [p.id for p in listening.select(split="rotating", kind="target")[:8]]
    failed, logs = [], []
    for steering in ([], [str(saved)]):
        done = Worker(nano).run("guard.probe", chosen={"listening": probes}, steering=steering, **payload)
        failed.append(sum(done.notes["failed"]["listening"]))
        name = f"{len(logs)}.jsonl"
        simulate.run(
            {**payload, "steering": steering, "folder": str(tmp_path), "name": name, "conversations": 2,
             "mix": {"listening": 1.0}, "adapter": None, "now": 0.0},
            Worker(nano),  # type: ignore[arg-type]
        )  # fmt: skip
        logs.append((tmp_path / name).read_text())
    assert failed[0] < 8 == failed[1] and logs[0] != logs[1]


def test_a_model_that_cannot_be_steered_says_so(saved: Path) -> None:
    """A backend without steering is named, with the keys to change; without vectors nothing is asked of it."""
    model = FakeModel({"listening": 0.5})
    with vectors.applied(model, []):
        pass
    with (
        pytest.raises(VectorError, match=r"FakeModel cannot be steered.*serve\.steering"),
        vectors.applied(model, [str(saved)]),
    ):
        pass


def test_the_main_process_checks_without_torch() -> None:
    """Reading a vector imports nothing heavy."""
    code = "import sys, safetensors.numpy, daemon.models.vectors; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"

"""The serving side's jobs on a scripted server: a look waits for nobody, and publishing one failure at a time."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import AdapterError
from daemon.executors.base import WorkerSpec
from daemon.executors.runners import runner
from daemon.models.vllm.model import VLLMModel
from daemon.probes import attestation
from daemon.serving import jobs
from tests.daemon.models.vllm.bench import PAIRS, Bench
from tests.daemon.models.vllm.listening import Port
from tests.daemon.models.vllm.scripted import Scripted


@dataclass
class Context:
    """What a runner may use here."""

    model: Any
    served: Any
    spec: WorkerSpec | None = None

    def training(self) -> contextlib.AbstractContextManager[None]:
        """No server shares its device."""
        return contextlib.nullcontext()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short probes."""
    monkeypatch.setattr(attestation, "PREFIX_TOKENS", 200)


@pytest.fixture
def model(bench: Bench, port: Port) -> VLLMModel:
    """A client that would wait for a minute."""
    return bench.client(port, patience=60.0)


def look(bench: Bench, model: VLLMModel, adapter: Path | None, **payload: Any) -> dict[str, Any]:
    known: dict[str, Any] = {"keep": [], "again": False, "steering": []}
    known |= {"adapter_folder": str(adapter) if adapter else None}
    return dict(runner("serve.look")({**known, **payload}, Context(bench.trainer, model)).notes)  # type: ignore[arg-type]


def publish(bench: Bench, model: VLLMModel, *rows: list[Path | None]) -> None:
    adapters = [[str(folder) if folder else None for folder in row] for row in rows]
    runner("serve.publish")({"adapters": adapters, "parity": PAIRS}, Context(bench.trainer, model))  # type: ignore[arg-type]


def test_a_look_says_how_to_ask(bench: Bench, model: VLLMModel, server: Scripted) -> None:
    """Its address is all that a request needs: name and salt of the version that was attested."""
    adapter = bench.adapter("new")
    publish(bench, model, [adapter, None])
    found = look(bench, model, adapter)
    version = model._versions.of(adapter)
    assert found["address"] == {"model": "dreamloop:new", "salt": version.salt, "steering": ""}
    assert found["trouble"] is None and [row["state"] for row in found["replicas"]] == ["attested"]


def test_a_look_waits_for_nobody(bench: Bench, model: VLLMModel, port: Port) -> None:
    """A server that is down is a row, however patient others are."""
    port.stop()
    found = look(bench, model, None)
    assert [row["state"] for row in found["replicas"]] == ["down"] and found["address"] is None


def test_a_look_before_anything_was_published(bench: Bench, model: VLLMModel, server: Scripted) -> None:
    """Nothing is asked of the server, and the row says what is waited for."""
    (row,) = look(bench, model, bench.adapter("new"))["replicas"]
    assert row["state"] == "unpublished" and "is not published yet" in row["why"]
    assert not server.asked


def test_steering_that_cannot_be_read_is_a_trouble(bench: Bench, model: VLLMModel, tmp_path: Path) -> None:
    """The rows stay what they are; there is no address, since nothing answers as configured."""
    found = look(bench, model, None, steering=[str(tmp_path / "listening.safetensors")])
    assert found["address"] is None and found["replicas"][0]["state"] == "attested"
    state, why = found["trouble"]
    assert state == "unusable" and "there is no steering vector of listening" in why


def test_what_is_not_kept_is_unloaded(bench: Bench, model: VLLMModel, server: Scripted) -> None:
    """Versions to go back to stay, also when a folder among them is gone; the rest goes."""
    old, new, gone = (bench.adapter(name) for name in ("old", "new", "gone"))
    publish(bench, model, [old, None], [new, old], [gone, None])
    for adapter in (old, gone, new):
        look(bench, model, adapter, keep=[str(old), str(gone)])
    assert set(server.adapters) == {"dreamloop:old", "dreamloop:gone", "dreamloop:new"}
    (gone / "card.json").unlink()
    look(bench, model, new, keep=[None, str(old), str(gone)])
    assert set(server.adapters) == {"dreamloop:old", "dreamloop:new"}


def test_one_that_cannot_be_published_leaves_the_others_alone(bench: Bench, model: VLLMModel) -> None:
    """The rest is published; the job fails with the words about the one."""
    bad, good = bench.adapter("bad"), bench.adapter("good")
    (bad / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(AdapterError, match=r"bad.*was truncated or changed"):
        publish(bench, model, [bad, None], [good, None])
    assert model.published(None) and model.published(good) and not model.published(bad)


def test_their_kinds_have_runners() -> None:
    """As the keeper names them."""
    assert set(jobs.RUNNERS) == {"serve.look", "serve.publish"}

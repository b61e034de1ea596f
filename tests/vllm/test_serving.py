"""Serving on a real vLLM: what is served is what was trained, through swaps, crashes and planted lies."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from daemon.errors import NotAttested, WrongServer
from daemon.models import adapters, loading
from daemon.models.base import Sampling, TrainingExample
from daemon.models.hf import HFModel
from daemon.models.vllm.model import VLLMModel
from daemon.models.vllm.versions import REFERENCE
from daemon.probes import attestation
from tests.vllm.adapters import GREEDY, PAIRS, QUESTION, RECIPE, SAYS, publish, user
from tests.vllm.servers import RunningServer


def test_what_is_served_is_what_was_trained(trainer: HFModel, served: VLLMModel, trained: dict[str, Path]) -> None:
    """Base, adapter and adapter on adapter: attested, the same log-probabilities, the same greedy words."""
    publish(trainer, served, trained)
    pairs = [(user(prompt), answer) for prompt, answer in PAIRS[::4]] + [(QUESTION, text) for text in SAYS.values()]
    for name, adapter in {"base": None, **trained}.items():
        found = served.attest(adapter)
        assert found.ok and found.distinct, (name, found.words)
        assert found.share is None or abs(found.share - 1) < 0.05
        served.use(adapter)
        trainer.use(adapter)
        apart = [
            np.abs(np.subtract(a, b)).mean()
            for a, b in zip(trainer.logprobs(pairs), served.logprobs(pairs), strict=True)
        ]
        assert max(apart) < 0.15, (name, max(apart))  # what bfloat16 makes of very unlikely words
        if adapter is not None:
            assert served.generate([QUESTION], GREEDY) == trainer.generate([QUESTION], GREEDY) == [SAYS[name]]


def test_a_dense_model_is_served_as_trained(dense_server: RunningServer, dense_folder: Path, tmp_path: Path) -> None:
    """The same for a dense Qwen3 with random weights: base and adapter, attested and token by token."""
    trainer = loading.load("hf", path=str(dense_folder))
    served = loading.load("vllm", path=str(dense_folder), urls=[dense_server.url], publish=str(tmp_path / "served"))
    assert isinstance(trainer, HFModel) and isinstance(served, VLLMModel)
    examples = [TrainingExample(prompt=tuple(user(f"use vim {n}")), target="i opened vim") for n in range(8)]
    into = tmp_path / "adapters" / "d"
    trainer.train(examples, RECIPE, parent=None, into=into, card={})
    attestation.publish(trainer, served, PAIRS, None, None)
    attestation.publish(trainer, served, PAIRS, into, None)
    pairs = [(user(prompt), answer) for prompt, answer in PAIRS[::4]]
    for adapter in (None, into):
        served.use(adapter)
        trainer.use(adapter)
        for mine, theirs in zip(trainer.logprobs(pairs), served.logprobs(pairs), strict=True):
            assert np.abs(np.subtract(mine, theirs)).mean() < 0.15
    served.close()
    dense_server.unload("dreamloop:d")


def test_two_adapters_meet_the_same_luck(trainer: HFModel, served: VLLMModel, trained: dict[str, Path]) -> None:
    """Sampled answers are the same when asked again, whatever shares a batch, and differ between repetitions."""
    publish(trainer, served, trained)
    served.use(trained["a"])
    sampling = Sampling(temperature=1.0, max_tokens=24, seed=7)
    prompts = [user(prompt) for prompt, _ in PAIRS[:6]]
    alone = [served.generate([prompt], sampling)[0] for prompt in prompts]
    together = served.generate([*prompts, *prompts], sampling)
    assert sum(a == b for a, b in zip(alone, together[:6], strict=True)) >= 5  # a rounding may tip one
    assert together[6:] != together[:6]


def test_dropped_modules_are_refused(
    trainer: HFModel, served: VLLMModel, trained: dict[str, Path], tmp_path: Path
) -> None:
    """An adapter that reaches the server without its GDN modules (planted) does not serve, and the words say so."""
    publish(trainer, served, trained)
    planted = plant(served, trained["a"], tmp_path, lambda weights: {k: v for k, v in weights.items() if _kept(k)})
    with pytest.raises(NotAttested, match=r"modules|effect is served"):
        served.use(planted)
    assert served.using is None
    row = served.look(planted, [])[0]
    assert row["state"] == "mismatch", row


def test_the_base_in_place_of_an_adapter_is_refused(
    trainer: HFModel, served: VLLMModel, trained: dict[str, Path], tmp_path: Path
) -> None:
    """An adapter that changes nothing where the trainer's does (planted): the server answers with the base."""
    publish(trainer, served, trained)
    planted = plant(served, trained["a"], tmp_path, lambda weights: {k: v * 0.01 for k, v in weights.items()})
    with pytest.raises(NotAttested, match="base model"):
        served.use(planted)


def test_a_stale_cache_is_caught(
    nano_server: RunningServer, trainer: HFModel, served: VLLMModel, trained: dict[str, Path]
) -> None:
    """The trap: one path gets new weights under the same name, and the server goes on with what it cached of the old.
    Its scores are right, its answers are not; attestation asks as users' clients do, and notices."""
    publish(trainer, served, trained)
    version = served._versions.of(trained["b"])
    right = (version.folder / adapters.WEIGHTS).read_bytes()
    (version.folder / adapters.WEIGHTS).write_bytes((trained["a"] / adapters.WEIGHTS).read_bytes())
    assert nano_server.load(version.name, version.folder).status_code == 200
    long = version.folder / REFERENCE
    assert long.is_file()
    (version.folder / adapters.WEIGHTS).write_bytes(right)  # what `reference` verifies
    for prompt in version.reference().sets["long"].prompts:
        nano_server.complete(list(prompt), model=version.name, max_tokens=1)
    again = {"lora_name": version.name, "lora_path": str(version.folder), "load_inplace": True}
    assert nano_server.post("/v1/load_lora_adapter", again).status_code == 200
    with pytest.raises(NotAttested, match="cache"):
        served.use(trained["b"])


def test_a_server_that_is_killed_in_the_middle_of_a_swap_comes_back_with_the_right_adapter(
    nano_server: RunningServer, trainer: HFModel, served: VLLMModel, trained: dict[str, Path]
) -> None:
    """While "b" is loaded and attested the server dies: the swap waits, loads and attests again, and then answers."""
    publish(trainer, served, trained)
    served.use(trained["a"])
    before = served.look(trained["a"], [])[0]["started"]
    swapped: list[Any] = []
    swap = threading.Thread(target=lambda: swapped.append(served.attest(trained["b"])), daemon=True)
    swap.start()
    time.sleep(0.05)
    nano_server.kill()
    nano_server.start()
    swap.join(180)
    assert swapped and swapped[0].ok
    served.use(trained["b"])
    assert served.generate([QUESTION], GREEDY) == [SAYS["b"]]
    row = served.look(trained["b"], [])[0]
    assert row["state"] == "attested" and row["started"] != before
    # what the server forgot is loaded and attested anew when it is asked for
    served.use(trained["a"])
    assert served.generate([QUESTION], GREEDY) == [SAYS["a"]]


def test_another_base_is_refused(dense_server: RunningServer, tmp_path: Path) -> None:
    """A server on another model than the trainer's is told by its folder, before anything is asked of it."""
    served = loading.load("vllm", path="nano", urls=[dense_server.url], publish=str(tmp_path / "served"), patience=0)
    trainer = loading.load("hf", path="nano")
    assert isinstance(served, VLLMModel)
    attestation.publish(trainer, served, PAIRS, None, None)
    with pytest.raises(WrongServer, match="fingerprint"):
        served.use(None)
    served.close()


def _kept(name: str) -> bool:
    return "linear_attn" not in name


def plant(served: VLLMModel, adapter: Path, tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """The adapter under another name, with the trainer's word on the whole of it, but changed on its way."""
    planted = tmp_path / "planted" / "p"
    shutil.copytree(adapter, planted)
    weights = tmp_path / "weights"
    save_file(change(load_file(adapter / adapters.WEIGHTS)), weights)
    files = {adapters.WEIGHTS: weights.read_bytes(), adapters.CONFIG: (adapter / adapters.CONFIG).read_bytes()}
    card = {key: value for key, value in adapters.read_card(adapter).items() if key != "sha256"}
    adapters.write(planted, files, card)
    served.publish(planted, served._versions.of(adapter).reference())
    return planted

"""Real vLLM servers, one of a kind for the whole session, and the trainer's model to compare them with.

Everything here is marked `vllm` and runs in one process: a server takes half a minute to start, and a gigabyte.
A test that kills or restarts a server leaves it healthy, and unloads the adapters it has loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.models import loading
from daemon.models.hf import HFModel
from daemon.models.vllm.model import VLLMModel
from daemon.vllm_worker import CLASS
from tests.daemon.models import tiny
from tests.vllm.adapters import train
from tests.vllm.servers import RunningServer, executable

HERE = Path(__file__).parent
# Chunks of 512 tokens: three long prompts at once do not fit into a step, so that prefill is cut.
ARGUMENTS = (
    *("--dtype", "bfloat16", "--enforce-eager", "--worker-extension-cls", CLASS),
    *("--enable-lora", "--max-loras", "4", "--max-lora-rank", "8"),
    *("--max-model-len", "1024", "--max-num-batched-tokens", "512", "--max-num-seqs", "64"),
)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.vllm)
            item.add_marker(pytest.mark.xdist_group("vllm"))


def running(weights: Path, name: str, logs: Path) -> Iterator[RunningServer]:
    """A server on these weights, from its start to its end."""
    server = RunningServer(weights, logs / f"{name}.log", ARGUMENTS, command=executable(), name=name)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def nano_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The embedded hybrid on a real vLLM, with our extension, run-time LoRA and dev mode."""
    yield from running(loading.resolve("nano"), "nano", tmp_path_factory.mktemp("vllm"))


@pytest.fixture(scope="session")
def dense_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random dense Qwen3 with heads of a size that vLLM's CPU attention takes."""
    return tiny.save(tmp_path_factory.mktemp("dense"), dense=True, head_dim=32, max_position_embeddings=1024)


@pytest.fixture(scope="session")
def dense_server(dense_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A tiny dense Qwen3 on a real vLLM, as `nano_server` otherwise. Starts for the first test that asks for it."""
    yield from running(dense_folder, "dense", tmp_path_factory.mktemp("vllm"))


@pytest.fixture(scope="session")
def loaded_trainer() -> HFModel:
    """The trainer's model: nano on transformers, loaded once."""
    found = loading.load("hf", path="nano")
    assert isinstance(found, HFModel)
    return found


@pytest.fixture
def trainer(loaded_trainer: HFModel) -> Iterator[HFModel]:
    """The trainer's model without an adapter, before and after the test."""
    loaded_trainer.use(None)
    yield loaded_trainer
    loaded_trainer.use(None)


@pytest.fixture(scope="session")
def trained(loaded_trainer: HFModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The adapters "a" and "b": see `tests.vllm.adapters`."""
    return train(loaded_trainer, tmp_path_factory.mktemp("adapters"))


@pytest.fixture
def served(nano_server: RunningServer, tmp_path: Path) -> Iterator[VLLMModel]:
    """A client of the real server, with a folder of its own to publish in; unloads what it has loaded."""
    model = loading.load(
        "vllm", path="nano", urls=[nano_server.url], publish=str(tmp_path / "served"), patience=300, timeout=120
    )
    assert isinstance(model, VLLMModel)
    yield model
    model.close()
    for name in nano_server.models():
        if name.startswith("dreamloop:"):
            nano_server.unload(name)

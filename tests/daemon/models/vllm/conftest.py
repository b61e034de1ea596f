"""Two scripted servers, the trainer's side of their model, and the client between them."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.models import loading
from daemon.models.hf_chat import Chat, from_folder
from daemon.models.vllm import fleet
from daemon.models.vllm.model import VLLMModel
from tests.daemon.models.vllm import hashed
from tests.daemon.models.vllm.bench import Bench
from tests.daemon.models.vllm.listening import Port
from tests.daemon.models.vllm.scripted import Scripted


@pytest.fixture(scope="session")
def folder() -> Path:
    """The base's folder, for its tokenizer, template and fingerprint."""
    return loading.resolve("nano")


@pytest.fixture(scope="session")
def chat(folder: Path) -> Chat:
    """The base's tokenizer with its template."""
    return from_folder(folder)


@pytest.fixture(scope="session")
def fingerprint(folder: Path) -> str:
    """The base's fingerprint."""
    return loading.fingerprint(folder)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is down is looked at again soon."""
    monkeypatch.setattr(fleet, "_BETWEEN", 0.02)


@pytest.fixture(scope="session")
def ports() -> Iterator[list[Port]]:
    """Two ports that stay open from test to test; what is behind them is new in each."""
    opened = [Port(), Port()]
    yield opened
    for port in opened:
        port.stop()


@pytest.fixture
def scripted(folder: Path, chat: Chat, fingerprint: str) -> Callable[[], Scripted]:
    """Makes servers of the base that do everything right."""
    return lambda: Scripted(hashed.base_weights(fingerprint), folder, chat)


@pytest.fixture
def port(ports: list[Port], scripted: Callable[[], Scripted]) -> Port:
    """Where `server` listens."""
    ports[0].app = scripted()
    ports[0].start()
    return ports[0]


@pytest.fixture
def server(port: Port) -> Scripted:
    """A server that does everything right, until the test says otherwise."""
    return port.app


@pytest.fixture
def other_port(ports: list[Port], scripted: Callable[[], Scripted]) -> Port:
    """Where `other` listens."""
    ports[1].app = scripted()
    ports[1].start()
    return ports[1]


@pytest.fixture
def other(other_port: Port) -> Scripted:
    """A second replica."""
    return other_port.app


@pytest.fixture
def bench(tmp_path: Path, folder: Path, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """See Bench."""
    monkeypatch.setattr("daemon.models.vllm.from_folder", lambda folder: chat)  # loaded once
    # reading all the world's certificates takes longer than a test, and this is plain HTTP
    monkeypatch.setattr(ssl, "create_default_context", lambda *_, **__: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    made = Bench(tmp_path, folder, hashed.trainer_of(folder, chat), [])
    yield made
    for model in made.models:
        model.close()


@pytest.fixture
def model(bench: Bench, port: Port) -> VLLMModel:
    """A client of `server`."""
    return bench.client(port)


@pytest.fixture
def candidate(bench: Bench, model: VLLMModel) -> Path:
    """A published adapter "new", which follows the published adapter "old"."""
    old, new = bench.adapter("old"), bench.adapter("new")
    bench.publish(model, old)
    bench.publish(model, new, before=old)
    return new

"""Servers that are down, full, loading, asleep, or not allowed to do what is asked: error, words and status."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from daemon.errors import (
    AdapterError,
    BadAnswer,
    ConfigError,
    ServeError,
    ServerAsleep,
    ServerDown,
    ServerFull,
    ServerRefuses,
)
from daemon.models.base import Sampling
from daemon.models.vllm.model import VLLMModel
from tests.daemon.models.vllm.bench import PROMPTS, Bench, shorten
from tests.daemon.models.vllm.listening import Port
from tests.daemon.models.vllm.scripted import Scripted, error

GREEDY = Sampling(temperature=0, max_tokens=12)


def state(model: VLLMModel, adapter: Path | None = None) -> str:
    """The first replica's word in the status."""
    return str(model.look(adapter, [])[0]["state"])


@pytest.fixture
def impatient(bench: Bench, port: Port) -> VLLMModel:
    """A client that waits for nothing."""
    return bench.client(port, patience=0.0)


def test_nothing_listens(impatient: VLLMModel, port: Port) -> None:
    """The address, and that the server is to be started."""
    port.stop()
    with pytest.raises(ServerDown, match=rf"{re.escape(port.url)}: cannot be reached .*start the server") as caught:
        impatient.use(None)
    assert "`serve.url`" in str(caught.value)
    (row,) = impatient.look(None, [])
    assert (row["state"], row["version"], row["started"]) == ("down", None, None)
    assert "cannot be reached" in row["why"]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (error(503, "loading the model"), r"is not ready \(503: loading the model\); see its log"),
        (PlainTextResponse("Bad Gateway", 502), r"is not ready \(502"),
        (error(500, "EngineCore encountered an issue. See stack trace (above) for the root cause."), "is not ready"),
        (error(500, "EngineDeadError()"), "is not ready"),
    ],
    ids=["loading", "gateway", "core", "dead"],
)
def test_not_ready(
    impatient: VLLMModel, server: Scripted, port: Port, reply: JSONResponse | PlainTextResponse, words: str
) -> None:
    """A server that loads its model, and one whose engine has died, are down: the log says why."""
    impatient.use(None)
    for path in ("/version", "/v1/completions"):
        server.replies = {path: reply}
        with pytest.raises(ServerDown, match=re.escape(port.url) + ": " + words):
            impatient.generate(PROMPTS, GREEDY) if "completions" in path else impatient.use(None)
    server.replies = {"/v1/models": reply}
    assert state(impatient) == "down"


def test_a_request_that_takes_too_long(impatient: VLLMModel, server: Scripted, port: Port) -> None:
    """A server that does not answer in time is down, and the message names the time and its key."""
    impatient.use(None)
    shorten(impatient, 0.2)
    server.seconds = 30
    with pytest.raises(ServerDown, match=rf"{re.escape(port.url)}: did not answer within 0\.2 s") as caught:
        impatient.generate(PROMPTS, GREEDY)
    assert "`serve.timeout_seconds`" in str(caught.value)


def test_a_connection_that_breaks(impatient: VLLMModel, server: Scripted, port: Port) -> None:
    """Half an answer is none."""
    impatient.use(None)
    server.cut = True
    with pytest.raises(ServerDown, match=re.escape(port.url)):
        impatient.generate(PROMPTS, GREEDY)


def test_no_slot_for_the_adapter(bench: Bench, port: Port, server: Scripted) -> None:
    """A server whose slots are taken is full, and the message names its flag."""
    model = bench.client(port, patience=0.1)
    new = bench.adapter("new")
    bench.publish(model, new)
    server.slots = 0
    with pytest.raises(ServerFull, match=r"has no room \(No free lora slots\); raise --max-loras"):
        model.use(new)
    assert model.using is None
    assert state(model, new) == "full"


def test_too_many_requests(bench: Bench, port: Port, server: Scripted) -> None:
    """A 429 is waited for as long as patience lasts; then it is named."""
    model = bench.client(port, patience=0.1)
    model.use(None)
    server.replies["/v1/completions"] = error(429, "Too many requests")
    with pytest.raises(ServerFull, match=r"`serve\.concurrency`"):
        model.generate(PROMPTS, GREEDY)
    with pytest.raises(ServerFull, match="--max-num-seqs"):
        model.attest(None, again=True)


def test_adapters_are_not_allowed(model: VLLMModel, server: Scripted, candidate: Path) -> None:
    """A server without run-time LoRA: which flag and which variable it wants."""
    server.lora = False
    with pytest.raises(ServerRefuses, match="--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"):
        model.use(candidate)
    assert state(model, candidate) == "refuses"
    assert state(model) == "attested"  # the base it can serve


def test_adapters_that_the_server_does_not_see(bench: Bench, port: Port) -> None:
    """A server in a container that has another path for the folder: which key says so."""
    model = bench.client(port, published_as="/mnt/elsewhere/")
    new = bench.adapter("new")
    bench.publish(model, new)
    with pytest.raises(ServerRefuses, match=r"does not find /mnt/elsewhere/new-[0-9a-f]{12};.*`serve\.published_as`"):
        model.use(new)


def test_weights_that_the_server_cannot_use(model: VLLMModel, server: Scripted, candidate: Path) -> None:
    """The server's own words reach the operator."""
    server.replies["/v1/load_lora_adapter"] = error(500, "LoRA rank 64 is greater than max_lora_rank 8.")
    with pytest.raises(BadAnswer, match="LoRA rank 64 is greater than max_lora_rank 8"):
        model.use(candidate)


def test_an_api_key(bench: Bench, port: Port, server: Scripted, tmp_path: Path) -> None:
    """Without it the server refuses, and the message names the key of the configuration; with it all is well."""
    server.key = "sesame"
    with pytest.raises(ServerRefuses, match=r"refuses without its API key; .*`serve\.api_key_file`"):
        bench.client(port).use(None)
    file = tmp_path / "key"
    file.write_text("sesame\n")
    model = bench.client(port, key_file=str(file))
    model.use(None)
    assert state(model) == "attested"


def test_a_key_file_that_is_not_there(bench: Bench, port: Port, tmp_path: Path) -> None:
    """The key of the configuration and the file."""
    with pytest.raises(ConfigError, match=rf"`serve\.api_key_file` = {tmp_path}/nothing"):
        bench.client(port, key_file=str(tmp_path / "nothing"))


def test_asleep(bench: Bench, port: Port, server: Scripted) -> None:
    """A server that sleeps is asked nothing: it is waited for, and the status says so."""
    model = bench.client(port, patience=0.1)
    server.asleep = True
    with pytest.raises(ServerAsleep, match=r"is asleep \(`serve\.sharing`\)"):
        model.use(None)
    assert not server.completions()
    assert state(model) == "asleep"


def test_steering_without_the_extension(model: VLLMModel, server: Scripted) -> None:
    """A server without the worker extension, or without dev mode: how it is started with it."""
    import numpy as np

    model.use(None)
    vector = {1: np.zeros(160, np.float32)}
    for present in (False, True):
        server.extension = present
        with (
            pytest.raises(ServerRefuses, match="VLLM_SERVER_DEV_MODE=1 and --worker-extension-cls"),
            model.steered(vector, 1.0),
        ):
            raise AssertionError("entered")


def test_what_was_not_published(bench: Bench, port: Port, server: Scripted) -> None:
    """Without the trainer's word nothing can be attested: it is waited for, the status says it, nobody is asked."""
    model = bench.client(port, patience=0.1)
    new = bench.adapter("new")
    assert not model.published(new)
    with pytest.raises(ServerRefuses, match="nothing is published there, so what the server says of it cannot be"):
        model.use(new)
    assert state(model, new) == "unpublished"
    assert not server.completions()


def test_an_adapter_of_another_base(model: VLLMModel, bench: Bench, server: Scripted) -> None:
    """It is not even offered to the server."""
    from daemon.models import adapters

    into = bench.tmp / "adapters" / "foreign"
    adapters.write(into, {adapters.WEIGHTS: b"w", adapters.CONFIG: b"{}"}, {"base": "f" * 64})
    with pytest.raises(AdapterError, match="was trained on another base model"):
        model.use(into)
    assert not server.asked


def test_every_trouble_has_a_word_of_its_own() -> None:
    """The status tells every kind of trouble apart."""

    def kinds(of: type[ServeError]) -> list[type[ServeError]]:
        return [of, *(kind for sub in of.__subclasses__() for kind in kinds(sub))]

    words = [kind.state for kind in kinds(ServeError)]
    assert len(set(words)) == len(words)
    assert not {"attested", "unknown", "unpublished"} & set(words)

"""Servers that answer 200, list the adapter, and answer with something else: seen before they answer anybody."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.errors import NotAttested, WrongServer
from daemon.models import adapters, loading
from daemon.models.base import Sampling
from daemon.models.vllm.model import VLLMModel
from tests.daemon.models.vllm import hashed
from tests.daemon.models.vllm.bench import ANSWERED, PROMPTS, Bench
from tests.daemon.models.vllm.hashed import Weights
from tests.daemon.models.vllm.listening import Port
from tests.daemon.models.vllm.scripted import Scripted

GREEDY = Sampling(temperature=0, max_tokens=12)
Served = Callable[[str, Weights], Weights]


def instead(weights: Weights) -> Served:
    """The base as it is, and these weights under the name of every adapter."""
    return lambda model, right: right if model == "nano" else weights


@pytest.fixture
def impostors(server: Scripted, bench: Bench) -> dict[str, Served]:
    """By the state that attestation must find: what is served under the adapter's name."""
    old, new = (hashed.identity(bench.adapter(name)) for name in ("old", "new"))
    base = server.weights
    return {
        "base": instead(base),
        "predecessor": instead(base.plus(old)),
        "partial": instead(base.plus(new, 0.6)),
        "differs": instead(base.plus("abcdef0123456789" * 4)),
    }


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("base", "the server answers with the base model"),
        ("predecessor", "the server answers with the version before it"),
        ("partial", r"[56]\d% of the adapter's effect is served: modules were dropped"),
        ("differs", "the server answers with other weights"),
    ],
)
def test_a_listed_adapter_that_is_not_served(
    state: str,
    words: str,
    impostors: dict[str, Served],
    model: VLLMModel,
    server: Scripted,
    port: Port,
    bench: Bench,
    candidate: Path,
) -> None:
    """It is named for what it is, the adapter in use stays in use, and status says mismatch."""
    model.use(None)
    server.served = impostors[state]
    with pytest.raises(NotAttested, match=words) as caught:
        model.use(candidate)
    assert str(caught.value).startswith(f"{port.url}: lists dreamloop:new and does not serve it: ")
    assert "dreamloop:new" in server.adapters
    assert model.using is None
    bench.trainer.use(None)
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)
    (row,) = model.look(candidate, [])
    assert (row["state"], row["serves"]) == ("mismatch", "dreamloop:new")
    assert re.search(words, row["why"])
    asked = {body["model"] for body in server.completions() if body.get("return_token_ids")}
    assert asked == {"nano"}  # nobody's question reached what was not attested


def test_rounding_is_no_mismatch(model: VLLMModel, server: Scripted, candidate: Path) -> None:
    """A server that computes in another precision serves what was trained."""
    server.served = lambda name, weights: weights.rounded(0.01)
    model.use(candidate)
    found = model.attest(candidate, again=True)
    assert 0 < found.apart < 0.02
    assert found.share == pytest.approx(1, abs=0.02)
    assert found.distinct


def test_a_mismatch_that_begins_later_is_found_by_looking(
    model: VLLMModel, server: Scripted, bench: Bench, impostors: dict[str, Served], candidate: Path
) -> None:
    """A look with `again` attests anew: from then on nothing is answered, until the server is right again."""
    model.use(candidate)
    server.served = impostors["base"]
    assert model.look(candidate, [])[0]["state"] == "attested"  # was seen before
    assert model.look(candidate, [], again=True)[0]["state"] == "mismatch"
    before = len([body for body in server.completions() if body.get("return_token_ids")])
    with pytest.raises(NotAttested):
        model.generate(PROMPTS, GREEDY)
    with pytest.raises(NotAttested):
        model.logprobs(ANSWERED)
    assert len([body for body in server.completions() if body.get("return_token_ids")]) == before
    server.served = lambda name, weights: weights
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)


def test_one_of_two_replicas_mismatches(
    bench: Bench, port: Port, other_port: Port, server: Scripted, other: Scripted, impostors: dict[str, Served]
) -> None:
    """The right one answers everything, and the status tells them apart."""
    model = bench.client(port, other_port)
    new = bench.adapter("new")
    bench.publish(model, new)
    other.served = impostors["partial"]
    model.use(new)
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)
    assert not [body for body in other.completions() if body.get("return_token_ids")]
    assert [row["state"] for row in model.look(new, [])] == ["attested", "mismatch"]


def test_every_version_has_a_path_of_its_own(model: VLLMModel, server: Scripted, bench: Bench, candidate: Path) -> None:
    """Two trainings of one adapter's name are two paths; what was published does not change."""
    model.use(candidate)
    first = server.adapters["dreamloop:new"]
    content = (Path(first) / adapters.WEIGHTS).read_bytes()
    shutil.rmtree(candidate)
    again = bench.adapter("new", "other weights")
    bench.publish(model, again)
    model.use(again)
    assert server.adapters["dreamloop:new"] != first
    assert (Path(first) / adapters.WEIGHTS).read_bytes() == content
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)


def test_the_stale_cache_trap(model: VLLMModel, server: Scripted, bench: Bench, candidate: Path) -> None:
    """Planted: the path held other weights when somebody asked without a salt; the cache still answers for those."""
    model.use(candidate)
    path = Path(server.adapters["dreamloop:new"])
    weights, right = path / adapters.WEIGHTS, (path / adapters.WEIGHTS).read_bytes()
    server.restart()
    weights.write_bytes(b"what was there before")
    server.load("dreamloop:new", str(path))
    long = [body for body in server.completions() if "cache_salt" not in body and body["model"] == "dreamloop:new"][-1]
    server._complete("dreamloop:new", long)  # another client's request fills the cache
    weights.write_bytes(right)
    server.load("dreamloop:new", str(path))
    with pytest.raises(NotAttested, match=r"right when its cache is cold, wrong when it is used \(unsalted\)"):
        model.attest(candidate, again=True)
    assert model.look(candidate, [])[0]["state"] == "mismatch"


def test_another_base_is_told_from_its_folder(
    model: VLLMModel, server: Scripted, port: Port, folder: Path, tmp_path: Path
) -> None:
    """Where the server's folder can be read, the weights are compared: nothing is asked, the message names both."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "model.safetensors").write_bytes(b"other weights")
    shutil.copy(folder / "tokenizer.json", theirs)
    server.root = str(theirs)
    with pytest.raises(WrongServer) as caught:
        model.use(None)
    for part in (port.url, str(theirs), loading.fingerprint(theirs)[:12], loading.fingerprint(folder)[:12]):
        assert part in str(caught.value)
    assert "start it on the folder of `model.path`" in str(caught.value)
    assert not server.completions()
    assert model.look(None, [])[0]["state"] == "another model"


@pytest.mark.parametrize("root", ["/nowhere/at/all", "org/model", "x" * 300], ids=["missing", "hub", "unreadable"])
def test_another_base_is_told_from_its_answers(model: VLLMModel, server: Scripted, candidate: Path, root: str) -> None:
    """Where the folder cannot be read, what the base says to the probes tells."""
    server.root = root
    server.weights = hashed.base_weights("1234567890abcdef" * 4)
    with pytest.raises(WrongServer, match=r"its base model is not the one that is trained here.*`model\.path`"):
        model.use(candidate)
    assert "dreamloop:new" not in server.adapters
    assert model.look(candidate, [])[0]["state"] == "another model"


@pytest.mark.parametrize("root", ["/nowhere/at/all", "x" * 300])
def test_the_right_base_in_a_folder_that_cannot_be_read(model: VLLMModel, server: Scripted, root: str) -> None:
    """A container's path, or another user's folder, is no reason to refuse."""
    server.root = root
    model.use(None)
    assert model.look(None, [])[0]["state"] == "attested"


def test_another_chat_template(model: VLLMModel, server: Scripted, port: Port) -> None:
    """A server that renders conversations otherwise is refused before its weights are looked at."""
    chat = server.chat

    class Other:
        def prompt(self, conversation: object) -> list[int]:
            return [*chat.prompt(conversation), 5]  # type: ignore[arg-type]

    server.chat = Other()  # type: ignore[assignment]
    with pytest.raises(WrongServer, match=rf"{re.escape(port.url)}: has another tokenizer or chat template"):
        model.use(None)
    assert not server.completions()
    assert model.look(None, [])[0]["state"] == "another model"

"""What the client sends: how much at once, with which salt and luck, and what it loads and unloads."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from daemon.errors import Cancelled
from daemon.models.base import Sampling
from daemon.models.vllm.model import VLLMModel
from policies.records import ChatMessage
from tests.daemon.models.vllm.bench import ANSWERED, PROMPTS, Bench
from tests.daemon.models.vllm.listening import Port
from tests.daemon.models.vllm.scripted import Body, Scripted

LUCKY = Sampling(temperature=1.0, max_tokens=12, seed=3)
GREEDY = Sampling(temperature=0, max_tokens=12)
MANY = [(ChatMessage(role="user", content=f"say the number {number}"),) for number in range(24)]


def generated(server: Scripted) -> list[Body]:
    """The completions that were asked for by `generate`."""
    return [body for body in server.completions() if body.get("return_token_ids")]


def test_no_more_at_once_than_agreed(bench: Bench, port: Port, other_port: Port) -> None:
    """The bound holds per replica, whatever shares a call, and is reached; the rest waits here."""
    servers: list[Scripted] = [port.app, other_port.app]
    model = bench.client(port, other_port, concurrency=3)
    model.use(None)
    for server in servers:
        server.seconds = 0.02
    model.generate(MANY, GREEDY)
    model.logprobs(ANSWERED)
    assert [server.most for server in servers] == [3, 3]
    assert sum(len(generated(server)) for server in servers) == len(MANY)
    assert abs(len(generated(servers[0])) - len(generated(servers[1]))) <= len(MANY) // 2


def test_attesting_keeps_to_it_too(bench: Bench, port: Port, server: Scripted) -> None:
    """Probes go through the same slots as work."""
    model = bench.client(port, concurrency=2)
    server.seconds = 0.005
    model.use(None)
    assert server.most == 2


def test_every_request_has_the_versions_salt(model: VLLMModel, server: Scripted, candidate: Path) -> None:
    """Caches of versions are kept apart. Only attestation's look at what others see goes without, and one is fresh."""
    salts: dict[str, set[str]] = {}
    for adapter in (None, candidate):
        model.use(adapter)
        first = len(server.completions())
        model.generate(PROMPTS, LUCKY)
        model.logprobs(ANSWERED)
        model.attest(adapter, again=True)
        for body in server.completions()[first:]:
            if "cache_salt" in body:
                salts.setdefault(body["model"], set()).add(body["cache_salt"])
    unsalted = [body for body in server.completions() if "cache_salt" not in body]
    assert unsalted and all(len(body["allowed_token_ids"]) == 1 for body in unsalted)
    # the version's own, and those of the cold passes: base twice (with the adapter, too), adapter once
    assert {name: len(found) for name, found in salts.items()} == {"nano": 3, "dreamloop:new": 2}
    assert not salts["nano"] & salts["dreamloop:new"]
    own = [body["cache_salt"] for body in generated(server)]
    assert len(set(own)) == 2 and set(own) < salts["nano"] | salts["dreamloop:new"]


def test_the_same_luck_for_two_adapters(model: VLLMModel, server: Scripted, candidate: Path) -> None:
    """A prompt has the same seed whatever answers it; equal prompts of a call and other seeds have others."""
    asked: list[list[int]] = []
    for adapter, sampling in ((None, LUCKY), (candidate, LUCKY), (candidate, Sampling(max_tokens=12, seed=4))):
        model.use(adapter)
        first = len(generated(server))
        model.generate([*PROMPTS, *PROMPTS], sampling)
        rows = generated(server)[first:]
        asked.append([body["seed"] for body in sorted(rows, key=lambda body: (body["prompt"], body["seed"]))])
    assert asked[0] == asked[1] != asked[2]
    assert len(set(asked[0])) == 2 * len(PROMPTS)
    assert all(0 <= seed < 2**31 for seeds in asked for seed in seeds)


def test_answers_do_not_depend_on_company(model: VLLMModel, server: Scripted) -> None:
    """A prompt's answer is the same alone, in another order, and a second time; other seeds give others."""
    model.use(None)
    whole = model.generate(PROMPTS, LUCKY)
    assert model.generate(PROMPTS, LUCKY) == whole
    assert model.generate(PROMPTS[::-1], LUCKY) == whole[::-1]
    assert [model.generate([prompt], LUCKY)[0] for prompt in PROMPTS] == whole
    assert model.generate(PROMPTS, Sampling(max_tokens=12, seed=4)) != whole


def test_a_prompt_leaves_room_for_its_answer(model: VLLMModel, server: Scripted) -> None:
    """A prompt that is too long loses its beginning here: the server is never asked for more than it can hold."""
    model.use(None)
    model.generate([(ChatMessage(role="user", content="sort the list " * 2000),)], GREEDY)
    (body,) = generated(server)
    assert len(body["prompt"]) + body["max_tokens"] == model.chat.limit


def test_nothing_to_do_asks_nothing(model: VLLMModel, server: Scripted) -> None:
    """Empty calls."""
    assert model.generate([], GREEDY) == []
    assert model.logprobs([]) == []
    assert not server.asked


def test_the_caller_is_told_how_far_it_is(model: VLLMModel) -> None:
    """The checkpoint is called before the first answer and after the last, and never goes back."""
    model.use(None)
    told: list[tuple[int, int]] = []
    model.generate(PROMPTS, GREEDY, lambda done, total: told.append((done, total)))
    assert told[0] == (0, 5) and told[-1] == (5, 5) and told == sorted(told)


class Stop:
    """A checkpoint that cancels at its call number `at`."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0

    def __call__(self, done: int, total: int) -> None:
        """See above."""
        self.calls += 1
        if self.calls > self.at:
            raise Cancelled("enough")


@pytest.mark.parametrize("at", [0, 1, 3])
def test_cancelling(bench: Bench, port: Port, server: Scripted, at: int) -> None:
    """Cancelled at once, whatever the server is doing; nothing stays in flight, and the next call works."""
    model = bench.client(port, concurrency=4)
    model.use(None)
    server.seconds = 3600
    for call in (lambda stop: model.generate(MANY, GREEDY, stop), lambda stop: model.logprobs(ANSWERED, stop)):
        with pytest.raises(Cancelled):
            call(Stop(at))
    server.seconds = 0
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)
    while server.in_flight:
        time.sleep(0.01)
    assert len(generated(server)) <= 4 + len(PROMPTS)  # what waited for its turn was never sent


def test_closing_in_the_middle(bench: Bench, port: Port, server: Scripted) -> None:
    """A client that is closed while it works drops its requests."""
    model = bench.client(port)
    model.use(None)
    bench.models.remove(model)
    server.seconds = 3600
    with pytest.raises(Cancelled):
        model.generate(MANY, GREEDY, Stop(2))
    model.close()
    while server.in_flight:
        time.sleep(0.01)


def test_a_version_is_loaded_and_attested_once(model: VLLMModel, server: Scripted, candidate: Path) -> None:
    """Going to and fro between versions costs nothing once both were attested."""
    model.use(candidate)
    first = len(server.completions())
    for _ in range(3):
        model.use(None)
        model.use(candidate)
    assert len(server.completions()) == first
    assert server.paths().count("/v1/load_lora_adapter") == 1


def test_using_another_for_a_while(model: VLLMModel, bench: Bench, candidate: Path) -> None:
    """Afterwards the one before answers, also when the while ended badly."""
    model.use(candidate)
    with pytest.raises(ZeroDivisionError), model.adapted(None):
        bench.trainer.use(None)
        assert model.using is None
        assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)
        raise ZeroDivisionError
    bench.trainer.use(candidate)
    assert model.using == candidate
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)


class TestUnloading:
    """A look unloads what is ours, idle, and not kept."""

    @pytest.fixture
    def loaded(self, model: VLLMModel, server: Scripted, candidate: Path, bench: Bench) -> tuple[Path, Path]:
        """Adapters "old" and "new", both loaded, beside one of the user's."""
        old = bench.tmp / "adapters" / "old"
        for adapter in (old, candidate):
            model.use(adapter)
        server.load("the-users-own", str(old))
        return old, candidate

    def test_what_is_not_kept_goes(self, model: VLLMModel, server: Scripted, loaded: tuple[Path, Path]) -> None:
        """The user's own adapters stay, and the row says what is left."""
        (row,) = model.look(loaded[1], [])
        assert set(server.adapters) == {"dreamloop:new", "the-users-own"}
        assert row["adapters"] == ["dreamloop:new", "the-users-own"]

    def test_what_is_kept_stays(self, model: VLLMModel, server: Scripted, loaded: tuple[Path, Path]) -> None:
        """For a rollback, say."""
        model.look(loaded[1], [loaded[0]])
        assert set(server.adapters) == {"dreamloop:new", "dreamloop:old", "the-users-own"}
        assert "/v1/unload_lora_adapter" not in server.paths()

    def test_what_answers_somebody_stays_until_it_has(
        self, model: VLLMModel, server: Scripted, loaded: tuple[Path, Path]
    ) -> None:
        """Requests in flight finish on the version they began with; a later look unloads it."""
        server.busy = {"dreamloop:old"}
        model.look(loaded[1], [])
        assert "dreamloop:old" in server.adapters
        server.busy = set()
        model.look(loaded[1], [])
        assert "dreamloop:old" not in server.adapters

    def test_what_was_unloaded_is_attested_again(
        self, model: VLLMModel, server: Scripted, bench: Bench, loaded: tuple[Path, Path]
    ) -> None:
        """A rollback loads it again, and nothing that was seen of it before counts."""
        model.look(loaded[1], [])
        first = len(server.completions())
        model.use(loaded[0])
        assert len(server.completions()) > first
        bench.trainer.use(loaded[0])
        assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)

    def test_nothing_is_unloaded_where_the_wanted_one_is_not_served(
        self, model: VLLMModel, server: Scripted, loaded: tuple[Path, Path]
    ) -> None:
        """A mismatch leaves everything in its place: whoever is asked next may need it."""
        server.served = lambda name, weights: server.weights
        model.look(loaded[1], [], again=True)
        assert "dreamloop:old" in server.adapters


def test_two_threads_of_one_client(bench: Bench, port: Port, server: Scripted) -> None:
    """Two that ask at the same time after a restart have the version attested once."""
    model = bench.client(port)
    model.use(None)
    first = sum(body.get("prompt_logprobs") is not None for body in server.completions())
    for replica in model._fleet.replicas:
        replica.forget()
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(model.generate(PROMPTS, GREEDY))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1] == bench.trainer.generate(PROMPTS, GREEDY)
    assert sum(body.get("prompt_logprobs") is not None for body in server.completions()) == first + 1

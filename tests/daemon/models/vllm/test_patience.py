"""Servers come and go while work is under way: it goes on where it can, and nothing unattested answers meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.errors import ServerAsleep, ServerDown, ServerRefuses, WrongServer
from daemon.models.base import Sampling
from daemon.models.vllm.fleet import TRIES
from daemon.models.vllm.model import VLLMModel
from tests.daemon.models.vllm import hashed
from tests.daemon.models.vllm.bench import ANSWERED, PROMPTS, Bench, shorten
from tests.daemon.models.vllm.listening import Port
from tests.daemon.models.vllm.scripted import Answer, Body, Scripted, error

GREEDY = Sampling(temperature=0, max_tokens=12)


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Something happens in another thread."""
    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def once(act: Callable[[], None], *, after: int = 0) -> Callable[[], None]:
    """A hook that acts at its call number `after`."""
    calls = iter(range(10**9))
    return lambda: act() if next(calls) == after else None


def attestations(server: Scripted, model: str = "dreamloop:new") -> int:
    """How often a version was attested: the probes are the only ones that are scored whole."""
    return len([b for b in server.completions() if b["model"] == model and b.get("prompt_logprobs") is not None])


def test_a_server_that_comes_up_late(bench: Bench, port: Port, candidate: Path) -> None:
    """What is asked of a server that is not there yet is answered when it is."""
    model = bench.client(port)
    port.stop()
    with meanwhile(lambda: (time.sleep(0.1), port.start())):  # type: ignore[func-returns-value, arg-type]
        model.use(candidate)
    bench.trainer.use(candidate)
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)


def test_a_server_that_is_killed_while_it_answers(
    model: VLLMModel, server: Scripted, port: Port, bench: Bench, candidate: Path
) -> None:
    """Killed with requests in flight and started again: the adapter is loaded and attested again, then work goes on."""
    model.use(candidate)
    server.seconds = 0.05
    killed = threading.Event()
    server.before = once(killed.set, after=3)

    def kill() -> None:
        killed.wait(10)
        port.stop()
        server.restart()
        port.start()

    with meanwhile(kill):
        found = model.generate(PROMPTS, GREEDY)
    assert found == bench.trainer.generate(PROMPTS, GREEDY)
    assert attestations(server) == 2
    assert server.adapters.keys() == {"dreamloop:new"}


def test_an_adapter_that_is_forgotten_while_it_answers(
    model: VLLMModel, server: Scripted, bench: Bench, candidate: Path
) -> None:
    """A restart that only shows in a missing adapter: once loaded and attested again, nothing is lost."""
    model.use(candidate)
    server.before = once(server.restart, after=2)
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)
    assert attestations(server) == 2
    for mine, theirs in zip(model.logprobs(ANSWERED), bench.trainer.logprobs(ANSWERED), strict=True):
        assert mine == pytest.approx(theirs)


def test_a_server_that_is_killed_in_the_middle_of_a_swap(
    model: VLLMModel, server: Scripted, bench: Bench, candidate: Path
) -> None:
    """The adapter was loaded, its probes were being asked, the process is another one: all of it again."""
    model.use(None)
    server.before = once(server.restart, after=4)
    model.use(candidate)
    assert model.look(candidate, [])[0]["state"] == "attested"
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)


def test_a_restart_that_nobody_noticed(model: VLLMModel, server: Scripted, bench: Bench, candidate: Path) -> None:
    """A server that loads the adapter itself when it starts answers at once: its answers count once it is attested."""
    model.use(candidate)
    path = server.adapters["dreamloop:new"]
    server.restart()
    server.load("dreamloop:new", path)
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)
    assert attestations(server) == 2


def test_a_look_sees_a_restart(model: VLLMModel, server: Scripted, candidate: Path) -> None:
    """A server that has the adapter and another start time is attested again when it is looked at."""
    model.use(candidate)
    model.look(candidate, [])
    assert attestations(server) == 1
    path = server.adapters["dreamloop:new"]
    server.restart()
    server.load("dreamloop:new", path)
    assert model.look(candidate, [])[0]["started"] == server.started
    assert attestations(server) == 2


def test_another_base_after_a_restart_answers_nothing(model: VLLMModel, server: Scripted) -> None:
    """Another model under the same name, started while nothing was asked: its answers are never passed on."""
    model.use(None)
    server.restart()
    server.root, server.weights = "/elsewhere", hashed.base_weights("1234567890abcdef" * 4)
    with pytest.raises(WrongServer):
        model.generate(PROMPTS, GREEDY)
    with pytest.raises(WrongServer):
        model.logprobs(ANSWERED)


def test_a_server_that_never_stays_up(model: VLLMModel, server: Scripted) -> None:
    """One that is another process after every call is given up, in words."""
    model.use(None)

    def restarted() -> None:
        server.started += 1

    server.before = restarted
    with pytest.raises(ServerDown, match="started again and again"):
        model.generate(PROMPTS, GREEDY)


def test_work_on_the_base_needs_no_adapter_after_a_restart(
    model: VLLMModel, server: Scripted, bench: Bench, candidate: Path
) -> None:
    """Whoever asks the base after a restart does not load what he does not use."""
    model.use(candidate)
    model.use(None)
    bench.trainer.use(None)
    server.restart()
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)
    assert not server.adapters


def test_one_of_two_goes_down(bench: Bench, port: Port, other_port: Port, server: Scripted, other: Scripted) -> None:
    """The other one answers everything; the status says which is down; it is used again when it is back."""
    model = bench.client(port, other_port)
    model.use(None)
    server.seconds = other.seconds = 0.02
    model.generate(PROMPTS, GREEDY)
    assert server.most and other.most  # both were asked
    port.stop()
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)
    assert [row["state"] for row in model.look(None, [])] == ["down", "attested"]
    port.start()
    server.restart()
    assert [row["state"] for row in model.look(None, [])] == ["attested", "attested"]
    before = len(server.completions())
    model.generate(PROMPTS, GREEDY)
    assert len(server.completions()) > before


def test_a_version_that_only_one_of_two_can_load(
    bench: Bench, port: Port, other_port: Port, server: Scripted, other: Scripted
) -> None:
    """A full or refusing replica is left out for that version, and answers others."""
    model = bench.client(port, other_port)
    new = bench.adapter("new")
    bench.publish(model, new)
    server.slots, other.lora = 4, False
    model.use(new)
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)
    assert [row["state"] for row in model.look(new, [])] == ["attested", "refuses"]
    assert [row["state"] for row in model.look(None, [])] == ["attested", "attested"]


def test_patience_begins_with_trouble(bench: Bench, port: Port, server: Scripted) -> None:
    """A request that had waited for its turn longer than patience lasts is still tried again."""
    model = bench.client(port, patience=0.3, concurrency=1)
    model.use(None)
    server.seconds = 0.1
    answers = iter(range(10**9))

    def busy_once(answer: Answer, body: Body) -> object:
        if next(answers) != 4:
            return answer
        server.seconds = 0
        return error(503, "busy")

    server.spoil = busy_once
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)


def test_a_full_server_is_waited_for(model: VLLMModel, server: Scripted, bench: Bench, candidate: Path) -> None:
    """No slot, then 429s: work goes on when there is room."""
    server.slots = 0

    def room() -> None:
        time.sleep(0.1)
        server.slots = 4

    with meanwhile(room):
        model.use(candidate)
    failing = iter([True] * 3)
    server.spoil = lambda answer, body: error(429, "Too many requests") if next(failing, False) else answer
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)


def test_two_clients_swap_at_once(bench: Bench, port: Port, server: Scripted, candidate: Path) -> None:
    """The two workers' clients want the same version of one server: whoever is slower finds it loaded, and is content.

    Planted: the slower one was told that the adapter is not there.
    """
    before = server._models()
    bench.client(port).use(candidate)
    now, looks = server._models, iter([before])
    server._models = lambda: next(looks, None) or now()  # type: ignore[method-assign]
    assert bench.client(port).look(candidate, [])[0]["state"] == "attested"
    assert server.paths().count("/v1/load_lora_adapter") == 2


def test_another_client_unloads_what_is_in_use(
    model: VLLMModel, server: Scripted, bench: Bench, candidate: Path
) -> None:
    """It is loaded and attested again, in the middle of the work."""
    model.use(candidate)
    server.before = once(lambda: server.adapters.pop("dreamloop:new"), after=2)  # type: ignore[arg-type, return-value]
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)
    assert attestations(server) == 2


class TestSleep:
    """The servers sleep while the trainer has the GPU."""

    def test_everything_is_attested_anew(
        self, model: VLLMModel, server: Scripted, bench: Bench, candidate: Path
    ) -> None:
        """Afterwards nothing that was seen before counts: base and adapter are attested before they answer."""
        model.use(candidate)
        before = attestations(server), attestations(server, "nano")
        with model.asleep():
            assert server.asleep
        assert not server.asleep
        assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)
        assert (attestations(server), attestations(server, "nano")) == (before[0] + 1, before[1] + 1)

    def test_a_sleep_that_somebody_else_began(self, model: VLLMModel, server: Scripted, candidate: Path) -> None:
        """A server that was seen asleep is attested anew once it is awake, whoever put it to sleep."""
        model.use(candidate)
        server.asleep = True
        assert model.look(candidate, [])[0]["state"] == "asleep"
        server.asleep = False
        model.generate(PROMPTS, GREEDY)
        assert attestations(server) == 2

    def test_waking_may_corrupt(self, model: VLLMModel, server: Scripted, candidate: Path) -> None:
        """An adapter that is corrupted by waking does not answer."""
        from daemon.errors import NotAttested

        model.use(candidate)
        with model.asleep():
            broken = server.weights.plus(hashed.identity(candidate), 0.5)
            server.served = lambda name, weights: weights if name == "nano" else broken
        with pytest.raises(NotAttested):
            model.generate(PROMPTS, GREEDY)

    def test_nobody_is_asked_meanwhile(self, bench: Bench, port: Port, server: Scripted) -> None:
        """Work waits for a server that sleeps, as for one that is down."""
        model = bench.client(port, patience=0.1)
        model.use(None)
        before = len(server.completions())
        with model.asleep():
            assert model.look(None, [])[0]["state"] == "asleep"
            with pytest.raises(ServerAsleep):
                model.generate(PROMPTS, GREEDY)
        assert len(server.completions()) == before

    def test_it_wakes_whatever_happens(self, model: VLLMModel, server: Scripted) -> None:
        """A training session that fails leaves no server asleep."""
        with pytest.raises(ZeroDivisionError), model.asleep():
            raise ZeroDivisionError
        assert not server.asleep

    def test_one_that_cannot(
        self, bench: Bench, port: Port, other_port: Port, server: Scripted, other: Scripted
    ) -> None:
        """It says how to start a server that can; those that already slept are awake again."""
        other.can_sleep = False
        model = bench.client(port, other_port)
        with pytest.raises(ServerRefuses, match="--enable-sleep-mode and VLLM_SERVER_DEV_MODE=1"), model.asleep():
            raise AssertionError("entered")
        assert "/sleep" in server.paths()
        assert not server.asleep

    def test_one_that_is_down(
        self, bench: Bench, port: Port, other_port: Port, server: Scripted, other: Scripted
    ) -> None:
        """It has nothing to free: the others sleep, and wake."""
        model = bench.client(port, other_port)
        model.use(None)
        port.stop()
        with model.asleep():
            assert other.asleep
        assert not other.asleep
        assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)


def test_a_server_that_hangs_once(model: VLLMModel, server: Scripted, bench: Bench) -> None:
    """A request that takes too long is asked again, after the server was attested again."""
    model.use(None)
    shorten(model, 1.0)
    server.seconds = 30

    def recover() -> None:
        server.seconds = 0

    with meanwhile(lambda: (time.sleep(0.1), recover())):  # type: ignore[func-returns-value, arg-type]
        assert model.generate(PROMPTS[:TRIES], GREEDY) == bench.trainer.generate(PROMPTS[:TRIES], GREEDY)
    assert attestations(server, "nano") == 2

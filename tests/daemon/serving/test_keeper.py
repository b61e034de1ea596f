"""The keeper on scripted servers: what is routed was attested, what is wrong is alarmed, rolled back and said."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.responses import JSONResponse

from daemon.config import ServeSection
from daemon.events import JobFinished, Result
from daemon.models import vectors
from daemon.models.vectors import Vector
from daemon.probes import attestation
from daemon.serving import keeper
from daemon.serving.route import Route, read, write
from daemon.store.store import Store
from policies.records import ATTESTATION
from tests.daemon.models.vllm import hashed
from tests.daemon.models.vllm.bench import PAIRS, Bench
from tests.daemon.models.vllm.listening import Port
from tests.daemon.models.vllm.scripted import Scripted
from tests.daemon.serving.keeping import House

Making = Callable[..., House]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The daemon's."""
    with Store.open(f"sqlite:///{tmp_path / 'state' / 'dreamloop.db'}") as opened:
        yield opened


@pytest.fixture(autouse=True)
def only_when_poked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look by the clock, unless the test wants it: what is seen was looked at for a reason. Few and short probes."""
    monkeypatch.setattr(keeper, "EVERY", 600.0)
    monkeypatch.setattr(keeper.parity, "fixed_pairs", lambda behaviors: PAIRS)
    monkeypatch.setattr(attestation, "PREFIX_TOKENS", 200)


@pytest.fixture
def house(tmp_path: Path, store: Store, bench: Bench) -> Making:
    """Makes a house on these servers."""
    return lambda *ports, **serve: House(tmp_path, store, bench, *ports, **serve)


def in_house(house: House, act: Callable[[], Awaitable[None]]) -> None:
    async def go() -> None:
        async with house.open():
            await act()

    asyncio.run(go())


def only_base(name: str) -> Callable[[str, hashed.Weights], hashed.Weights]:
    """A server that lists an adapter and answers with the base."""
    return lambda model, weights: hashed.Weights(weights.effects[:1]) if model == f"dreamloop:{name}" else weights


def name_of(house: House) -> str:
    return house.route.model


# --- the route follows what was seen


def test_the_alias_stands_for_what_was_attested(house: Making, port: Port, server: Scripted) -> None:
    """At the start nothing is routed; once the adapter is loaded and attested it is, and status says so."""
    here = house(port)
    here.serve("a1")

    async def act() -> None:
        assert not here.route.open and here.route.state == "starting"
        await here.until(lambda: here.route.open)
        assert (here.route.model, here.route.urls) == ("dreamloop:a1", (port.url,))
        assert read(here.config.state) == here.route
        assert here.route.salt and here.route.steering == ""
        assert list(server.adapters) == ["dreamloop:a1"]
        (row,) = here.front.status()["replicas"]
        assert row["state"] == "attested" and row["compared_at"]
        first, alias = here.lines()
        assert first.startswith(f"server    {port.url}, vLLM 0.32.0: attested ") and "of its effect is served" in first
        assert alias == "alias     dreamloop is dreamloop:a1"

    in_house(here, act)
    assert (here.route.open, here.route.why) == (False, "the daemon has ended")


def test_without_an_adapter_the_alias_is_the_base(house: Making, port: Port) -> None:
    """By the name that the server has for it."""
    here = house(port)

    async def act() -> None:
        await here.until(lambda: here.route.open)
        assert here.route.model == "nano" and here.states() == ["attested"]

    in_house(here, act)


def test_a_promotion_and_a_rollback_are_followed_at_once(house: Making, port: Port, server: Scripted) -> None:
    """Without waiting for the next look. What clients are still routed to stays loaded until they are not."""
    here = house(port)
    here.serve("a1", "a2")
    there: list[tuple[str, set[str]]] = []
    here.routes = type("Seen", (list,), {"append": lambda self, route: (  # type: ignore[assignment]
        there.append((route.model, set(server.adapters))), list.append(self, route))})()  # fmt: skip

    async def act() -> None:
        await here.until(lambda: name_of(here) == "dreamloop:a2")
        here.loop.writer.roll_back("the operator rolled it back")
        await here.until(lambda: name_of(here) == "dreamloop:a1")
        assert there[-1] == ("dreamloop:a1", {"dreamloop:a1", "dreamloop:a2"})
        await here.look()
        assert set(server.adapters) == {"dreamloop:a1"}
        here.loop.writer.move("a2", "serving", "the operator promoted it")
        await here.until(lambda: name_of(here) == "dreamloop:a2")

    in_house(here, act)
    assert not here.alarms()


def test_a_look_that_was_overtaken_does_not_count(house: Making, port: Port) -> None:
    """Another adapter serves by the time that a look is done: what it saw of the one before is not routed to."""
    here = house(port)
    here.serve("a1", "a2")

    async def act() -> None:
        await here.until(lambda: name_of(here) == "dreamloop:a2")
        here.hands.held.add("keep")
        here.keeper.poke()
        await here.until(lambda: here.hands.busy("keep"))
        here.loop.writer.roll_back("the operator rolled it back")
        routed = len(here.routes)
        here.hands.let_go()
        await here.until(lambda: name_of(here) == "dreamloop:a1")
        assert [route.model for route in here.routes[routed:]] == ["dreamloop:a1"]

    in_house(here, act)


def test_looks_are_light(house: Making, port: Port) -> None:
    """They are no durable jobs, wait for no other lane, and go on while heavy work is paused."""
    here = house(port)

    async def act() -> None:
        await here.until(lambda: here.route.open)
        here.hands.held |= {"serve", "train"}
        here.loop.rest("operator", True)
        await here.look()
        await here.look()

    in_house(here, act)
    assert here.store.jobs() == []
    assert {job.lane for job in here.hands.submitted if job.kind == "serve.look"} == {"keep"}


def test_it_looks_by_the_clock(house: Making, port: Port, server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while nothing happens: a server that was started again gets its adapter back, and is attested again."""
    monkeypatch.setattr(keeper, "EVERY", 0.02)
    here = house(port)
    here.serve("a1")

    async def act() -> None:
        await here.until(lambda: here.route.open)
        server.restart()
        count = {"replica": port.url}
        await here.until(lambda: here.metrics.registry.get_sample_value("dreamloop_serve_restarts_total", count) == 1)
        assert list(server.adapters) == ["dreamloop:a1"] and here.states() == ["attested"] and here.route.open
        assert server.completions()[-1]["model"] == "dreamloop:a1"

    in_house(here, act)


def test_what_is_served_is_attested_again_and_again(house: Making, port: Port, server: Scripted) -> None:
    """After `every` seconds it is compared anew: a server that was right and is wrong now is caught."""
    here = house(port, every=0.0)
    here.serve("a1")

    async def act() -> None:
        await here.until(lambda: here.route.open)
        server.served = only_base("a1")
        await here.look()  # nothing is undone for one odd answer: it is asked once more, at once
        assert not here.route.open or name_of(here) == "nano"
        await here.until(lambda: bool(here.events("alarm")) and here.store.serving() is None)
        await here.until(lambda: name_of(here) == "nano")

    in_house(here, act)


# --- what is wrong


def test_one_odd_answer_undoes_no_promotion(house: Making, port: Port, server: Scripted) -> None:
    """A mismatch that the next look does not find again closes the route meanwhile; no alarm, no rollback."""
    here = house(port, every=0.0)
    here.serve("a1")

    async def act() -> None:
        await here.until(lambda: here.route.open)
        odd = iter([True])
        server.served = lambda model, weights: only_base("a1")(model, weights) if next(odd, False) else weights
        await here.look()
        await here.until(lambda: here.route.open)
        assert here.store.serving() == "a1" and not here.alarms()

    in_house(here, act)


def test_a_mismatch_is_rolled_back_alarmed_and_shown(house: Making, port: Port, server: Scripted) -> None:
    """It never serves: the parent does, looked at at once; the alarm is a record with the distance."""
    here = house(port)
    here.serve("a1", "a2")
    server.served = only_base("a2")

    async def act() -> None:
        await here.until(lambda: name_of(here) == "dreamloop:a1")
        assert "dreamloop:a2" not in [route.model for route in here.routes]
        assert here.store.serving() == "a1" and here.store.adapter_states()["a2"] == "rolled_back"
        (alarm,) = here.alarms()
        assert (alarm.channel, alarm.adapter) == (ATTESTATION, "a2")
        assert alarm.e_value > alarm.threshold == here.config.judge.parity_tolerance
        assert "the server answers with the base model" in here.events("alarm")[0]["why"]
        (told,) = here.events("serving")
        assert told["why"].startswith(f"rolled back: not served as trained: {port.url}: lists dreamloop:a2 and does")
        said = [event["state"] for event in here.events("replica")]
        assert said[-2:] == ["mismatch", "attested"]

    in_house(here, act)


def test_an_alarm_is_raised_once_per_start(house: Making, port: Port, server: Scripted) -> None:
    """An operator who insists is rolled back again without a second alarm; a new start of the server is another one."""
    here = house(port)
    here.serve("a1", "a2")
    server.served = only_base("a2")

    async def insist() -> None:
        here.loop.writer.move("a2", "serving", "the operator promoted it")
        await here.until(lambda: here.store.serving() == "a1")

    async def act() -> None:
        await here.until(lambda: here.store.serving() == "a1")
        await insist()
        assert len(here.alarms()) == len(here.events("alarm")) == 1
        server.restart()
        await insist()
        assert len(here.alarms()) == len(here.events("alarm")) == 2

    in_house(here, act)


def test_one_of_two_that_is_wrong_is_left_out(
    house: Making, port: Port, other_port: Port, server: Scripted, other: Scripted
) -> None:
    """The other one serves on, so nothing is rolled back; the alarm and the problem name the one."""
    here = house(port, other_port)
    here.serve("a1")
    server.served = only_base("a1")

    async def act() -> None:
        await here.until(lambda: here.route.open)
        assert here.route.urls == (other_port.url,) and here.store.serving() == "a1"
        await here.until(lambda: len(here.alarms()) == 1)
        assert here.store.serving() == "a1" and here.states() == ["mismatch", "attested"]
        assert here.front.problems()[0].startswith(f"mismatch: {port.url}: lists dreamloop:a1")
        server.served = lambda model, weights: weights
        server.restart()  # its cache holds what it said before
        await here.look()
        assert set(here.route.urls) == {port.url, other_port.url} and not here.front.problems()

    in_house(here, act)


def test_a_replica_joins_when_it_was_attested(house: Making, port: Port, other_port: Port, other: Scripted) -> None:
    """One that comes up later is loaded, attested and then routed to."""
    here = house(port, other_port)
    here.serve("a1")
    other_port.stop()

    async def act() -> None:
        await here.until(lambda: here.route.open)
        assert here.route.urls == (port.url,) and here.states() == ["attested", "down"]
        other_port.start()
        await here.look()
        assert set(here.route.urls) == {port.url, other_port.url}
        assert list(other.adapters) == ["dreamloop:a1"]

    in_house(here, act)


def test_a_wrong_base_closes_the_route(house: Making, port: Port, server: Scripted) -> None:
    """There is nothing to go back to: an alarm, a problem, nothing routed, and the adapter keeps its place."""
    here = house(port)
    here.serve("a1")

    async def act() -> None:
        await here.until(lambda: here.route.open)
        server.restart()
        server.root, server.weights = "/elsewhere", hashed.base_weights("1234567890abcdef" * 4)
        await here.look()
        assert here.route.state == "another model" and not here.route.open
        await here.until(lambda: bool(here.alarms()))
        assert here.store.serving() == "a1"
        (alarm,) = here.alarms()
        assert alarm.e_value > alarm.threshold
        await here.look()
        assert len(here.alarms()) == 1

    in_house(here, act)


def test_servers_that_call_the_base_differently(
    house: Making, port: Port, other_port: Port, server: Scripted, other: Scripted
) -> None:
    """A request has one model name: who knows it by another one is left out, and told how to start."""
    here = house(port, other_port)
    other.name = "the-base"

    async def act() -> None:
        await here.until(lambda: here.route.open)
        assert (here.route.model, here.route.urls) == ("nano", (port.url,))
        (words,) = here.front.problems()
        assert words.startswith("refuses: ") and words.endswith("start it with --served-model-name nano")
        here.serve("a1")
        here.tell({"event": "serving", "adapter": "a1", "why": "test"})
        await here.until(lambda: len(here.route.urls) == 2)  # adapters have one name everywhere

    in_house(here, act)


# --- steering


def steered(here: House, behavior: str = "listening") -> None:
    values = np.ones(160, np.float32)
    vector = Vector(behavior=behavior, layer=3, strength=2.0, values=values, base=here.bench.trainer.fingerprint(),
                    adapter=None, finding="f")  # fmt: skip
    vectors.write(vectors.place(here.config.state, behavior), vector)
    serve = {**here.config.serve.model_dump(), "steering": [behavior]}
    here.reconfigure(here.config.model_copy(update={"serve": ServeSection(**serve)}))


def test_steering_that_is_turned_on_is_followed(house: Making, port: Port, server: Scripted) -> None:
    """An advice that was accepted changes the route at once."""
    here = house(port)

    def rpc() -> JSONResponse:
        asked = [one.body for one in server.asked if one.path == "/collective_rpc"]
        names = [body["args"][0] for body in asked if body["args"]]
        hello = {"version": 1, "boot": "b", "layers": 8, "hidden": 160, "refuses": None, "stored": names, "missed": {}}
        return JSONResponse({"results": [hello]})

    class Replies(dict[str, Any]):
        def get(self, path: str, default: Any = None) -> Any:
            return rpc() if path == "/collective_rpc" else default

    server.replies = Replies()

    async def act() -> None:
        await here.until(lambda: here.route.open)
        plain = here.route
        steered(here)
        await here.until(lambda: here.route.steering)
        assert here.route.open and here.route.salt != plain.salt

    in_house(here, act)


def test_a_server_that_cannot_steer(house: Making, port: Port, server: Scripted) -> None:
    """Answers that are not steered as configured are not routed; the words say how to start the server."""
    here = house(port)

    async def act() -> None:
        await here.until(lambda: here.route.open)
        steered(here)
        await here.until(lambda: not here.route.open)
        assert here.route.state == "refuses"
        assert any("--worker-extension-cls" in line for line in here.lines())
        assert "alias     dreamloop stands for nothing (refuses)" in here.lines()

    in_house(here, act)


# --- every state in a clear line


def nothing(answer: Any, body: Any) -> Any:
    return {**answer, "choices": []}


def not_numbers(answer: Any, body: Any) -> Any:
    for choice in answer["choices"]:
        for row in choice["prompt_logprobs"] or ():
            for cell in (row or {}).values():
                cell["logprob"] = math.nan
    return answer


def no_slots(server: Scripted) -> None:
    server.slots = 0


def no_lora(server: Scripted) -> None:
    server.lora = False


def sleeping(server: Scripted) -> None:
    server.asleep = True


def another(server: Scripted) -> None:
    server.root, server.weights = "/elsewhere", hashed.base_weights("1234567890abcdef" * 4)


@pytest.mark.parametrize(
    ("spoil", "state", "problem"),
    [
        (lambda server: setattr(server, "spoil", nothing), "bad answers", "said 200 and returned 0 answers where"),
        (lambda server: setattr(server, "spoil", not_numbers), "another model", "are not all finite numbers"),
        (no_slots, "full", "has no room (No free lora slots); raise --max-loras"),
        (no_lora, "refuses", "start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        (another, "another model", "Serve the folder of `model.path`"),
        (lambda server: setattr(server, "served", only_base("a1")), "mismatch", "lists dreamloop:a1 and does not"),
    ],
    ids=["nothing", "not finite", "full", "refuses", "another model", "mismatch"],
)  # fmt: skip
def test_a_server_that_misbehaves_has_a_line_and_a_problem(
    house: Making, port: Port, server: Scripted, spoil: Callable[[Scripted], None], state: str, problem: str
) -> None:
    """The state in capitals on its own line, why and what to do in a problem, nothing behind the alias; as JSON too."""
    here = house(port)
    here.serve("a1")
    spoil(server)
    here.loop.carry_out = lambda plan: None  # type: ignore[method-assign]  # it would be rolled back, and be right

    async def act() -> None:
        await here.until(lambda: here.settled)
        line, alias, *told = here.lines()
        assert line == f"server    {port.url}, vLLM 0.32.0: {state.upper()}"
        assert alias == f"alias     dreamloop stands for nothing ({state})"
        (words,) = told
        assert words.startswith(f"problem   {state}: {port.url}: ") and problem in words
        json.dumps(here.front.status(), allow_nan=False)

    in_house(here, act)


def test_a_server_that_is_down(house: Making, port: Port) -> None:
    """DOWN, with the way out; it is no alarm and rolls nothing back."""
    here = house(port)
    here.serve("a1")
    port.stop()

    async def act() -> None:
        await here.until(lambda: here.settled)
        line, alias, problem = here.lines()
        assert line == f"server    {port.url}: DOWN" and alias == "alias     dreamloop stands for nothing (down)"
        assert problem.startswith(f"problem   down: {port.url}: cannot be reached")
        assert problem.endswith("start the server, or mend `serve.url`")
        assert here.store.serving() == "a1" and not here.alarms()

    in_house(here, act)


def test_a_server_that_the_daemon_runs_is_down_for_a_reason(house: Making, port: Port) -> None:
    """While it starts that is no problem; once it ended the reason is the problem, and nobody is told to start it."""
    here = house(port)
    port.stop()
    here.standing = ("starting", "the managed server: it starts; what it says is in vllm.log")

    async def act() -> None:
        await here.until(lambda: here.settled)
        assert here.lines() == [
            f"server    {port.url}: STARTING (the managed server: it starts; what it says is in vllm.log)",
            "alias     dreamloop stands for nothing (starting)",
        ]
        here.standing = ("down", "the managed server: it was killed by SIGKILL")
        await here.look()
        assert here.lines()[2:] == ["problem   down: the managed server: it was killed by SIGKILL"]

    in_house(here, act)


def test_a_server_that_sleeps(house: Making, port: Port, server: Scripted) -> None:
    """Its line says why, and it is no problem."""
    here = house(port)
    server.asleep = True

    async def act() -> None:
        await here.until(lambda: here.settled)
        line, alias = here.lines()
        assert ": ASLEEP (" in line and "it wakes when training is over" in line
        assert alias == "alias     dreamloop stands for nothing (asleep)"

    in_house(here, act)


def test_what_is_not_published_yet(house: Making, port: Port) -> None:
    """While the trainer is busy the state says what is waited for; looks go on, and it is published afterwards."""
    here = house(port)
    here.serve("a1")
    here.hands.held.add("train")

    async def act() -> None:
        await here.until(lambda: here.looks)
        await here.look()
        line, alias, problem = here.lines()
        assert line.endswith(": UNPUBLISHED") and "stands for nothing (unpublished)" in alias
        assert "the training process does that when it is free" in problem
        here.hands.let_go()
        await here.until(lambda: here.route.open)
        assert here.hands.kinds().count("serve.publish") == 1

    in_house(here, act)


def test_an_adapter_that_cannot_be_published(house: Making, port: Port) -> None:
    """Its folder was tampered with: said with the file's name, and not tried again in a hurry."""
    here = house(port)
    here.serve("a1")
    (here.config.state / "adapters" / "a1" / "adapter_model.safetensors").write_bytes(b"cut")

    async def act() -> None:
        await here.until(lambda: any("cannot be published" in words for words in here.front.problems()))
        await here.look()
        await here.look()
        assert here.hands.kinds().count("serve.publish") == 1
        here.now += keeper.LONGEST
        await here.look()
        await here.until(lambda: here.hands.kinds().count("serve.publish") == 2)

    in_house(here, act)


# --- what goes wrong on our side


def test_a_keeper_that_raises_closes_the_route_and_goes_on(house: Making, port: Port) -> None:
    """Nothing is routed on the strength of an earlier look; the bug is said; the next look mends it."""
    here = house(port)

    async def act() -> None:
        await here.until(lambda: here.route.open)
        here.broken = KeyError("a bug")
        here.keeper.poke()
        await here.until(lambda: not here.route.open)
        assert here.front.problems() == ["the servers cannot be looked at: KeyError: 'a bug'"]
        assert here.states() == ["unknown"]
        here.broken = None
        await here.look()
        assert here.route.open and not here.front.problems() and here.states() == ["attested"]

    in_house(here, act)


def test_a_look_that_fails_closes_the_route(house: Making, port: Port) -> None:
    """A version that was changed on the disk cannot be attested: nothing serves, and the words say what to do."""
    here = house(port, every=0.0)
    here.serve("a1")

    async def act() -> None:
        await here.until(lambda: here.route.open)
        (reference,) = (here.folder / "served").glob("a1-*/reference.json")
        reference.write_text("{}")
        here.keeper.poke()
        await here.until(lambda: not here.route.open)
        assert any(f"remove {reference.parent}: it is published again" in line for line in here.lines())
        shutil.rmtree(reference.parent)
        await here.until(lambda: here.route.open)

    in_house(here, act)


def test_a_route_that_cannot_be_written_leaves_none(
    house: Making, port: Port, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk never leaves clients with what does not hold; what happened does not end the loop."""
    here = house(port)

    async def act() -> None:
        await here.until(lambda: here.route.open)
        here.unwritable = True
        server.asleep = True
        await here.look()
        (problem,) = here.front.problems()
        assert problem.startswith("the route cannot be written, so nothing is routed: [Errno 28]")
        assert here.front.status()["alias"] is None
        here.unwritable = server.asleep = False
        await here.look()
        assert here.route.open and not here.front.problems()

    in_house(here, act)
    opened = Route(alias="dreamloop", model="m", urls=("http://a:1",))
    write(here.config.state, opened)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("daemon.serving.route.tempfile.mkstemp", full)
    with pytest.raises(OSError, match="No space"):
        write(here.config.state, opened)
    assert not (here.config.state / "route.json").exists()


def test_an_adapter_to_go_back_to_that_is_gone(house: Making, port: Port) -> None:
    """Somebody removed the parent's folder: what serves is served all the same."""
    here = house(port)
    here.serve("a1", "a2")

    async def act() -> None:
        await here.until(lambda: name_of(here) == "dreamloop:a2")
        (here.config.state / "adapters" / "a1" / "card.json").unlink()
        await here.look()
        assert name_of(here) == "dreamloop:a2" and here.states() == ["attested"]

    in_house(here, act)


# --- beside training


def test_the_trainers_word_comes_before_what_waits_for_it(house: Making, port: Port) -> None:
    """A cycle that was interrupted goes on at the start, and may need servers: they get the trainer's word first."""
    here = house(port)
    here.serve("a1")
    here.training("dream.write")

    async def act() -> None:
        await here.until(lambda: here.route.open)
        assert here.hands.kinds()[0] == "serve.publish"

    in_house(here, act)


def test_the_route_is_closed_while_the_servers_sleep(house: Making, port: Port, server: Scripted) -> None:
    """From the moment that the update begins, whatever a look sees; afterwards it opens once all is attested anew."""
    here = house(port, sleeps=True)
    here.serve("a1")
    probes = lambda: len(server.completions())  # noqa: E731

    async def act() -> None:
        await here.until(lambda: here.route.open)
        job = here.training(keeper.TRAINS)
        here.loop._dispatch()
        assert here.route.state == "asleep"
        await here.look()
        assert here.states() == ["attested"] and here.route.state == "asleep"
        before = probes()
        here.loop._forget(job.id)
        here.tell({"event": "job", "job": job.id, "kind": job.kind, "state": "done"})
        await here.until(lambda: here.route.open)
        assert probes() > before
        before = probes()
        await here.look()
        assert probes() == before

    in_house(here, act)


def test_a_training_that_was_cancelled_wakes_the_route_too(house: Making, port: Port) -> None:
    """Nobody tells the end of a job that was cancelled with its cycle; the next look sees it."""
    here = house(port, sleeps=True)

    async def act() -> None:
        await here.until(lambda: here.route.open)
        job = here.training(keeper.TRAINS)
        here.loop._dispatch()
        with here.store.transaction() as tx:
            tx.cancel(job.id, here.now)
        here.loop._handle(JobFinished(job=job, result=Result(), seconds=1.0))
        await here.look()
        assert here.route.open

    in_house(here, act)


def test_servers_that_do_not_sleep_go_on(house: Making, port: Port) -> None:
    """Training beside them is no reason to close anything."""
    here = house(port)

    async def act() -> None:
        await here.until(lambda: here.route.open)
        here.training(keeper.TRAINS)
        here.loop._dispatch()
        assert here.route.open

    in_house(here, act)

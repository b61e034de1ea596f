"""What another process, another state folder or another time has to do with this client's server."""

from __future__ import annotations

import os
import time

import pytest

from daemon.errors import NotAttested, ServerRefuses
from daemon.models.base import Sampling
from daemon.models.vllm.versions import REFERENCE
from tests.daemon.models.vllm.bench import PROMPTS, Bench
from tests.daemon.models.vllm.listening import Port
from tests.daemon.models.vllm.scripted import Scripted


def test_a_sleep_that_another_process_began_and_ended_is_noticed(bench: Bench, port: Port, server: Scripted) -> None:
    """Two clients, as two workers have them: what the other saw before the sleep counts no more after it."""
    mine, others = bench.client(port), bench.client(port)
    adapter = bench.adapter("a")
    bench.publish(mine, adapter)
    mine.use(adapter)
    with others.asleep():
        pass
    server.asked.clear()
    mine.use(adapter)
    assert any("prompt_logprobs" in body for body in server.completions()), "it was not attested again"


def test_another_states_versions_are_left_alone(bench: Bench, port: Port, server: Scripted) -> None:
    """A version that another state folder has published is neither unloaded, nor taken for one of ours by its name."""
    model = bench.client(port)
    adapter = bench.adapter("a")
    bench.publish(model, adapter)
    foreign = bench.adapter("b")  # not where versions are published
    server.load("dreamloop:b", str(foreign))
    assert model.look(adapter, [])[0]["state"] == "attested"
    assert "dreamloop:b" in server.adapters
    server.load("dreamloop:a", str(foreign))
    with pytest.raises(ServerRefuses, match="another state folder"):
        model.use(adapter)


def test_a_server_that_does_not_say_when_it_started_is_refused(bench: Bench, port: Port, server: Scripted) -> None:
    """Its restarts would go unnoticed."""
    model = bench.client(port, patience=0.0)
    server.started = 0
    with pytest.raises(ServerRefuses, match="when its process started"):
        model.use(None)


def test_a_restart_before_unloading_is_noticed(bench: Bench, port: Port, server: Scripted) -> None:
    """Nothing that was seen of the process before is believed of the new one."""
    model = bench.client(port)
    adapter = bench.adapter("a")
    bench.publish(model, adapter)
    model.use(adapter)
    (replica,) = model._fleet.replicas
    server.restart()
    server.load("dreamloop:old", str(replica.server and model._versions.of(adapter).folder))
    assert model._background.run(replica.unload([])) == []
    assert not replica.serves(model._versions.of(adapter))


def test_a_server_left_asleep_is_woken_when_nothing_trains(bench: Bench, port: Port, server: Scripted) -> None:
    """Whoever put it to sleep was killed: the next look wakes it, where it is told that nothing is trained."""
    model = bench.client(port)
    server.asleep = True
    assert model.look(None, [])[0]["state"] == "asleep"
    assert model.look(None, [], wake=True)[0]["state"] == "attested" and not server.asleep


def test_a_damaged_version_is_published_again(bench: Bench, port: Port) -> None:
    """A reference that was changed is no word of the trainer's: not attested by, and written anew."""
    model = bench.client(port)
    adapter = bench.adapter("a")
    bench.publish(model, adapter)
    file = model._versions.of(adapter).folder / REFERENCE
    file.write_text("{}", encoding="utf-8")
    assert model.look(adapter, [])[0]["state"] == "unpublished" and not model.published(adapter)
    bench.publish(model, adapter)
    assert model.published(adapter) and model.look(adapter, [])[0]["state"] == "attested"


def test_versions_that_nobody_keeps_are_removed_after_a_while(bench: Bench, port: Port) -> None:
    """Not at once, for one that was just trained is about to be judged; kept ones and the base stay."""
    model = bench.client(port)
    old, kept, new = (bench.adapter(name) for name in ("old", "kept", "new"))
    for adapter in (old, kept, new):
        bench.publish(model, adapter)
    folders = {adapter.name: model._versions.of(adapter).folder for adapter in (old, kept, new)}
    model.look(new, [kept])
    assert all(folder.is_dir() for folder in folders.values())
    for folder in (*folders.values(), model._versions.of(None).folder):
        os.utime(folder, (time.time() - 7200,) * 2)
    model.look(new, [kept])
    assert [name for name, folder in folders.items() if folder.is_dir()] == ["kept", "new"]
    assert model._versions.of(None).published


def test_prompts_fit_the_server(bench: Bench, port: Port, server: Scripted) -> None:
    """Where the server takes less than the model could, a long conversation loses its beginning here."""
    model = bench.client(port)
    server.longest = 700
    model.use(None)
    model.generate([PROMPTS[0] * 60], Sampling(temperature=0, max_tokens=8))
    assert model.longest == 700
    assert len(server.completions()[-1]["prompt"]) == 700 - 8


def test_one_wrong_and_one_down(bench: Bench, port: Port, other_port: Port, server: Scripted) -> None:
    """The wrong one is not attested over and over while the other is waited for, and is what is said in the end."""
    model = bench.client(port, other_port, patience=2.0)
    adapter = bench.adapter("a")
    bench.publish(model, adapter)
    other_port.stop()
    server.served = lambda name, weights: server.weights if name != "nano" else weights
    server.asked.clear()
    with pytest.raises(NotAttested):
        model.use(adapter)
    assert server.paths().count("/v1/load_lora_adapter") == 1

"""What is wrong is said in one clear line, with an exit status, before anything heavy starts; nothing is lost."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.loop.conftest import Daemon

pytestmark = [pytest.mark.loop, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"learn": {"rnk": 4}}, 2, ["learn.rnk", "did you mean `rank`"]),
        ({"model": {"path": "no/such/model"}}, 2, ["traffic.enabled", "no/such/model"]),
        ({"model": {"path": "no/such/model"}, "traffic": {"enabled": False}}, 3, ["no/such/model"]),
        ({"traffic": {"mix": {"listenin": 1.0}}}, 2, ["traffic.mix", "listenin", "listening"]),
        ({"graph": {"path": "no/such/graph"}}, 6, ["no/such/graph", "graph.path"]),
        ({"behaviors": {"train": ["lisening"]}}, 2, ["lisening.toml", "listening"]),
        ({"daemon": {"metrics_host": "256.0.0.1"}}, 2, ["metrics_host"]),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(
    daemon: Callable[..., Daemon], changes: dict[str, dict[str, Any]], status: int, words: list[str]
) -> None:
    """A misspelled key, a model, graph or behaviour that is not there: named with the remedy, no traceback."""
    done = daemon(changes).run("--cycles", "1", timeout=60)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_a_second_daemon_on_the_same_state_is_refused_by_pid(daemon: Callable[..., Daemon]) -> None:
    """The message names the pid of the daemon that is there, which goes on undisturbed."""
    one = daemon({"schedule": {"cycle": "manual"}})
    first = one.start()
    one.until(lambda status: True)
    done = one.run(timeout=60)
    assert done.returncode == 4
    assert str(first.pid) in done.stderr and "already running" in done.stderr
    assert one.ctl("status")["pid"] == first.pid
    first.send_signal(signal.SIGINT)
    assert first.wait(30) == 0


def test_an_empty_graph_still_dreams(daemon: Callable[..., Daemon], tmp_path_factory: pytest.TempPathFactory) -> None:
    """A graph without a node: the daemon says so, and a cycle runs through."""
    empty = tmp_path_factory.mktemp("vault")
    one = daemon({"graph": {"path": str(empty)}, "learn": {"minimum": 10_000, "maximum": 10_000}})
    done = one.run("--cycles", "1", timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "graph is empty" in done.stderr
    assert one.ctl("report")["counts"]["dreams"] > 0


def test_a_person_is_heard(daemon: Callable[..., Daemon]) -> None:
    """`dreamctl chat` talks to the serving model, and what was said becomes a turn like any other."""
    one = daemon({"schedule": {"cycle": "manual"}, "traffic": {"enabled": False}})
    process = one.start()
    one.until(lambda status: True)
    before = one.ctl("status")["turns"]
    first = one.ctl("chat", "--once", "please bake the bread with the oven.")
    assert first["answer"]
    file = one.state / "logs" / "chat" / f"{first['conversation']}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["role"] for row in rows] == ["user", "assistant"]
    assert rows[1]["content"] == first["answer"]
    with file.open("a") as log:  # the person answers: that makes the turn final
        log.write(
            json.dumps({"conversation": first["conversation"], "role": "user", "content": "thanks. that is all."})
        )
        log.write("\n")
    one.until(lambda status: status["turns"] == before + 1, 60)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0

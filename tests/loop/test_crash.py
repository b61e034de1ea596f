"""kill -9 in the middle of a cycle: nothing is lost, nothing is counted or trained twice. And Ctrl-C at bad times."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.intake.reader import read_new
from daemon.store.store import Store
from policies.listen.turns import exchanges
from policies.records import Adapter, Batch, Message, Signal, Turn
from tests.loop.conftest import Daemon

pytestmark = [pytest.mark.loop, pytest.mark.timeout(900)]


def learning(status: dict[str, object]) -> bool:
    return any(job["kind"] == "learn.update" for job in status["jobs"])  # type: ignore[index,attr-defined]


def children(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(folder.name))
    return found


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


def check(state: Path) -> None:
    """What must hold of any state after any history of crashes."""
    with Store.open(f"sqlite:///{state / 'dreamloop.db'}") as store:
        stored = {turn.id for turn in store.find(Turn)}
        signals = Counter((signal.turn, signal.behavior) for signal in store.find(Signal))
        batches = store.find(Batch)
        adapters = store.find(Adapter)
        running = store.jobs(state="running")
        context = 4
    messages: dict[str, list[Message]] = {}
    for file in (state / "logs").rglob("*.jsonl"):
        read = read_new(file, lambda _: 0)
        assert read is not None
        for message in read.messages:
            messages.setdefault(message.conversation, []).append(message)
    in_the_logs = {e.turn.id for talk in messages.values() for e in exchanges(talk, context)}
    assert stored == in_the_logs, "a turn was lost, or one was made up"
    assert not signals or max(signals.values()) == 1, "a turn was counted twice"
    assert not running
    assert len({a.batch for a in adapters}) == len(adapters), "a batch was trained twice"
    assert {a.batch for a in adapters} <= {b.id for b in batches}
    for adapter in adapters:
        assert (state / "adapters" / adapter.id / "card.json").is_file()
    assert {p.name for p in (state / "adapters").iterdir()} == {a.id for a in adapters}


def test_killed_while_training_it_resumes_and_trains_nothing_twice(daemon: Callable[..., Daemon]) -> None:
    """kill -9 during an update; the next start finishes that very cycle from that very job."""
    one = daemon()
    first = one.start()
    status = one.until(learning)
    workers = children(first.pid)
    assert workers
    os.kill(first.pid, signal.SIGKILL)
    first.wait(30)
    ends = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not any(map(alive, workers)), "a worker outlived its daemon"

    done = one.run("--cycles", "1")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "resuming" in done.stderr
    with Store.open(f"sqlite:///{one.state / 'dreamloop.db'}") as store:
        assert [cycle.id for cycle in store.cycles()] == [status["cycle"]["id"]], "it began another cycle instead"
        assert store.cycles()[0].state == "done"
        assert store.count(Batch) == store.count(Adapter) == 1
    check(one.state)


def test_ctrl_c_while_training_ends_cleanly_and_it_goes_on_later(daemon: Callable[..., Daemon]) -> None:
    """Ctrl-C in the middle of an update: exit 0 within seconds, no orphans, and the same cycle goes on."""
    one = daemon({"experiments": {"observe": True}})  # with the looks at a session, too
    first = one.start()
    one.until(learning)
    workers = children(first.pid)
    first.send_signal(signal.SIGINT)
    assert first.wait(30) == 0, one.log()[-3000:]
    assert not any(map(alive, workers))
    assert not (one.state / "control.sock").exists()
    done = one.run("--cycles", "1")
    assert done.returncode == 0, done.stderr[-4000:]
    check(one.state)

"""A small in-memory daemon behind a real control socket, in its own thread and event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.control import SOCKET_NAME
from daemon.control.feed import Feed
from daemon.control.server import ControlServer
from daemon.errors import AdapterError, DreamloopError

PARENT, CHILD, OTHER = "aaaa1111" + "0" * 12, "aaaa2222" + "0" * 12, "bbbb3333" + "0" * 12


class Memory:
    """Operations on a dict: what the loop does, without a model."""

    def __init__(self) -> None:
        self.feed = Feed(limit=8)
        self.paused = False
        self.serving: str | None = CHILD
        self.asked: list[str] = []
        self.threads: set[str] = set()
        self.loss: float = 0.5

    def status(self) -> dict[str, Any]:
        self.threads.add(threading.current_thread().name)
        behavior = {"failures": 3, "n": 30, "rate": 0.1, "low": 0.03, "high": 0.26, "source": "probes"}
        job = {"id": "j", "kind": "grade.answer", "lane": "train", "done": 1, "total": 9, "note": "", "seconds": 2}
        return {
            "pid": 7, "state": "running", "version": "0", "since": 1.0, "paused": self.paused, "turns": 4,
            "cycle": {"id": 2, "stage": "grade", "stages": ["listen", "grade"], "why": "test"},
            "jobs": [job],
            "serving": {"adapter": self.serving, "since": 1.0}, "behaviors": {"listening": behavior},
            "last_verdict": {"adapter": CHILD, "decision": "promote", "reasons": ["fails less"]},
            "alarms": [], "problems": [], "next": {"what": "cycle 3", "when": 2.0}, "metrics": "http://127.0.0.1:1/metrics",
        }  # fmt: skip

    def adapters(self) -> list[dict[str, Any]]:
        rows = ((PARENT, None, "retired"), (CHILD, PARENT, "serving"), (OTHER, CHILD, "rejected"))
        return [
            {"id": id, "parent": parent, "state": state, "verdict": "promote", "reasons": ["because"], "cycle": 1,
             "at": 1.0, "loss": self.loss}
            for id, parent, state in rows
        ]  # fmt: skip

    def report(self) -> dict[str, Any]:
        side = {"failures": 1, "n": 10, "rate": 0.1, "low": 0.0, "high": 0.4, "bands": {"subtle": {"rate": 0.2}}}
        return {
            "behaviors": {"listening": {"base": side, "serving": side}},
            "general": {},
            "adapters": [],
            "seconds": 3.0,
        }

    def config(self) -> dict[str, Any]:
        return {"daemon": {"seed": 7, "log_level": "info"}, "store": {"url": "postgresql://me:secret@db/loop"}}

    def answers(self) -> dict[str, Any]:
        return {"at": 1.0, "questions": {}, "advice": []}

    def finding(self, id: str) -> dict[str, Any] | None:
        return {"id": id, "question": "q1"} if id == "f" else None

    def ask(self, question: str, size: str, behavior: str | None, *, served: bool = False) -> dict[str, Any]:
        self.asked.append(f"{question} {size} {behavior}")
        return {"job": "j1", "question": question, "behavior": behavior or "listening", "size": size, "note": ""}

    def job(self, id: str) -> dict[str, Any] | None:
        return {"id": id, "state": "done", "notes": {"finding": "f"}} if id == "j1" else None

    def cancel(self, id: str) -> bool:
        return False

    def advise(self, act: str, name: str) -> dict[str, Any]:
        if name == "guard.none":
            raise DreamloopError(f"no advice is called {name!r}")
        return {"id": "a1", "key": name, "value": 1, "before": 0, "state": act}

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def run(self, stage: str) -> dict[str, Any]:
        if self.paused:
            raise DreamloopError("paused; `dreamctl resume` first")
        self.asked.append(stage)
        return {"cycle": 3, "queued": [stage], "note": f"{stage} is next"}

    def promote(self, adapter: str) -> dict[str, Any]:
        if adapter == PARENT:
            raise AdapterError(f"{adapter}: its folder is gone; restore it")
        before, self.serving = self.serving, adapter
        return {"serving": adapter, "before": before}

    def rollback(self, adapter: str | None) -> dict[str, Any]:
        before, self.serving = adapter or self.serving, PARENT
        return {"serving": PARENT, "before": before}

    async def chat(self, conversation: str | None, text: str) -> dict[str, Any]:
        if text == "break":
            raise RuntimeError("something secret")
        await asyncio.sleep(0)
        return {"conversation": conversation or "c1", "answer": text.upper(), "adapter": self.serving}

    def subscribe(self) -> AsyncIterator[dict[str, Any]]:
        return self.feed.subscribe()


class Running:
    """The in-memory daemon, served; `call` runs something on its loop's thread."""

    def __init__(self, state: Path, **options: Any) -> None:
        self.state = state
        self.memory = Memory()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="the loop")
        self.thread.start()
        try:
            self.server = self.await_(self._make(options))
        except BaseException:
            self._end()
            raise

    async def _make(self, options: dict[str, Any]) -> ControlServer:
        server = ControlServer(self.state / SOCKET_NAME, self.memory, **options)
        await server.start()
        return server

    def await_(self, awaitable: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(awaitable, self.loop).result(30)

    def publish(self, event: str, **facts: Any) -> None:
        self.loop.call_soon_threadsafe(lambda: self.memory.feed.publish(event, **facts))

    def stop(self) -> None:
        self.await_(self.server.stop())
        self._end()

    def _end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Running]:
    """A daemon on tmp_path."""
    running = Running(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    """Make daemons with options; all are stopped at the end."""
    made: list[Running] = []

    def make(state: Path = tmp_path, **options: Any) -> Running:
        made.append(Running(state, **options))
        return made[-1]

    yield make
    for running in made:
        if running.thread.is_alive():
            running.stop()

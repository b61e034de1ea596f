"""Training beside servers that share the GPU: who has it when, also through pauses and failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from daemon.events import Job
from daemon.executors.base import Served, WorkerSpec
from daemon.executors.context import Control, WorkerContext
from daemon.models.fake import FakeModel


class Servers(FakeModel):
    """Servers that write down when they sleep and wake."""

    def __init__(self, told: list[str]) -> None:
        super().__init__({})
        self.told = told

    @contextmanager
    def asleep(self) -> Iterator[None]:
        self.told.append("sleep")
        try:
            yield
        finally:
            self.told.append("wake")


class Trainer(FakeModel):
    """A model that writes down when it comes to the GPU and leaves it."""

    def __init__(self, told: list[str], *, fails: bool = False) -> None:
        super().__init__({})
        self.told, self.fails = told, fails

    def come(self) -> None:
        if self.fails:
            raise MemoryError("no room")
        self.told.append("come")

    def leave(self) -> None:
        self.told.append("leave")


def context(told: list[str], *, sleeps: bool = True, fails: bool = False) -> tuple[WorkerContext, Control]:
    spec = WorkerSpec(backend="fake", served=Served(backend="fake", sleeps=sleeps))
    control = Control()
    job = Job.make("learn.update", lane="train", cycle=1)
    trainer: Any = Trainer(told, fails=fails)
    servers = Servers(told)
    return WorkerContext(job, spec, lambda: trainer, control, lambda _: None, served=lambda: servers), control


def test_servers_sleep_while_something_is_trained() -> None:
    """First they sleep, then the model comes; it leaves before they wake. A window within one changes nothing."""
    told: list[str] = []
    found, _ = context(told)
    with found.training(), found.training():
        told.append("train")
    assert told == ["sleep", "come", "train", "leave", "wake"]


def test_without_sharing_nobody_moves() -> None:
    """Where servers do not sleep, training is just training."""
    told: list[str] = []
    found, _ = context(told, sleeps=False)
    with found.training():
        told.append("train")
    assert told == ["train"]


def test_a_failure_wakes_the_servers() -> None:
    """Neither an update that raises nor a model that finds no room leaves the servers asleep."""
    told: list[str] = []
    found, _ = context(told)
    with pytest.raises(RuntimeError), found.training():
        raise RuntimeError("out of luck")
    assert told == ["sleep", "come", "leave", "wake"]
    told.clear()
    found, _ = context(told, fails=True)
    with pytest.raises(MemoryError), found.training():
        pass
    assert told[0] == "sleep" and told[-1] == "wake"


def test_a_pause_wakes_the_servers() -> None:
    """Held at a checkpoint the model leaves and the servers answer; it comes back when it may go on."""
    told: list[str] = []
    found, control = context(told)
    control.pause(True)

    def train() -> None:
        with found.training():
            found.checkpoint(1, 2)
            told.append("train")

    worker = threading.Thread(target=train, daemon=True)
    worker.start()
    ends = time.monotonic() + 10
    while told != ["sleep", "come", "leave", "wake"] and time.monotonic() < ends:
        time.sleep(0.01)
    assert told == ["sleep", "come", "leave", "wake"]
    control.pause(False)
    worker.join(10)
    assert told[4:] == ["sleep", "come", "train", "leave", "wake"]

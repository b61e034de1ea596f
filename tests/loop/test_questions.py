"""A question asked of a real daemon on the real nano: killed in the middle, gone on with, answered, cancelled."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.loop.conftest import Daemon

pytestmark = [pytest.mark.loop, pytest.mark.timeout(900)]
CELLS = 100  # a job's progress counts hundredths of cells


def idle() -> dict[str, dict[str, Any]]:
    """A daemon that runs no cycles of its own."""
    return {"schedule": {"cycle": "manual"}}


def after(daemon: Daemon, kind: str, cells: int) -> None:
    """Wait until a job of this kind has that many cells behind it."""
    daemon.until(lambda status: any(j["kind"] == kind and j["done"] >= CELLS * cells for j in status["jobs"]))


def kill(daemon: Daemon) -> None:
    daemon.started[-1].send_signal(signal.SIGKILL)
    daemon.started[-1].wait(30)


def test_a_killed_question_is_answered_after_the_restart(daemon: Callable[..., Daemon]) -> None:
    """kill -9 in the middle of an experiment: the next daemon goes on with it, takes the cells that were measured, and
    answers with verdict, n, null and seconds; the answer book has the sentence; nothing that it trained is left."""
    one = daemon(idle())
    one.start()
    one.until(lambda status: True)
    job = one.ctl("ask", "q3", "--quick", "--detach")["job"]
    after(one, "q3_head_change.run", 2)
    kill(one)
    one.start()
    one.until(lambda status: not any(j["id"] == job for j in status["jobs"]) and answered(one, "q3"))
    finding = one.ctl("answers")["questions"]["q3"]["latest"]
    assert finding["verdict"] in ("localised", "distributed", "not identified")
    assert finding["size"] == "quick" and finding["n"] >= 20 and finding["seconds"] > 0 and finding["sentence"]
    assert finding["evidence"]["cells"]["reused"] >= 2
    assert {"null", "rule", "seeds", "model", "controls", "figures"} <= set(finding["evidence"])
    assert not (one.state / "experiments" / "adapters").exists()
    assert one.ctl("status")["serving"]["adapter"] is None  # an experiment never serves what it trains
    one.ctl("report", "--out", str(one.folder / "book.html"))
    assert finding["sentence"][:40] in (one.folder / "book.html").read_text().replace("&#39;", "'")
    stop(one)
    left = json.loads((one.state / "answers.json").read_text())
    assert left["questions"]["q3"]["latest"]["id"] == finding["id"]


def answered(one: Daemon, question: str) -> bool:
    return one.ctl("answers")["questions"][question]["latest"] is not None


def stop(one: Daemon) -> None:
    one.started[-1].send_signal(signal.SIGINT)
    assert one.started[-1].wait(60) == 0


def test_a_cancelled_question_keeps_what_it_measured(daemon: Callable[..., Daemon]) -> None:
    """Cancelled at its next safe point, in clear words for who waits; its cells are there for the next time."""
    one = daemon(idle())
    one.start()
    one.until(lambda status: True)
    job = one.ctl("ask", "q1", "--quick", "--detach")["job"]
    after(one, "q1_minimum_signal.run", 1)
    assert one.ctl("cancel", job) == {"cancelled": True}
    one.until(lambda status: not status["jobs"])
    assert list((one.state / "experiments" / "cells").glob("*.json"))
    assert one.ctl("answers")["questions"]["q1"]["latest"] is None
    assert one.ctl("cancel", job) == {"cancelled": False}
    stop(one)


def test_a_question_that_cannot_be_asked_is_refused_at_once(daemon: Callable[..., Daemon]) -> None:
    """An unknown behaviour is answered with the known ones, before anything is queued."""
    one = daemon(idle())
    one.start()
    one.until(lambda status: True)
    refused = one.ctl("ask", "q1", "--behavior", "lisening", ok=False)
    assert refused.returncode == 1 and "listening, not_rushing, push_back" in refused.stderr
    assert one.ctl("status")["jobs"] == []
    stop(one)

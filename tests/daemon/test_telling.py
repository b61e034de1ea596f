"""Telling: each happening moves its own metric and reaches whoever watches."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from daemon.control.feed import Feed
from daemon.metrics import Metrics
from daemon.telling import Telling
from tests.daemon.stations.parts import dream, signal, turn

A_VERDICT = {"event": "verdict", "adapter": "a1", "reasons": ["because"], "failure": {"listening": 0.125}}
RATIO = "dreamloop_judge_failure_ratio"


RATES: dict[str | None, dict[str, float]] = {None: {"listening": 0.5, "push_back": 0.25}, "a1": {"listening": 0.125}}


@pytest.fixture
def telling() -> Telling:
    """Metrics and a feed of one's own; two models were measured, adapter "b1" was not."""
    return Telling(Metrics(), Feed(), lambda adapter: RATES.get(adapter, {}))


def sample(telling: Telling, name: str, **labels: str) -> float | None:
    return telling.metrics.registry.get_sample_value(name, labels)


@pytest.mark.parametrize(
    ("happening", "name", "labels", "value"),
    [
        ({"event": "cycle", "cycle": 7, "state": "started"}, "dreamloop_cycle", {}, 7),
        ({"event": "cycle", "cycle": 7, "state": "done"}, "dreamloop_cycles_total", {"state": "done"}, 1),
        ({"event": "cycle", "cycle": 7, "state": "failed"}, "dreamloop_cycles_total", {"state": "failed"}, 1),
        ({"event": "job", "job": "j", "kind": "dream.write", "state": "done", "seconds": 2.5},
         "dreamloop_job_seconds_sum", {"kind": "dream.write"}, 2.5),
        ({"event": "job", "job": "j", "kind": "dream.write", "state": "done", "seconds": 2.5},
         "dreamloop_job_failures_total", {"kind": "dream.write"}, 0),
        ({"event": "job", "job": "j", "kind": "dream.write", "state": "failed", "seconds": 1.0, "error": "no"},
         "dreamloop_job_failures_total", {"kind": "dream.write"}, 1),
        ({"event": "queue", "lane": "train", "waiting": 3}, "dreamloop_jobs_queued", {"lane": "train"}, 3),
        ({**A_VERDICT, "decision": "hold"}, RATIO, {"behavior": "listening", "which": "candidate"}, 0.125),
        ({**A_VERDICT, "decision": "hold"}, RATIO, {"behavior": "listening", "which": "serving"}, None),
        ({**A_VERDICT, "decision": "promote"}, RATIO, {"behavior": "listening", "which": "serving"}, None),
        ({"event": "serving", "adapter": "a1", "why": "better"}, RATIO,
         {"behavior": "listening", "which": "serving"}, 0.125),
        ({"event": "serving", "adapter": "a1", "why": "better"}, RATIO,
         {"behavior": "listening", "which": "base"}, 0.5),
        ({"event": "paused", "reasons": ["operator"]}, "dreamloop_paused", {}, 1),
        ({"event": "paused", "reasons": []}, "dreamloop_paused", {}, 0),
        ({"event": "guarded", "threshold": 50.0, "values": [["probe", "listening", 4.5]], "unarmed": []},
         "dreamloop_guard_e_value", {"channel": "probe", "behavior": "listening"}, 4.5),
        ({"event": "guarded", "threshold": 50.0, "values": [], "unarmed": []}, "dreamloop_guard_threshold", {}, 50),
        ({"event": "serving", "adapter": "a1", "why": "better"},
         "dreamloop_serving_adapter_info", {"adapter": "a1"}, 1),
        ({"event": "serving", "adapter": None, "why": "rolled back"},
         "dreamloop_serving_adapter_info", {"adapter": "base"}, 1),
    ],
)  # fmt: skip
def test_a_happening_moves_its_metric(
    telling: Telling, happening: dict[str, Any], name: str, labels: dict[str, str], value: float | None
) -> None:
    """Each happening moves the metric of its name and labels, to this value."""
    telling(happening)
    assert sample(telling, name, **labels) == value


def test_times_are_those_of_the_happening(telling: Telling) -> None:
    """A stage's success and the serving adapter's beginning are stamped with now, and a stage that begins is not."""
    before = time.time()
    telling({"event": "stage", "cycle": 1, "stage": "grade", "state": "started"})
    assert sample(telling, "dreamloop_stage_last_success_timestamp_seconds", stage="grade") is None
    telling({"event": "stage", "cycle": 1, "stage": "grade", "state": "done", "note": ""})
    telling({"event": "serving", "adapter": "a1", "why": "better"})
    for name, labels in (("stage_last_success", {"stage": "grade"}), ("serving_since", {})):
        value = sample(telling, f"dreamloop_{name}_timestamp_seconds", **labels)
        assert value is not None and before <= value <= time.time()


def test_a_retried_job_is_no_failure_yet(telling: Telling) -> None:
    """Only the last attempt of a job counts as a failed job."""
    telling({"event": "job", "job": "j", "kind": "dream.write", "state": "retrying", "seconds": 1.0, "error": "no"})
    assert not sample(telling, "dreamloop_job_failures_total", kind="dream.write")


def test_everything_but_the_queue_reaches_whoever_watches(telling: Telling) -> None:
    """Happenings arrive in order with their facts and a time; queue lengths are for Prometheus alone."""

    async def go() -> list[dict[str, Any]]:
        events = telling.feed.subscribe()
        telling({"event": "queue", "lane": "train", "waiting": 1})
        telling({**A_VERDICT, "decision": "hold"})
        telling({"event": "dream", "text": "a dream", "behavior": "listening"})
        telling.feed.close()
        return [event async for event in events]

    verdict, dreamt = asyncio.run(go())
    assert verdict["event"] == "verdict" and verdict["reasons"] == ["because"] and "at" in verdict
    assert dreamt["event"] == "dream" and dreamt["text"] == "a dream"


def test_how_the_servers_stand_is_for_prometheus(telling: Telling) -> None:
    """It comes every few seconds: only what changes, which is told for itself, reaches whoever watches."""
    row = {"url": "http://a:1", "state": "attested", "why": "", "started": 5.0, "compared_at": 7.0,
           "outcome": "attested", "apart": 0.01, "share": 1.0}  # fmt: skip

    async def go() -> list[dict[str, Any]]:
        events = telling.feed.subscribe()
        telling({"event": "served", "replicas": [row]})
        telling({"event": "replica", "url": "http://a:1", "state": "down", "why": "it is gone"})
        telling.feed.close()
        return [event async for event in events]

    (told,) = asyncio.run(go())
    assert (told["event"], told["why"]) == ("replica", "it is gone")
    assert sample(telling, "dreamloop_serve_replicas", state="attested") == 1


def test_the_happening_itself_is_left_as_it_was(telling: Telling) -> None:
    """Telling takes nothing out of the dict that it is given: others may look at it afterwards."""
    happening = {"event": "cycle", "cycle": 1, "state": "started"}
    telling(happening)
    assert happening == {"event": "cycle", "cycle": 1, "state": "started"}


def test_stored_records_are_counted(telling: Telling) -> None:
    """Turns, signals and dreams that were stored move their own counters."""
    said = turn("use vim", "ok", adapter="a1")
    telling.stored([said, signal(said, "listening"), dream("a dream")])
    assert sample(telling, "dreamloop_listen_turns_total", adapter_kind="adapter") == 1
    assert sample(telling, "dreamloop_listen_failures_total", behavior="listening") == 1
    assert sample(telling, "dreamloop_dream_written_total", behavior="listening", band="medium") == 1


def test_the_pause_is_over_when_no_reason_is_left(telling: Telling) -> None:
    """The gauge follows every change: up with the first reason, down with the last."""
    seen = []
    for reasons in (["operator"], ["operator", "window"], ["window"], []):
        telling({"event": "paused", "reasons": reasons})
        seen.append(sample(telling, "dreamloop_paused"))
    assert seen == [1, 1, 1, 0]


def test_the_serving_rates_are_those_of_whoever_serves(telling: Telling) -> None:
    """After a promotion the adapter's own; after a rollback the base's again; of one that was not measured nothing is
    claimed, neither what it has nor what the one before had."""
    asked = [{"behavior": name, "which": "serving"} for name in ("listening", "push_back")]
    told = {}
    for adapter in ("a1", None, "b1"):
        telling({"event": "serving", "adapter": adapter, "why": "test"})
        told[adapter] = [sample(telling, RATIO, **labels) for labels in asked]
        assert sample(telling, RATIO, behavior="listening", which="base") == 0.5
    assert told == {"a1": [0.125, None], None: [0.5, 0.25], "b1": [None, None]}


def test_a_candidates_rate_stays_when_another_serves(telling: Telling) -> None:
    """Only what is said of the serving model and the base is renewed with it."""
    telling({**A_VERDICT, "decision": "reject"})
    telling({"event": "serving", "adapter": None, "why": "rolled back"})
    assert sample(telling, RATIO, behavior="listening", which="candidate") == 0.125


def test_at_the_start_whoever_serves_is_shown_with_its_time(telling: Telling) -> None:
    """A daemon that starts shows the adapter that has served since then, with its rates, and tells nobody a change."""

    async def go() -> list[dict[str, Any]]:
        events = telling.feed.subscribe()
        telling.serves("a1", 1234.0)
        telling.feed.close()
        return [event async for event in events]

    assert asyncio.run(go()) == []
    assert sample(telling, "dreamloop_serving_adapter_info", adapter="a1") == 1
    assert sample(telling, "dreamloop_serving_since_timestamp_seconds") == 1234.0
    assert sample(telling, RATIO, behavior="listening", which="serving") == 0.125

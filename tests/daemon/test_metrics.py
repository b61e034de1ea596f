"""Metrics: what Prometheus reads, by Prometheus's own rules."""

from __future__ import annotations

import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.errors import ConfigError
from daemon.metrics import MAX_NODES, REPLICA_STATES, Metrics, stop_serving
from policies.records import (
    Adapter,
    Alarm,
    Difficulty,
    Dream,
    Example,
    Outcome,
    Quarantine,
    Recipe,
    Signal,
    Surfacing,
    Turn,
    Verdict,
)

RECIPE = Recipe(rank=8, alpha=16, targets=("q",), learning_rate=1e-3, epochs=1, batch_size=8, seed=0)


def dream(id: str = "d", band: Any = "subtle") -> Dream:
    return Dream(id=id, seed="s", behavior="listening", kind="target", band=band, text="t", temperature=0.8,
                 adapter=None, cycle=1, at=1.0)  # fmt: skip


def outcome(passed: bool | None, of: str = "d") -> Outcome:
    return Outcome(id="o", dream=of, adapter=None, attempt=0, answer="a", passed=passed, reason="", judge="j", at=1.0)


def turn(adapter: str | None = None) -> Turn:
    return Turn(id="t", conversation="c", index=0, context=(), user="u", assistant="a", at=1.0, source="s",
                adapter=adapter)  # fmt: skip


def signal(failed: bool) -> Signal:
    return Signal(id="s", turn="t", behavior="listening", failed=failed, evidence="private words", at=1.0)


EXAMPLE = Example(
    id="e", origin="dream", behavior="listening", prompt=(), target="t", rejected=None, source="d", at=1.0, cycle=1
)
ADAPTER = Adapter(
    id="a1", parent=None, recipe=RECIPE, batch="b", folder="f", cycle=1, loss=0.75, tokens=900, seconds=2.0, at=1.0
)
MISMATCH = Alarm(id="m", channel="attestation", behavior="", adapter="a1", e_value=0.4, threshold=0.02, cycle=1, at=1.0)
ALARM = Alarm(
    id="w", channel="signal", behavior="listening", adapter="a1", e_value=1200.0, threshold=1000.0, cycle=1, at=1.0
)
RECORDS: tuple[Any, ...] = (
    turn(),
    turn("a1"),
    signal(True),
    signal(False),
    signal(False),
    Surfacing(id="s", turn="t", node="patterns/listening", score=0.5, at=1.0),
    dream(),
    outcome(True),
    outcome(False),
    outcome(None),
    Difficulty(id="x", dream="d", predicted=0.35, classifier="logistic", at=1.0),
    EXAMPLE,
    ADAPTER,
    Verdict(id="v", adapter="a1", parent=None, decision="promote", reasons=(), cycle=1, at=1.0),
    ALARM,
    MISMATCH,
    Quarantine(id="q", source="s", reason="r", at=1.0),
)


@pytest.fixture
def full() -> Metrics:
    """Every metric with at least one value."""
    metrics = Metrics()
    metrics.count(RECORDS)
    metrics.failure_rate("listening", "serving", 0.1)
    metrics.job_done("dream.write", 2.5)
    metrics.job_failed("learn.train", 1.0)
    metrics.jobs_queued("train", 3)
    metrics.cycle_began(4)
    metrics.cycle_ended("done")
    metrics.stage_ended("dream", 1234.0)
    metrics.serving("a1", 1234.0)
    metrics.paused.set(0)
    metrics.served([replica(), replica("http://b:1", "down", compared_at=None, apart=None, share=None, started=None)])
    return metrics


def replica(url: str = "http://a:1", state: str = "attested", **facts: Any) -> dict[str, Any]:
    known = {"started": 5.0, "compared_at": 1234.0, "outcome": "attested", "apart": 0.004, "share": 0.998}
    return {"url": url, "state": state, **known, **facts}


def values(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text())
        for sample in family.samples
    }


def test_records_are_counted_where_their_station_says(full: Metrics) -> None:
    """Each record moves the metric of its station, by its labels."""
    found = values(full)
    behavior = ("behavior", "listening")
    expected = {
        ("dreamloop_listen_turns_total", (("adapter_kind", "base"),)): 1,
        ("dreamloop_listen_turns_total", (("adapter_kind", "adapter"),)): 1,
        ("dreamloop_listen_eligible_turns_total", (behavior,)): 3,
        ("dreamloop_listen_failures_total", (behavior,)): 1,
        ("dreamloop_listen_surfacings_total", (("node", "patterns/listening"),)): 1,
        ("dreamloop_listen_quarantined_total", ()): 1,
        ("dreamloop_dream_written_total", (("band", "subtle"), behavior)): 1,
        ("dreamloop_dream_temperature", ()): 0.8,
        ("dreamloop_grade_outcomes_total", (("band", "subtle"), behavior, ("result", "passed"))): 1,
        ("dreamloop_grade_outcomes_total", (("band", "subtle"), behavior, ("result", "failed"))): 1,
        ("dreamloop_grade_outcomes_total", (("band", "subtle"), behavior, ("result", "unreadable"))): 1,
        ("dreamloop_grade_predicted_failure_bucket", (("le", "0.4"),)): 1,
        ("dreamloop_grade_predicted_failure_bucket", (("le", "0.3"),)): 0,
        ("dreamloop_learn_examples_total", (("origin", "dream"),)): 1,
        ("dreamloop_learn_updates_total", ()): 1,
        ("dreamloop_learn_loss", ()): 0.75,
        ("dreamloop_learn_tokens_total", ()): 900,
        ("dreamloop_judge_verdicts_total", (("decision", "promote"),)): 1,
        ("dreamloop_judge_failure_ratio", (behavior, ("which", "serving"))): 0.1,
        ("dreamloop_guard_alarms_total", (("channel", "signal"),)): 1,
        ("dreamloop_guard_alarms_total", (("channel", "attestation"),)): 1,
        ("dreamloop_guard_e_value", (behavior, ("channel", "signal"))): 1200,
        ("dreamloop_guard_threshold", ()): 1000,
        ("dreamloop_job_seconds_sum", (("kind", "dream.write"),)): 2.5,
        ("dreamloop_job_failures_total", (("kind", "learn.train"),)): 1,
        ("dreamloop_job_failures_total", (("kind", "dream.write"),)): 0,
        ("dreamloop_jobs_queued", (("lane", "train"),)): 3,
        ("dreamloop_cycle", ()): 4,
        ("dreamloop_cycles_total", (("state", "done"),)): 1,
        ("dreamloop_stage_last_success_timestamp_seconds", (("stage", "dream"),)): 1234,
        ("dreamloop_serving_adapter_info", (("adapter", "a1"),)): 1,
        ("dreamloop_serve_replicas", (("state", "attested"),)): 1,
        ("dreamloop_serve_replicas", (("state", "down"),)): 1,
        ("dreamloop_serve_replicas", (("state", "mismatch"),)): 0,
        ("dreamloop_serve_last_attestation_timestamp_seconds", (("replica", "http://a:1"),)): 1234,
        ("dreamloop_serve_distance_nats", (("replica", "http://a:1"),)): 0.004,
        ("dreamloop_serve_effect_ratio", (("replica", "http://a:1"),)): 0.998,
        ("dreamloop_serve_attestations_total", (("outcome", "attested"),)): 1,
        ("dreamloop_serve_restarts_total", (("replica", "http://a:1"),)): 0,
    }
    assert {key: found.get(key) for key in expected} == expected


def test_only_one_adapter_serves() -> None:
    """After a promotion the former adapter's info series is gone."""
    metrics = Metrics()
    metrics.serving(None, 1.0)
    metrics.serving("a2", 2.0)
    serving = [key for key in values(metrics) if key[0] == "dreamloop_serving_adapter_info"]
    assert serving == [("dreamloop_serving_adapter_info", (("adapter", "a2"),))]


def test_every_look_at_a_server_counts_what_is_new() -> None:
    """An attestation and a restart once each, however often they are seen; a server that is down for a while and comes
    back as another process was restarted once."""
    metrics = Metrics()
    for row in (
        replica(), replica(), replica(compared_at=1300.0), replica(state="down", compared_at=None, started=None),
        replica(state="mismatch", compared_at=1400.0, outcome="stale cache", started=9.0),
        replica(state="mismatch", compared_at=1400.0, outcome="stale cache", started=9.0),
    ):  # fmt: skip
        metrics.served([row])
    found = values(metrics)
    counted = {dict(k[1])["outcome"]: v for k, v in found.items() if k[0] == "dreamloop_serve_attestations_total"}
    assert counted == {"attested": 2, "stale cache": 1}
    assert found["dreamloop_serve_restarts_total", (("replica", "http://a:1"),)] == 1


def test_what_is_not_known_of_a_server_is_not_claimed() -> None:
    """Its distance and share go with what they were measured on; when it was last right stays, and grows old."""
    metrics = Metrics()
    metrics.served([replica()])
    metrics.served([replica(state="bad answers", compared_at=1500.0, outcome="not finite", apart=None, share=None)])
    found = {name: value for (name, labels), value in values(metrics).items() if ("replica", "http://a:1") in labels}
    assert not {"dreamloop_serve_distance_nats", "dreamloop_serve_effect_ratio"} & set(found)
    assert found["dreamloop_serve_last_attestation_timestamp_seconds"] == 1234


def test_every_state_of_a_server_is_counted() -> None:
    """The states that a replica can be in are those of the metric: none is lost from the sum."""
    from daemon import errors
    from daemon.models.vllm.server import Forgotten
    from daemon.serving import outcome

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ServeError)]
    states = {kind.state for kind in (*kinds, Forgotten)} | {*outcome.RIGHT, *outcome.PASSING, *outcome.WRONG}
    assert states == set(REPLICA_STATES)


def test_an_outcome_after_a_restart_finds_its_dream() -> None:
    """A dream that this process has not counted is looked up; one that nobody knows is labelled unknown."""
    metrics = Metrics(dream_of=lambda id: dream(id, "medium") if id == "old" else None)
    metrics.count([outcome(True, "old"), outcome(True, "lost")])
    bands = {dict(key[1])["band"] for key in values(metrics) if key[0] == "dreamloop_grade_outcomes_total"}
    assert bands == {"medium", "unknown"}


def test_a_large_graph_does_not_make_a_large_metric() -> None:
    """Beyond the limit nodes share one label, and nothing is lost from the sum."""
    metrics = Metrics()
    metrics.count(Surfacing(id="s", turn="t", node=f"n{n}", score=0.5, at=1.0) for n in range(5 * MAX_NODES))
    counted = {dict(k[1])["node"]: v for k, v in values(metrics).items() if k[0] == "dreamloop_listen_surfacings_total"}
    assert (len(counted), counted["other"], sum(counted.values())) == (MAX_NODES + 1, 4 * MAX_NODES, 5 * MAX_NODES)


def test_two_daemons_share_nothing() -> None:
    """The registry belongs to the object."""
    one, two = Metrics(), Metrics()
    one.count([turn()])
    assert ("dreamloop_listen_turns_total", (("adapter_kind", "base"),)) not in values(two)


def test_records_without_a_metric_are_passed_over() -> None:
    """Anything may be in a transaction."""
    Metrics().count([object(), RECIPE])


def test_names_follow_the_conventions(full: Metrics) -> None:
    """Prefix, station's word, help text, no _created twins; process metrics are there."""
    families = list(text_string_to_metric_families(full.text()))
    stations = ("listen", "dream", "grade", "learn", "judge", "guard", "job", "jobs", "cycle", "cycles", "stage",
                "serve", "serving", "paused")  # fmt: skip
    for family in families:
        assert family.documentation, family.name
        assert not family.name.endswith("_created")
        prefix, _, rest = family.name.partition("_")
        assert prefix == "process" or (prefix == "dreamloop" and rest.split("_")[0] in stations), family.name
    assert "process_resident_memory_bytes" in {family.name for family in families}


@pytest.fixture
def server(full: Metrics) -> Iterator[int]:
    """`full` on a free port."""
    running, port = full.serve("127.0.0.1", 0)
    yield port
    stop_serving(running)


def test_a_scrape_parses(server: int) -> None:
    """/metrics over HTTP is what the registry holds, and Prometheus's parser reads it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server}/metrics") as answer:
        text = answer.read().decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"dreamloop_listen_turns", "dreamloop_job_seconds", "dreamloop_serving_adapter_info"} <= names


def test_a_taken_port_names_the_key() -> None:
    """The error names daemon.metrics_port and the way out."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=r"daemon\.metrics_port.*or 0"):
            Metrics().serve("127.0.0.1", port)


def test_an_address_that_is_not_ours_names_the_key() -> None:
    """A host that cannot be bound names daemon.metrics_host."""
    with pytest.raises(ConfigError, match=r"daemon\.metrics_host"):
        Metrics().serve("192.0.2.1", 0)


def test_promtool_has_nothing_to_say(full: Metrics) -> None:
    """Prometheus's own linter accepts every metric."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("PROMTOOL IS NOT INSTALLED: the metrics were not linted (Debian: apt-get install prometheus)")
    ran = subprocess.run([promtool, "check", "metrics"], input=full.text(), capture_output=True, text=True)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")

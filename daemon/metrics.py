"""Prometheus metrics. Each name is dreamloop_ + the station's word + what is counted, in base units, bounded labels.

One `Metrics` object owns its registry (nothing global), so that tests and several daemons in a process never meet.
`count` takes the records as the loop stores them; the other methods are for what is not a record.
"""

from __future__ import annotations

import contextlib
import errno
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
    start_http_server,
)

from daemon.errors import ConfigError
from policies.records import (
    ATTESTATION,
    Adapter,
    Alarm,
    Difficulty,
    Dream,
    Example,
    Outcome,
    Quarantine,
    Signal,
    Surfacing,
    Turn,
    Verdict,
)

JOB_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 14400)
TENTHS = tuple(n / 10 for n in range(1, 11))
MAX_NODES = 100  # a graph has any number of nodes; a metric's label must not
MAX_DREAMS = 4096  # remembered so that an outcome finds its dream's behaviour and band
OTHER = "other"
REPLICA_STATES = (
    *("attested", "mismatch", "another model", "bad answers", "refuses", "unusable", "unpublished", "forgot", "full"),
    *("down", "starting", "asleep", "unknown"),
)


class Metrics:
    """Everything that dreamloop tells Prometheus.

    `dream_of` finds a dream by id when this process has not seen it (after a restart): the store's `get`.
    """

    def __init__(self, *, dream_of: Callable[[str], Dream | None] = lambda id: None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the _created twins double the series and say nothing that `since` does not
        self.registry = CollectorRegistry()
        self._dream_of = dream_of
        self._dreams: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._nodes: set[str] = set()
        ProcessCollector(registry=self.registry)
        self._listen()
        self._practise()
        self._learn_and_judge()
        self._guard()
        self._serve()
        self._machinery()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"dreamloop_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"dreamloop_{name}", text, labels, registry=self.registry)

    def _listen(self) -> None:
        self.turns = self._counter("listen_turns", "Turns read from the logs, by who answered", "adapter_kind")
        self.eligible = self._counter("listen_eligible_turns", "Turns that tell something of a behaviour", "behavior")
        self.failures = self._counter("listen_failures", "Eligible turns on which the behaviour failed", "behavior")
        self.surfacings = self._counter("listen_surfacings", "Memory nodes surfaced for turns", "node")
        self.quarantined = self._counter("listen_quarantined", "Things kept out of training")

    def _practise(self) -> None:
        self.written = self._counter("dream_written", "Dreams written", "behavior", "band")
        self.temperature = self._gauge("dream_temperature", "Sampling temperature of the last dreams")
        self.outcomes = self._counter("grade_outcomes", "Judged answers to dreams", "behavior", "band", "result")
        self.predicted = Histogram(
            "dreamloop_grade_predicted_failure", "Predicted P(fail) of dreams", buckets=TENTHS, registry=self.registry
        )

    def _learn_and_judge(self) -> None:
        self.examples = self._counter("learn_examples", "Training examples made, by origin", "origin")
        self.updates = self._counter("learn_updates", "Adapter updates trained")
        self.loss = self._gauge("learn_loss", "Mean loss of the last update's last pass, nats per target token")
        self.tokens = self._counter("learn_tokens", "Tokens trained on")
        self.verdicts = self._counter("judge_verdicts", "Decisions of the promotion gate", "decision")
        self.failure_ratio = self._gauge(
            "judge_failure_ratio", "Failure rate on probes, by behaviour and model", "behavior", "which"
        )

    def _guard(self) -> None:
        self.e_values = self._gauge("guard_e_value", "Evidence against the serving adapter", "channel", "behavior")
        self.threshold = self._gauge("guard_threshold", "The e-value at which the guard alarms")
        self.alarms = self._counter("guard_alarms", "Alarms", "channel")

    def _serve(self) -> None:
        self.replicas = self._gauge("serve_replicas", "Servers that answer, by how they stand", "state")
        self.attested = self._gauge(
            "serve_last_attestation_timestamp_seconds", "When a server was last seen to serve as trained", "replica"
        )
        self.apart = self._gauge(
            "serve_distance_nats", "Largest distance of a probe as served from what was trained, per token", "replica"
        )
        self.share = self._gauge("serve_effect_ratio", "Share of the adapter's effect that is served", "replica")
        self.attestations = self._counter(
            "serve_attestations", "Comparisons of what is served with what was trained", "outcome"
        )
        self.restarts = self._counter("serve_restarts", "Times a server was seen to be another process", "replica")
        self._compared: dict[str, float] = {}
        self._started: dict[str, float] = {}

    def _machinery(self) -> None:
        self.job_seconds = Histogram(
            "dreamloop_job_seconds", "How long jobs took", ["kind"], buckets=JOB_SECONDS, registry=self.registry
        )
        self.job_failures = self._counter("job_failures", "Jobs that failed", "kind")
        self.queued = self._gauge("jobs_queued", "Jobs waiting, by lane", "lane")
        self.cycle = self._gauge("cycle", "The current cycle's number")
        self.cycles = self._counter("cycles", "Cycles ended, by how", "state")
        self.stage_success = self._gauge(
            "stage_last_success_timestamp_seconds", "When each stage last ended well", "stage"
        )
        self.paused = self._gauge("paused", "1 while heavy work rests: an operator paused it, or the window is closed")
        self.serving_since = self._gauge("serving_since_timestamp_seconds", "When the serving adapter was taken")
        self._serving = Info("dreamloop_serving_adapter", "The adapter that answers", registry=self.registry)

    def count(self, records: Iterable[object]) -> None:
        """Count records that were just stored *for the first time*; kinds that have no metric are passed over."""
        for record in records:
            counted = self._COUNTED.get(type(record))
            if counted is not None:
                counted(self, record)

    def _turn(self, turn: Turn) -> None:
        self.turns.labels("adapter" if turn.adapter else "base").inc()

    def _signal(self, signal: Signal) -> None:
        self.eligible.labels(signal.behavior).inc()
        self.failures.labels(signal.behavior).inc(int(signal.failed))  # 0 makes the series exist, so that rates do

    def _surfacing(self, surfacing: Surfacing) -> None:
        if len(self._nodes) < MAX_NODES:
            self._nodes.add(surfacing.node)
        self.surfacings.labels(surfacing.node if surfacing.node in self._nodes else OTHER).inc()

    def _dream(self, dream: Dream) -> None:
        self._dreams[dream.id] = (dream.behavior, dream.band)
        if len(self._dreams) > MAX_DREAMS:
            self._dreams.popitem(last=False)
        self.written.labels(dream.behavior, dream.band).inc()
        self.temperature.set(dream.temperature)

    def _outcome(self, outcome: Outcome) -> None:
        known = self._dreams.get(outcome.dream)
        if known is None and (dream := self._dream_of(outcome.dream)) is not None:
            known = (dream.behavior, dream.band)
        result = "unreadable" if outcome.passed is None else "passed" if outcome.passed else "failed"
        self.outcomes.labels(*(known or ("unknown", "unknown")), result).inc()

    def _difficulty(self, difficulty: Difficulty) -> None:
        self.predicted.observe(difficulty.predicted)

    def _example(self, example: Example) -> None:
        self.examples.labels(example.origin).inc()

    def _adapter(self, adapter: Adapter) -> None:
        self.updates.inc()
        self.loss.set(adapter.loss)
        self.tokens.inc(adapter.tokens)

    def _verdict(self, verdict: Verdict) -> None:
        self.verdicts.labels(verdict.decision).inc()

    def _alarm(self, alarm: Alarm) -> None:
        self.alarms.labels(alarm.channel).inc()
        if alarm.channel == ATTESTATION:
            return  # a server's distance from the trainer is no e-value, and its tolerance no guard's threshold
        self.e_value(alarm.channel, alarm.behavior, alarm.e_value)
        self.threshold.set(alarm.threshold)

    def _quarantine(self, quarantine: Quarantine) -> None:
        self.quarantined.inc()

    _COUNTED: dict[type, Callable[..., None]] = {  # noqa: RUF012 -- a table, never written
        Turn: _turn,
        Signal: _signal,
        Surfacing: _surfacing,
        Quarantine: _quarantine,
        Dream: _dream,
        Difficulty: _difficulty,
        Outcome: _outcome,
        Example: _example,
        Adapter: _adapter,
        Verdict: _verdict,
        Alarm: _alarm,
    }

    def failure_rate(self, behavior: str, which: str, rate: float) -> None:
        """A measured failure rate on probes; `which` is "base", "serving" or "candidate"."""
        self.failure_ratio.labels(behavior, which).set(rate)

    def forget_rates(self, which: str) -> None:
        """Drop the failure rates of a model that is not what it was."""
        for labels in [row.labels for metric in self.failure_ratio.collect() for row in metric.samples]:
            if labels["which"] == which:
                self.failure_ratio.remove(labels["behavior"], which)

    def e_value(self, channel: str, behavior: str, value: float) -> None:
        """A guard channel's evidence now."""
        self.e_values.labels(channel, behavior).set(value)

    def served(self, replicas: Iterable[Mapping[str, Any]]) -> None:
        """How the servers stand: rows as `daemon.models.vllm.replica.Replica.told` gives them."""
        rows = list(replicas)
        for state in REPLICA_STATES:
            self.replicas.labels(state).set(sum(row["state"] == state for row in rows))
        for row in rows:
            url = row["url"]
            for gauge, value in ((self.apart, row["apart"]), (self.share, row["share"])):
                if value is None:
                    _drop(gauge, url)
                else:
                    gauge.labels(url).set(value)
            at, started = row["compared_at"], row["started"]
            if at is not None and row["state"] == "attested":
                self.attested.labels(url).set(at)
            if at is not None and self._compared.get(url) != at:
                self._compared[url] = at
                self.attestations.labels(row["outcome"]).inc()
            restarted = started is not None and self._started.setdefault(url, started) != started
            self.restarts.labels(url).inc(int(restarted))  # 0 makes the series exist, so that rates do
            if restarted:
                self._started[url] = started

    def job_done(self, kind: str, seconds: float) -> None:
        """A job finished."""
        self.job_seconds.labels(kind).observe(seconds)
        self.job_failures.labels(kind).inc(0)

    def job_failed(self, kind: str, seconds: float) -> None:
        """A job failed (cancelled ones are not failures)."""
        self.job_seconds.labels(kind).observe(seconds)
        self.job_failures.labels(kind).inc()

    def jobs_queued(self, lane: str, waiting: int) -> None:
        """How many jobs wait in a lane."""
        self.queued.labels(lane).set(waiting)

    def cycle_began(self, cycle: int) -> None:
        """A cycle began."""
        self.cycle.set(cycle)

    def cycle_ended(self, state: str) -> None:
        """A cycle ended: "done", "failed", "abandoned"."""
        self.cycles.labels(state).inc()

    def stage_ended(self, stage: str, at: float) -> None:
        """A stage ended well, at epoch seconds."""
        self.stage_success.labels(stage).set(at)

    def serving(self, adapter: str | None, at: float) -> None:
        """This adapter answers from now on; None is the base."""
        self._serving.info({"adapter": adapter or "base"})
        self.serving_since.set(at)

    def text(self) -> str:
        """The exposition text."""
        return generate_latest(self.registry).decode()

    def serve(self, host: str, port: int) -> tuple[WSGIServer, int]:
        """Serve /metrics in a thread; port 0 takes a free one. Returns the server and its port: see `stop_serving`.

        Raises ConfigError naming the key when the address cannot be had.
        """
        try:
            server, _ = start_http_server(port, host, registry=self.registry)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                remedy = "another program has it; choose another `daemon.metrics_port`, or 0 for any free one"
            else:
                remedy = f"{error.strerror or error}; check `daemon.metrics_host` and `daemon.metrics_port`"
            raise ConfigError(f"metrics cannot be served on {host}:{port}: {remedy}") from error
        return server, int(server.server_port)


def _drop(gauge: Gauge, *labels: str) -> None:
    """Take back what is not known any more."""
    with contextlib.suppress(KeyError):
        gauge.remove(*labels)


def stop_serving(server: WSGIServer) -> None:
    """End a server that `Metrics.serve` started."""
    server.shutdown()
    server.server_close()

"""Turns a question into a job, and what the job found into records. The jobs are `daemon.experiments`'.

An experiment's job carries everything it needs as plain data: which adapter serves, how the loop trains and answers,
and what the store knows that the question is about.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from daemon.errors import ConfigError
from daemon.events import ERRAND, Job, JobFinished, Stage
from daemon.experiments.base import QUESTIONS, names, servable
from daemon.models import vectors
from daemon.stations.base import NOTHING, Plan, View, folder_of
from daemon.stations.guard import FACT as GUARD
from daemon.stations.learn import recipe_of
from daemon.stations.material import general_file
from policies.records import (
    ATTESTATION,
    Adapter,
    Alarm,
    Batch,
    Difficulty,
    Dream,
    Example,
    Finding,
    Measurement,
    Outcome,
    Seed,
    Verdict,
)

T = TypeVar("T")
ROOT = "experiments"  # a folder of the state
ASKED_DREAMS, LIVE_DREAMS = 5_000, 600  # the newest ones that go along with a question, and with a session
ALARMS, ROWS = 200, 240  # a session has about twelve measurements, so this is some twenty sessions
SECTIONS = ("schedule", "dream", "grade", "learn", "judge", "guard", "serve")


class Asking:
    """The loop's companion: errands are questions; beside the judge's stage every update is measured a little."""

    def question(self, question: str, size: str, behavior: str | None, view: View, *, served: bool = False) -> Job:
        """The job that answers `question`; `served` asks the servers. Raises ConfigError for what cannot be asked."""
        if question not in QUESTIONS:
            raise ConfigError(f"{question!r} is no question; there are {', '.join(QUESTIONS)}")
        name = behavior or view.config.behaviors.train[0]
        if name not in view.behaviors:
            raise ConfigError(f"{name!r} is no configured behaviour; there are {', '.join(view.behaviors)}")
        if served and not servable(question):
            others = ", ".join(filter(servable, names()))
            raise ConfigError(f"{question} looks inside the trainer; of the servers one can ask {others}")
        if served and view.config.serve.backend == view.config.model.backend:
            raise ConfigError(f'`serve.backend` is "{view.config.serve.backend}": there is no server to ask')
        return Job.make(
            f"{names()[question]}.run",
            lane="train",
            cycle=ERRAND,
            key=uuid.uuid4().hex,
            size=size,
            served=served,
            **self._payload(view, name, _records(view, question, name)),
        )

    def beside(self, stage: Stage, view: View) -> Plan:
        """While a candidate is judged: what its training session changed, on a small fixed budget."""
        if stage != "judge" or not view.config.experiments.observe:
            return NOTHING
        states = view.store.adapter_states()
        made = [a for a in view.store.find(Adapter, cycle=view.cycle) if states.get(a.id) == "trained"]
        if not made:
            return NOTHING
        adapter = made[-1]
        name = view.config.behaviors.train[view.cycle % len(view.config.behaviors.train)]  # each in its turn
        history = view.store.find(
            Measurement, probe=list(QUESTIONS), split="live", behavior=name, descending=True, limit=ROWS
        )
        job = Job.make(
            "observe.session",
            lane="train",
            cycle=view.cycle,
            key=adapter.id,
            update={
                "before": folder_of(view, adapter.parent),
                "after": folder_of(view, adapter.id),
                "adapter": adapter.id,
                "examples": _batch_size(view, adapter),
                "cycle": view.cycle,
            },
            history=[asdict(row) for row in reversed(history)],
            **self._payload(view, name, _dreams(view, LIVE_DREAMS) | _guard(view) | _graph(view)),
        )
        return Plan(jobs=(job,))

    def absorb(self, done: JobFinished, view: View) -> Plan:
        """Findings, advice and measurements are kept, findings told."""
        records = done.result.records
        told: tuple[Mapping[str, Any], ...] = tuple(
            {"event": "finding", "question": r.question, "behavior": r.behavior, "size": r.size, "verdict": r.verdict,
             "sentence": r.sentence, "finding": r.id}
            for r in records if isinstance(r, Finding)
        )  # fmt: skip
        return Plan(records=records, happenings=told)

    def _payload(self, view: View, behavior: str, records: Mapping[str, Any]) -> dict[str, Any]:
        config = view.config
        recipe = recipe_of(config, config.daemon.seed)
        return {
            "behavior": behavior,
            "behaviors": list(view.behaviors),
            "trained": list(config.behaviors.train),
            "serving": view.serving,
            "serving_folder": folder_of(view, view.serving),
            "recipe": {name: getattr(recipe, name) for name in type(recipe).__slots__},
            "temperature": config.serve.temperature,
            "max_tokens": config.model.max_tokens,
            "seed": config.daemon.seed,
            "root": str(config.state / ROOT),
            "vectors": str(config.state / vectors.FOLDER),
            "general_examples": str(general_file(config, "examples")),
            "harness": str(config.resolve(config.experiments.harness)) if config.experiments.harness else None,
            "records": {
                **records,
                "config": {name: getattr(config, name).model_dump(mode="json") for name in SECTIONS},
                "nano": config.model.path == "nano",
            },
            "now": view.now,
        }


def _records(view: View, question: str, behavior: str) -> dict[str, Any]:
    """What the store knows that a question is about."""
    if question == "q2":
        return _dreams(view, ASKED_DREAMS) | _graph(view)
    if question == "q4":
        return _guard(view) | _graph(view)
    return {"examples": _examples(view, behavior)}


def _batch_size(view: View, adapter: Adapter) -> int:
    batch = view.store.get(Batch, adapter.batch)
    return len(batch.examples) if batch else 0


def _examples(view: View, behavior: str) -> list[dict[str, Any]]:
    """The behaviour's examples that the loop distilled, oldest first."""
    found = view.store.find(Example, behavior=behavior, origin=["turn", "dream"])
    return [
        {"prompt": [[m.role, m.content] for m in e.prompt], "target": e.target, "rejected": e.rejected,
         "behavior": e.behavior}
        for e in found
    ]  # fmt: skip


def _dreams(view: View, limit: int) -> dict[str, Any]:
    """The newest answered dreams with what was predicted of them, oldest first; 0 trials where no answer was read."""
    dreams = view.store.find(Dream, descending=True, limit=limit)[::-1]
    ids = [dream.id for dream in dreams]
    seeds = {seed.id: seed for seed in _found(view, Seed, "id", [dream.seed for dream in dreams])}
    predicted = {row.dream: row for row in _found(view, Difficulty, "dream", ids)}
    passed: dict[str, list[bool]] = {}
    answered_at: dict[str, float] = {}
    for outcome in _found(view, Outcome, "dream", ids):
        read = passed.setdefault(outcome.dream, [])
        if outcome.passed is not None:
            read.append(outcome.passed)
        answered_at[outcome.dream] = min(outcome.at, answered_at.get(outcome.dream, outcome.at))
    return {
        "dreams": [
            {
                "id": dream.id,
                "seed": dream.seed,
                "node": seeds[dream.seed].node if dream.seed in seeds else "",
                "memories": list(seeds[dream.seed].memories) if dream.seed in seeds else [],
                "behavior": dream.behavior,
                "kind": dream.kind,
                "band": dream.band,
                "text": dream.text,
                "temperature": dream.temperature,
                "cycle": dream.cycle,
                "predicted": predicted[dream.id].predicted,
                "predicted_at": predicted[dream.id].at,
                "answered_at": answered_at[dream.id],
                "classifier": predicted[dream.id].classifier,
                "failures": passed[dream.id].count(False),
                "trials": len(passed[dream.id]),
            }
            for dream in dreams
            if dream.id in passed and dream.id in predicted
        ]
    }


def _guard(view: View) -> dict[str, Any]:
    found = view.store.find(Alarm, descending=True, limit=ALARMS)[::-1]
    alarms = [alarm for alarm in found if alarm.channel != ATTESTATION]  # that one is about servers
    verdicts = view.store.find(Verdict, descending=True, limit=ALARMS)[::-1]
    kept = view.store.fact(GUARD) or {}
    return {
        "guard": {
            "arl": view.config.guard.arl,
            "channels": list(view.config.guard.channels),
            "watch": kept.get("watch"),
            "alarms": [asdict(alarm) for alarm in alarms],
        },
        "verdicts": [{"adapter": v.adapter, "decision": v.decision, "cycle": v.cycle, "at": v.at} for v in verdicts],
    }


def _graph(view: View) -> dict[str, Any]:
    graph = view.config.graph
    path = graph.path if graph.path == "bundled" else str(view.config.resolve(graph.path))
    return {
        "graph": {"path": path, "format": graph.format, "surfaced": graph.surfaced, "threshold": graph.threshold},
    }


def _found(view: View, record: type[T], field: str, values: Sequence[str]) -> list[T]:
    """The records with one of these values, as many as there may be."""
    where: dict[str, Any] = {field: values}
    return view.store.find(record, **where) if values else []

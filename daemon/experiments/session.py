"""What one training session of the loop changed: every question that attaches there looks on a small fixed budget.

Q1, Q3, Q6 and Q7 measure the adapter before and after; Q2 and Q4 look at what the loop has seen so far. A question that
cannot be looked at with this model or material is passed over with a word; none of them can break the cycle.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from daemon.errors import Cancelled, CannotAnswer, DreamloopError
from daemon.events import Result
from daemon.executors.base import Context
from daemon.experiments.base import Update, names, require
from daemon.experiments.bench import Bench, build, code_of
from daemon.models.base import folder
from policies.records import Finding, Measurement

log = logging.getLogger("dreamloop.experiments")


def session(payload: dict[str, Any], context: Context) -> Result:
    """Measurements of this session, and a live finding for every question whose history says something."""
    told = payload["update"]
    update = Update(
        before=folder(told["before"]),
        after=_whole(told["after"]),
        adapter=told["adapter"],
        examples=told["examples"],
        cycle=told["cycle"],
    )
    history = [_measurement(row) for row in payload["history"]]
    records: list[Any] = []
    passed_over: dict[str, str] = {}
    questions = names()
    try:
        for place, (question, name) in enumerate(questions.items()):
            tell = partial(context.checkpoint, place, len(questions), f"what the session changed: {question}")
            tell()
            bench = build(payload, context, code_of(f"daemon.experiments.{name}"))
            bench.checkpoint = lambda done, total, note, tell=tell: tell()  # type: ignore[misc] # too short for more
            try:
                records += _look(name, question, bench, update, history)
            except Cancelled:
                raise
            except DreamloopError as error:
                passed_over[question] = str(error)
                log.info("%s was not looked at: %s", question, error)
            except Exception as error:  # a bug in one question costs the others nothing
                passed_over[question] = f"{type(error).__name__}: {error}"
                log.exception("%s could not be looked at", question)
    finally:
        context.model.use(None)
    context.checkpoint(len(questions), len(questions), "looked at")
    return Result(records=tuple(records), notes={"passed_over": passed_over})


def _look(
    name: str, question: str, bench: Bench, update: Update, history: Sequence[Measurement]
) -> list[Measurement | Finding]:
    module: Any = importlib.import_module(f"daemon.experiments.{name}")
    measured: tuple[Measurement, ...] = ()
    if hasattr(module, "observe"):
        require(bench.model, module.NEEDS, question)
        measured = module.observe(bench, update)
    mine = [row for row in history if row.probe == question]
    finding = module.live(bench, [*mine, *measured]) if hasattr(module, "live") else None
    return [*measured, *([finding] if finding is not None else [])]


def _whole(path: str | None) -> Path:
    found = folder(path)
    if found is None or not found.exists():
        raise CannotAnswer(f"{path}: the session's adapter is gone, so nothing can be measured on it")
    return found


def _measurement(row: Mapping[str, Any]) -> Measurement:
    return Measurement(**{**row, "items": tuple(row["items"]), "values": tuple(row["values"])})


def _with_the_device(payload: dict[str, Any], context: Context) -> Result:
    """Servers that share the GPU sleep as long as the session is looked at."""
    with context.training():
        return session(payload, context)


RUNNERS = {"observe.session": _with_the_device}

"""Hand labels: JSON lines {"prompt", "answer", "passed"}, and how far a judge agrees with them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from daemon.errors import BehaviorError
from daemon.judges.agreement import Agreement, basis
from daemon.judges.base import Judge, ModelJudge, find, judge_all, load
from daemon.models.base import Checkpoint, Generator, ignore
from policies.behaviors import Behavior
from policies.records import KINDS, Kind
from policies.statistics.kappa import cohen_kappa

FEWEST = 20  # labels; kappa of fewer is mostly luck
EACH = 5  # of passed and of failed ones
TRIED = 20  # probes of a kind on whose two answers it is tried, at most


class Label(BaseModel):
    """A person's word on one answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str = Field(min_length=1)
    answer: str
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The labels of a file, and the sha256 of its bytes."""

    file: Path
    rows: tuple[Label, ...]
    sha256: str


def read_labels(file: Path) -> Labels:
    """Raises BehaviorError naming file and line."""
    try:
        content = file.read_bytes()
        lines = content.decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BehaviorError(f"{file}: the labels cannot be read: {error}") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(Label.model_validate(json.loads(line)))
        except (ValidationError, ValueError, RecursionError) as error:
            why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise BehaviorError(
                f'{file}:{number}: no label ({why}); a line is {{"prompt": "...", "answer": "...", "passed": true}}'
            ) from None
    return Labels(file=file, rows=tuple(rows), sha256=hashlib.sha256(content).hexdigest())


def measure(
    behavior: Behavior, labels: Labels, *, model: Generator | None = None, checkpoint: Checkpoint = ignore
) -> Agreement:
    """How far the behaviour's judge agrees with `labels`; a judge that asks a model asks the base of `model`.

    No word counts as "not passed". Raises BehaviorError when the labels are too few, are all alike, or hold answers
    that the judge was calibrated on.
    """
    judge = find(behavior.judge)
    asks = issubclass(judge, ModelJudge)
    if issubclass(judge, ModelJudge):
        if lacking := judge.lacks(behavior):
            raise BehaviorError(f"{behavior.name}: the judge {behavior.judge!r} cannot work: {lacking}")
        known = judge.knows(behavior)
        repeated = [row for row in labels.rows if (row.prompt, row.answer) in known]
        if repeated:
            raise BehaviorError(
                f"{labels.file}: {len(repeated)} labels are about answers in the behaviour's file, which the judge "
                f"{behavior.judge!r} is calibrated on; label other answers"
            )
    passed = sum(row.passed for row in labels.rows)
    if len(labels.rows) < FEWEST or min(passed, len(labels.rows) - passed) < EACH:
        raise BehaviorError(
            f"{labels.file}: {passed} passed and {len(labels.rows) - passed} failed answers; agreement takes at least "
            f"{FEWEST} labels, {EACH} of each; label more"
        )
    bound = load(behavior.judge, model=model, behaviors={behavior.name: behavior})
    judged = judge_all(bound, behavior.name, [(row.prompt, row.answer) for row in labels.rows], checkpoint)
    found = cohen_kappa([bool(judgement.passed) for judgement in judged], [row.passed for row in labels.rows])
    return Agreement(
        judge=behavior.judge,
        base=model.fingerprint() if asks and model is not None else "",
        basis=basis(behavior),
        kappa=found.value,
        low=found.low,
        high=found.high,
        n=len(judged),
        undecided=sum(judgement.passed is None for judgement in judged),
        labels=labels.sha256,
        blind=blind(behavior, bound, checkpoint),
    )


def blind(behavior: Behavior, judge: Judge, checkpoint: Checkpoint = ignore) -> tuple[Kind, ...]:
    """The kinds of scenario on which the judge has no word on more than half of the probes' own answers."""
    found: list[Kind] = []
    for kind in KINDS:
        rows = [probe for probe in behavior.probes if probe.kind == kind and probe.preferred and probe.rejected][:TRIED]
        asked = [(row.prompt, answer) for row in rows for answer in (row.preferred, row.rejected)]
        silent = sum(judgement.passed is None for judgement in judge_all(judge, behavior.name, asked, checkpoint))
        if 2 * silent > len(asked):
            found.append(kind)
    return tuple(found)

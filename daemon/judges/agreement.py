"""A model's word counts only as far as it agrees with people: measured with hand labels, kept beside the behaviour.

`NAME.agreement.json` holds what `behavior check --labels` found. It is about one judge, one base model and one text
that the judge reads; when any of these changes, it says nothing any more and the daemon asks for a new one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from daemon.errors import BehaviorError
from daemon.judges.base import ModelJudge, find
from policies.behaviors import Behavior


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Cohen's kappa of a judge with hand labels, with its 95 % interval.

    `base` is the base model's fingerprint ("" for exact rules), `basis` the sha256 of what the judge reads about the
    behaviour, `labels` the sha256 of the labels' file. `n` labels were judged; of these `undecided` got no word, which
    counts as not passed, as the gate counts it. `blind` names the kinds of scenario ("target", "counter") on which it
    has no word on most of the answers on file: every adapter would fail all of those alike, and look non-inferior.
    """

    judge: str
    base: str
    basis: str
    kappa: float
    low: float
    high: float
    n: int
    undecided: int
    labels: str
    blind: tuple[str, ...] = ()


def place(behavior_file: Path) -> Path:
    """Where a behaviour's agreement is kept."""
    return behavior_file.with_suffix(".agreement.json")


def basis(behavior: Behavior) -> str:
    """sha256 of what the behaviour's judge rests on; "" for exact rules. Raises BehaviorError without such a judge."""
    judge = find(behavior.judge)
    return hashlib.sha256(judge.basis(behavior).encode()).hexdigest() if issubclass(judge, ModelJudge) else ""


def write(behavior_file: Path, agreement: Agreement) -> Path:
    """Keep it beside the behaviour; returns the file. Raises BehaviorError when it cannot be written."""
    file = place(behavior_file)
    beside = file.with_name(file.name + ".new")
    try:
        beside.write_text(json.dumps(asdict(agreement), indent=2) + "\n", encoding="utf-8")
        beside.replace(file)
    except OSError as error:
        raise BehaviorError(f"{file}: the agreement cannot be written: {error.strerror}") from error
    return file


def read(behavior_file: Path) -> Agreement | None:
    """What was measured, or None. Raises BehaviorError when the file is no agreement."""
    file = place(behavior_file)
    try:
        raw: Any = json.loads(file.read_text(encoding="utf-8"))
        return Agreement(**{**raw, "blind": tuple(raw["blind"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BehaviorError(f"{file}: is no agreement ({error}); {_remedy(behavior_file)}") from None


def admit(behavior: Behavior, behavior_file: Path, *, floor: float, base: Callable[[], str]) -> None:
    """May this behaviour's judge gate? Exact rules may; a model only with an agreement that reaches `floor`.

    `base` gives the base model's fingerprint and is asked last: hashing a large model takes a while. Raises
    BehaviorError naming the file and the remedy.
    """
    judge = find(behavior.judge)
    if not issubclass(judge, ModelJudge):
        return
    if lacking := judge.lacks(behavior):
        raise BehaviorError(f"{behavior_file}: the judge {behavior.judge!r} cannot work: {lacking}")
    found = read(behavior_file)
    remedy = _remedy(behavior_file)
    may_not = f"{place(behavior_file)}: the judge {behavior.judge!r} may not gate"
    if found is None:
        raise BehaviorError(f"{may_not}: its agreement with hand labels was not measured; {remedy}")
    if found.judge != behavior.judge or found.basis != basis(behavior):
        raise BehaviorError(f"{may_not}: its agreement was measured before the behaviour was changed; {remedy}")
    if not found.kappa >= floor:  # also where it is not a number
        raise BehaviorError(
            f"{may_not}: its agreement with hand labels is kappa {found.kappa:.2f} [{found.low:.2f}, {found.high:.2f}] "
            f"on {found.n} labels, `judge.agreement_floor` is {floor:g}; mend the rubric, take another judge or model"
        )
    if found.blind:
        raise BehaviorError(
            f"{may_not}: it has no word on most answers to {' and '.join(found.blind)} scenarios, where all adapters "
            "would look alike; mend the guidance or the rubric, or take another judge"
        )
    if found.base != base():
        raise BehaviorError(f"{may_not}: its agreement was measured with another base model; {remedy}")


def _remedy(behavior_file: Path) -> str:
    return f"run `dreamctl behavior check {behavior_file} --labels LABELS.jsonl --config CONFIG`"

"""What an experiment is. One is a module `daemon/experiments/qN_name.py` with

    QUESTION = "qN"
    NEEDS = (Generator, Learner, Observer)            the capabilities its model must have
    ANSWERING = (Generator, Steerable)                if servers can be asked in its place: what they must be able to do
    run(bench, options) -> Finding                    measures, in cells that are kept, and answers
    advise(finding) -> tuple[Advice, ...]             pure: what the answer means for the configuration
    RUNNERS = {"qN_name.run": experiment(__name__)}   how the loop runs it: as an ordinary job

and, where it attaches to the loop's own training sessions,

    observe(bench, update) -> tuple[Measurement, ...]   a small fixed budget around one update
    live(bench, history) -> Finding | None              what the sessions so far add up to

`bench` is what it works with (`daemon.experiments.bench`); the verdict rules are pure functions in `policies/answers/`.
No torch is imported here: models return numbers.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from daemon.errors import CannotAnswer
from daemon.models.base import Diverges, Generator, Learner, Observer, Steerable
from policies.records import Advice, Finding, content_id

if TYPE_CHECKING:
    from daemon.experiments.bench import Bench

Asked = Literal["quick", "full"]
QUESTIONS: Mapping[str, str] = {
    "q1": "How few examples change a behaviour?",
    "q2": "Do dreams have the right difficulty?",
    "q3": "Which attention heads change?",
    "q4": "Does the memory graph notice a regression?",
    "q5": "Do steering vectors work for complex behaviours?",
    "q6": "Does behaviour training help or hurt general skill?",
    "q7": "Does Gated-DeltaNet state become direction-shaped?",
}
CAPABILITIES: Mapping[type, str] = {
    Generator: "generate and score text",
    Learner: "train adapters",
    Diverges: "compare an adapter with its base",
    Observer: "show its insides (attention, hidden and recurrent state, steering)",
    Steerable: "be steered",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked: how much to measure, about which behaviour, from which seed on."""

    size: Asked
    behavior: str
    seed: int = 0

    @property
    def full(self) -> bool:
        """The protocol's sizes; otherwise those that fit into minutes, and the finding says what they lack."""
        return self.size == "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One training session of the loop: the adapter it started from (None: the base) and the one it made."""

    before: Path | None
    after: Path
    adapter: str
    examples: int
    cycle: int


class Experiment(Protocol):
    """The shape of a module in this folder."""

    QUESTION: str
    NEEDS: tuple[type, ...]

    def run(self, bench: Bench, options: Options) -> Finding:
        """Measure and answer. Raises CannotAnswer when the material or the model does not allow it."""
        ...

    def advise(self, finding: Finding) -> tuple[Advice, ...]:
        """Pure: what the finding means for the configuration; nothing where it identifies nothing."""
        ...


def names() -> dict[str, str]:
    """Question -> module name of its experiment, as the folder has them; imports none of them.

    >>> names()["q1"]
    'q1_minimum_signal'
    """
    found = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    return {name.partition("_")[0]: name for name in sorted(found) if name.partition("_")[0] in QUESTIONS}


def load(question: str) -> Experiment:
    """The experiment that answers `question` ("q1" ... "q7")."""
    return cast(Experiment, importlib.import_module(f"daemon.experiments.{names()[question]}"))


def advice(finding: Finding, key: str, value: Any, evidence: str) -> Advice:
    """One piece of advice: the configuration's `key` should be `value` (anything JSON has), because of `evidence`."""
    return Advice(
        id=content_id("advice", finding.id, key),
        finding=finding.id,
        key=key,
        value=json.dumps(value),
        evidence=evidence,
        at=finding.at,
    )


def servable(question: str) -> bool:
    """Can it be asked of the servers? Its module says then what those must be able to do."""
    return hasattr(load(question), "ANSWERING")


def require(model: object, needs: Sequence[type], question: str) -> None:
    """Raises CannotAnswer when the model lacks a capability that the experiment needs, naming both."""
    for need in needs:
        if not isinstance(model, need):
            raise CannotAnswer(
                f"{question} needs a model that can {CAPABILITIES.get(need, need.__name__)}; {type(model).__name__} "
                'cannot. Ask it of a transformers model: `model.backend = "hf"`'
            )

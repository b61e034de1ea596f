"""The judge seam: reads a scenario and an answer, and says whether the behaviour was shown.

Some judges read by exact rules, some ask a model. A model judge is bound to the *base* of a model (`unadapted`), so it
is never the adapter whose answer it judges, and it scores many answers in one call.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from daemon import behaviors as behavior_files
from daemon.errors import BehaviorError
from daemon.judges.unadapted import Scores, Unadapted
from daemon.models.base import Checkpoint, Generator, ignore
from policies.behaviors import Behavior
from policies.records import Judgement

Asked = tuple[str, str]  # what the user wrote, and the answer to it


class Judge(Protocol):
    """Decides about one answer. Never the adapter whose answer it judges."""

    name: ClassVar[str]

    def judge(self, behavior: str, prompt: str, answer: str) -> Judgement:
        """`passed` is None when the scenario cannot be read: such an answer counts for nothing."""
        ...


@runtime_checkable
class Batched(Protocol):
    """A judge that does better with many answers at once."""

    def judge_all(self, behavior: str, pairs: Sequence[Asked], checkpoint: Checkpoint = ignore) -> list[Judgement]:
        """One judgement per (prompt, answer), in order."""
        ...


class ModelJudge(ABC):
    """A judge that reads likelihoods off a base model. `behaviors` are those it may be asked about, by name.

    It gates only once its agreement with hand labels was measured: see `daemon.judges.agreement`.
    """

    name: ClassVar[str]
    needs_model: ClassVar[bool] = True

    def __init__(self, model: Scores, behaviors: Mapping[str, Behavior]) -> None:
        self.model = model
        self.behaviors = behaviors

    @classmethod
    @abstractmethod
    def basis(cls, behavior: Behavior) -> str:
        """All that its word on this behaviour rests on besides the model; other text is another judge to agree with."""

    @classmethod
    def lacks(cls, behavior: Behavior) -> str:
        """What the behaviour's file must say for this judge and does not, with the remedy; "" when all is there."""
        return ""

    @classmethod
    def knows(cls, behavior: Behavior) -> frozenset[Asked]:
        """Answers that it was calibrated on: being right about them is no agreement."""
        return frozenset()

    @abstractmethod
    def judge_all(self, behavior: str, pairs: Sequence[Asked], checkpoint: Checkpoint = ignore) -> list[Judgement]:
        """One judgement per (prompt, answer), in order, from one scoring call where that can be."""

    def judge(self, behavior: str, prompt: str, answer: str) -> Judgement:
        """One answer; `judge_all` is the quicker way to several."""
        return self.judge_all(behavior, [(prompt, answer)])[0]


def find(name: str) -> type[Judge]:
    """The class of module `daemon.judges.<name>` that has this name. Raises BehaviorError when there is none."""
    try:
        module = importlib.import_module(f"daemon.judges.{name}")
    except ModuleNotFoundError:
        raise BehaviorError(f"there is no judge named {name!r}; a judge is a file in daemon/judges") from None
    for found in vars(module).values():
        if isinstance(found, type) and getattr(found, "name", None) == name:
            return found
    raise BehaviorError(f"{module.__file__}: has no class whose `name` is {name!r}")


def load(name: str, *, model: Generator | None = None, behaviors: Mapping[str, Behavior] | None = None) -> Judge:
    """The judge of that name. One that needs a model gets the base of `model` and the `behaviors` it will be asked of.

    Raises BehaviorError when there is no such judge, or when it needs what is not given.
    """
    found = find(name)
    if not issubclass(found, ModelJudge):
        return found()
    if model is None or behaviors is None:
        raise BehaviorError(f"the judge {name!r} asks a model, and none is given; exact rules need none")
    return found(Unadapted(model), behaviors)


def load_each(names: Mapping[str, str], model: Generator, files: Iterable[Path]) -> dict[str, Judge]:
    """The judge of each behaviour (behaviour -> judge's name). A behaviour's file is read where its judge needs it.

    Raises BehaviorError.
    """
    places = {file.stem: file for file in files}
    judges: dict[str, Judge] = {}
    for behavior, name in names.items():
        known = {behavior: behavior_files.read(places[behavior])} if issubclass(find(name), ModelJudge) else None
        judges[behavior] = load(name, model=model, behaviors=known)
    return judges


def judge_all(
    judge: Judge | Batched, behavior: str, pairs: Sequence[Asked], checkpoint: Checkpoint = ignore
) -> list[Judgement]:
    """One judgement per (prompt, answer), in order: all at once where the judge can, else one after the other."""
    if isinstance(judge, Batched):
        return judge.judge_all(behavior, pairs, checkpoint) if pairs else []
    return [judge.judge(behavior, prompt, answer) for prompt, answer in pairs]


def judge_mixed(
    judges: Mapping[str, Judge], rows: Sequence[tuple[str, str, str]], checkpoint: Checkpoint = ignore
) -> list[Judgement]:
    """One judgement per (behaviour, prompt, answer), in order; each behaviour's judge gets its rows together."""
    found: dict[int, Judgement] = {}
    for name in dict.fromkeys(behavior for behavior, *_ in rows):
        places = [place for place, row in enumerate(rows) if row[0] == name]
        judged = judge_all(judges[name], name, [rows[place][1:] for place in places], checkpoint)
        found.update(zip(places, judged, strict=True))
    return [found[place] for place in range(len(rows))]

"""The judge seam: reads a scenario and an answer, and says whether the behaviour was shown."""

from __future__ import annotations

import importlib
from typing import ClassVar, Protocol

from daemon.errors import BehaviorError
from policies.records import Judgement


class Judge(Protocol):
    """Decides about one answer. Never the adapter whose answer it judges."""

    name: ClassVar[str]

    def judge(self, behavior: str, prompt: str, answer: str) -> Judgement:
        """`passed` is None when the scenario cannot be read: such an answer counts for nothing."""
        ...


def load(name: str) -> Judge:
    """The judge of module `daemon.judges.<name>`. Raises BehaviorError when there is none."""
    try:
        module = importlib.import_module(f"daemon.judges.{name}")
    except ModuleNotFoundError:
        raise BehaviorError(f"there is no judge named {name!r}; a judge is a file in daemon/judges") from None
    for found in vars(module).values():
        if isinstance(found, type) and getattr(found, "name", None) == name:
            judge: Judge = found()
            return judge
    raise BehaviorError(f"{module.__file__}: has no class whose `name` is {name!r}")

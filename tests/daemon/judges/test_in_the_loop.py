"""A behaviour of one's own with `judge = "rubric"` goes through every station that judges answers."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daemon.executors.base import WorkerSpec
from daemon.executors.runners import runner
from daemon.models.base import Checkpoint, Conversation, Sampling, ignore
from daemon.models.fake import FakeModel
from policies.records import Example, Quarantine
from tests.daemon.judges.parts import RIGHT, WRONG, Reader, write


class Careless(FakeModel):
    """Answers wrongly unless guided, and reads rubrics as the scripted reader does, with its bias."""

    def __init__(self) -> None:
        super().__init__({})
        self.reader = Reader(odds=1.0, bias=5.0)

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, checkpoint: Checkpoint = ignore
    ) -> list[str]:
        """Right where guidance stands in the context, and about drafts."""
        return [RIGHT if p[0].role == "system" or "draft" in p[-1].content else WRONG for p in prompts]

    def logprobs(self, pairs: Sequence[tuple[Conversation, str]], checkpoint: Checkpoint = ignore) -> list[list[float]]:
        """See Reader."""
        checkpoint(0, len(pairs))
        return self.reader.logprobs(pairs)


@dataclass
class Context:
    """A runner's context."""

    spec: WorkerSpec
    model: Any = field(default_factory=Careless)
    notes: list[str] = field(default_factory=list)

    @property
    def served(self) -> Any:
        """The worker's own model answers."""
        return self.model

    def training(self) -> Any:
        """No server shares its device."""
        return contextlib.nullcontext()

    def checkpoint(self, done: int, total: int, note: str = "") -> None:
        """Kept for the test."""
        self.notes.append(note)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """With the behaviour's file among the worker's."""
    return Context(WorkerSpec(backend="fake", behaviors=(write(tmp_path),)))


COMMON: dict[str, Any] = {"temperature": 1.0, "max_tokens": 8, "seed": 0, "adapter": None, "adapter_folder": None,
                          "now": 0.0, "cycle": 1, "steering": [], "judges": {"asks_first": "rubric"}}  # fmt: skip


def test_dreams_are_judged_by_the_rubric(context: Context) -> None:
    """Each answer has its verdict with the reason, and judging can be paused and cancelled."""
    dreams = [
        {"id": f"d{i}", "behavior": "asks_first", "text": f"delete the {w}."} for i, w in enumerate(["draft", "log"])
    ]
    done = runner("grade.answer")({**COMMON, "dreams": dreams, "answers": 2}, context)
    assert [(o.dream, o.passed, o.judge) for o in done.records] == [
        ("d0", True, "rubric"), ("d0", True, "rubric"), ("d1", False, "rubric"), ("d1", False, "rubric"),
    ]  # fmt: skip
    assert done.records[0].reason.startswith("P(yes) = 0.73")
    assert "judging the answers" in context.notes


def test_failures_become_examples_that_the_rubric_accepts(context: Context) -> None:
    """Guided answers pass, unguided ones would not have."""
    item = {"source": "d1", "origin": "dream", "behavior": "asks_first", "prompt": [["user", "delete the log."]],
            "rejected": WRONG}  # fmt: skip
    payload = {**COMMON, "items": [item], "guidance": {"asks_first": "ask first."}, "answers": 2}
    (example,) = runner("learn.distil")(payload, context).records
    assert isinstance(example, Example) and example.target == RIGHT and len(example.prompt) == 1
    context.model.reader.odds = -1.0
    (given_up,) = runner("learn.distil")(payload, context).records
    assert isinstance(given_up, Quarantine) and given_up.reason == "no guided answer passed"


def test_probes_are_judged_by_the_rubric(context: Context) -> None:
    """By the gate's measurement and by the guard's."""
    measure = {**COMMON, "split": "rotating", "look": 1, "who": [[None, None]], "behaviors": ["asks_first"],
               "parts": None, "limit": 10, "canaries": 0, "samples": 2}  # fmt: skip
    (found,) = runner("judge.measure")(measure, context).records
    assert found.items == ("p1", "p2") and found.values == (1.0, 0.0)
    probed = runner("guard.probe")({**COMMON, "chosen": {"asks_first": ["p2"]}}, context)
    assert probed.notes["failed"] == {"asks_first": [1.0]}

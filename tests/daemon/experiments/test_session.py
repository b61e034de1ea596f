"""A session: every question that attaches to the loop looks at one update, and none of them costs another anything."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from daemon.errors import Cancelled, CannotAnswer
from daemon.experiments import session
from daemon.experiments.base import Update
from daemon.experiments.bench import Bench
from daemon.models.base import Generator, Observer
from daemon.models.fake import FakeModel
from daemon.probes import behavior
from policies.records import Measurement
from policies.statistics.bootstrap import mean_interval
from tests.daemon.experiments.test_bench import Context, payload

Look = Callable[[Bench, Update], tuple[Measurement, ...]]


def seen(bench: Bench, update: Update) -> tuple[Measurement, ...]:
    bench.model.use(update.after)
    return (
        behavior.record(
            probe="q1", adapter=update.adapter, behavior="listening", kind="rate", split="live", cycle=1, at=1.0,
            items=["a", "b"], values=[0.0, 1.0], found=mean_interval([0.0, 1.0], np.random.default_rng(0)),
        ),
    )  # fmt: skip


def raises(error: Exception) -> Look:
    def look(bench: Bench, update: Update) -> tuple[Measurement, ...]:
        bench.model.use(update.after)
        raise error

    return look


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A session of questions that look as told: `look(q1=..., q2=(what it needs, how it looks))`."""

    def do(**questions: Any) -> tuple[Any, FakeModel]:
        for question, told in questions.items():
            needs, observe = told if isinstance(told, tuple) else ((Generator,), told)
            module = ModuleType(question)
            module.__file__ = str(tmp_path / f"{question}.py")
            Path(module.__file__).write_text("# an experiment\n")
            module.NEEDS, module.observe = needs, observe  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, f"daemon.experiments.{question}_planted", module)
        monkeypatch.setattr(session, "names", lambda: {question: f"{question}_planted" for question in questions})
        model = FakeModel({"listening": 0.5})
        after = tmp_path / "after"
        after.mkdir(exist_ok=True)
        told = {"before": None, "after": str(after), "adapter": "new", "examples": 3, "cycle": 1}
        monkeypatch.setattr(model, "use", lambda folder: setattr(model, "using", folder))
        work = {**payload(tmp_path), "update": told, "history": []}
        try:
            return session.session(work, Context(model)), model
        finally:
            assert model.using is None  # the next job finds the base in use, however this one ended

    return do


@pytest.mark.parametrize("error", [CannotAnswer("no probes"), ValueError("a bug")])
def test_what_one_question_cannot_see_costs_the_others_nothing(look: Any, error: Exception) -> None:
    """Refusal or bug, it is passed over with a word; what the others measured is kept."""
    result, _ = look(q1=raises(error), q2=seen)
    assert [record.probe for record in result.records] == ["q1"]
    assert list(result.notes["passed_over"]) == ["q1"] and str(error) in result.notes["passed_over"]["q1"]


def test_a_model_that_cannot_show_it_is_passed_over_by_name(look: Any) -> None:
    """A backend without what a question needs is named; the question is not even tried."""
    result, _ = look(q3=((Generator, Observer), raises(AssertionError("it was tried"))), q1=seen)
    assert len(result.records) == 1
    assert "FakeModel cannot" in result.notes["passed_over"]["q3"]


def test_a_cancelled_session_ends_at_once(look: Any) -> None:
    """Cancelling is no mishap of a question."""
    with pytest.raises(Cancelled):
        look(q1=raises(Cancelled("it was cancelled")), q2=seen)

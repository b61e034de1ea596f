"""The bench: progress, adapters of its own, and the job around an experiment."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from daemon import behaviors
from daemon.errors import Cancelled, CannotAnswer
from daemon.executors.base import WorkerSpec
from daemon.experiments.base import Options, advice, load, names
from daemon.experiments.bench import Bench, build, experiment
from daemon.models.base import Generator, Learner, Observer, TrainingExample
from daemon.models.fake import FakeModel
from policies.answers.base import Answer
from policies.records import Advice, ChatMessage, Finding
from tests.daemon.experiments.conftest import RECIPE

EXAMPLES = [TrainingExample(prompt=(ChatMessage(role="user", content="listening please"),), target="good: ok")] * 4


def answer(**changes: Any) -> Answer:
    told: dict[str, Any] = {
        "verdict": "works", "sentence": "It works.", "estimate": 0.5, "low": 0.25, "high": float("inf"), "n": 3,
        "unit": "share", "seeds": [1, 2], "null": {"name": "chance", "value": 0.0}, "rule": "above 0",
        "would_change": "more data",
    }  # fmt: skip
    return Answer(**(told | changes))


def test_progress_never_goes_back(make_bench: Callable[..., Bench]) -> None:
    """Cells and the calls inside them are told as one count that only grows and ends at its total."""
    told: list[tuple[int, int]] = []
    bench = make_bench(
        model=FakeModel({"listening": 0.5}), checkpoint=lambda done, total, note: told.append((done, total))
    )
    bench.expect(2)
    for name in ("a", "b"):

        def work() -> int:
            for at in (1, 0, 3):  # a second call inside a cell starts from its beginning
                bench.tick("measuring")(at, 4)
            return 1

        bench.cell(name, name, work)
    counts = [done for done, _ in told]
    assert counts == sorted(counts)
    assert told[-1] == (200, 200)


def test_cancelling_inside_a_cell_keeps_the_cells_before(make_bench: Callable[..., Bench]) -> None:
    """A cancelled run has its finished cells on disk; the next one reuses them and computes the rest."""
    cancelled = False

    def checkpoint(done: int, total: int, note: str) -> None:
        if cancelled:
            raise Cancelled("it was cancelled")

    bench = make_bench(model=FakeModel({"listening": 0.5}), checkpoint=checkpoint)
    assert bench.cell("first", 1, lambda: "kept") == "kept"
    cancelled = True
    with pytest.raises(Cancelled):
        bench.cell("second", 2, lambda: bench.tick()(1, 2))
    cancelled = False
    assert bench.cell("first", 1, lambda: "computed again") == "kept"
    assert bench.cell("second", 2, lambda: "now") == "now"


@pytest.mark.parametrize("bad", [[{"margin": float("nan")}], (1.0, float("inf")), np.float32("nan")])
def test_a_cell_of_nan_is_refused_and_not_kept(make_bench: Callable[..., Bench], bad: object) -> None:
    """The cell and the cause are named; once the model is mended the cell is computed as if never tried."""
    bench = make_bench(model=FakeModel({"listening": 0.5}))
    with pytest.raises(CannotAnswer, match='"5 examples": the model returned NaN'):
        bench.cell("5 examples", 1, lambda: bad)
    assert bench.cell("5 examples", 1, lambda: [0.5]) == [0.5]


def test_an_adapter_is_trained_once(make_bench: Callable[..., Bench]) -> None:
    """The same examples and recipe give the same folder without training again; others another folder."""
    model = FakeModel({"listening": 0.5})
    bench = make_bench(model=model)
    first = bench.adapter(EXAMPLES, RECIPE)
    written = (first / "card.json").stat().st_mtime_ns
    assert bench.adapter(EXAMPLES, RECIPE) == first
    assert (first / "card.json").stat().st_mtime_ns == written
    assert bench.adapter(EXAMPLES[:1], RECIPE) != first


def test_an_adapter_of_nothing_is_refused(make_bench: Callable[..., Bench]) -> None:
    """Dose 0 is the parent itself; asking to train it is a mistake."""
    with pytest.raises(ValueError, match="its parent"):
        make_bench(model=FakeModel({"listening": 0.5})).adapter([], RECIPE)


def test_a_finding_holds_what_every_finding_must(make_bench: Callable[..., Bench]) -> None:
    """Model, seeds, null, rule and code version are in it, and nothing that JSON cannot say."""
    finding = make_bench(model=FakeModel({"listening": 0.5})).finding("q5", "quick", answer())
    assert {"model", "seeds", "null", "rule", "code", "unit", "would_change", "controls"} <= set(finding.evidence)
    assert (finding.behavior, finding.size, finding.verdict) == ("listening", "quick", "works")
    shown = answer(numbers={"x": float("nan"), "y": (1, 2)}).evidence()
    assert shown["numbers"] == {"x": None, "y": [1, 2]}


class Context:
    """A job's context on a model."""

    def __init__(self, model: Any, general: Path | None = None) -> None:
        self.model = model
        files = tuple(behaviors.BUNDLED / f"{name}.toml" for name in ("listening", "not_rushing", "push_back"))
        self.spec = WorkerSpec(backend="fake", behaviors=files, general=general)

    @property
    def served(self) -> Any:
        """The worker's own model answers."""
        return self.model

    def training(self) -> Any:
        """No server shares its device."""
        return contextlib.nullcontext()

    def checkpoint(self, done: int, total: int, note: str = "") -> None:
        pass


def payload(tmp_path: Path) -> dict[str, Any]:
    recipe = {name: getattr(RECIPE, name) for name in type(RECIPE).__slots__}
    return {
        "behavior": "listening", "behaviors": ["listening", "not_rushing", "push_back"], "trained": ["listening"],
        "serving": None, "serving_folder": None, "recipe": recipe, "temperature": 1.0, "max_tokens": 16, "seed": 0,
        "root": str(tmp_path), "vectors": str(tmp_path / "steering"), "records": {}, "now": 5.0, "size": "quick",
        "general_examples": str(tmp_path / "none.jsonl"),
    }  # fmt: skip


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """An experiment in a module of its own."""
    module = ModuleType("tiny_experiment")
    module.__file__ = str(tmp_path / "tiny_experiment.py")
    Path(module.__file__).write_text("# an experiment\n")

    def run(bench: Bench, options: Options) -> Finding:
        into = bench.adapter(EXAMPLES, RECIPE)
        bench.model.use(into)
        return bench.finding("q5", options.size, answer(numbers={"folder": str(into)}))

    def advise(finding: Finding) -> tuple[Advice, ...]:
        return (advice(finding, "guard.channels", ["probe"], "because"),)

    for name, value in {"QUESTION": "q5", "NEEDS": (Generator, Learner), "run": run, "advise": advise}.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "tiny_experiment", module)
    return module


def test_a_job_answers_advises_and_cleans_up(tiny: ModuleType, tmp_path: Path) -> None:
    """The job returns the finding and its advice, names the finding, drops its adapters and leaves the base in use."""
    model = FakeModel({"listening": 0.5})
    result = experiment("tiny_experiment")(payload(tmp_path), Context(model))
    finding, advised = result.records
    assert result.notes == {"finding": finding.id}
    assert (advised.finding, advised.key, advised.value) == (finding.id, "guard.channels", '["probe"]')
    assert not Path(finding.evidence["numbers"]["folder"]).exists()
    assert model.using is None


def test_a_behaviour_that_is_gone_is_named(tmp_path: Path) -> None:
    """Asked, then restarted with another configuration: the job says what is missing and what to do."""
    asked = {**payload(tmp_path), "behaviors": ["listening", "patience"]}
    with pytest.raises(CannotAnswer, match=r"patience; ask again"):
        build(asked, Context(FakeModel({"listening": 0.5})), "test")


def test_cells_know_what_the_judge_goes_by(tmp_path: Path) -> None:
    """An edited rubric asks another question: no answer from before is taken for its own. Bundled ones have none."""
    work, context = payload(tmp_path), Context(FakeModel({"listening": 0.5}))
    source = behaviors.BUNDLED / "listening.toml"
    scopes = []
    for rubric in ("", "A good answer asks first.", "A good answer acts at once."):
        folder = tmp_path / f"behaviors {len(rubric)}"
        folder.mkdir()
        for file in behaviors.BUNDLED.glob("*.*"):
            (folder / file.name).write_bytes(file.read_bytes())
        line = f'judge = "nano_world"\nrubric = "{rubric}"' if rubric else 'judge = "nano_world"'
        text = source.read_text(encoding="utf-8").replace('judge = "nano_world"', line)
        (folder / source.name).write_text(text, encoding="utf-8")
        files = tuple(folder / f"{name}.toml" for name in work["behaviors"])
        context.spec = replace(context.spec, behaviors=files)
        scopes.append(build(work, context, "test").cells.scope)
    assert len(set(scopes)) == 3


def test_a_model_that_cannot_is_refused_by_name(tiny: ModuleType, tmp_path: Path) -> None:
    """An experiment that must look inside says which capability the backend lacks, before anything is measured."""
    tiny.NEEDS = (Generator, Observer)  # type: ignore[attr-defined]
    with pytest.raises(CannotAnswer, match=r"q5 needs a model that can show its insides .*; FakeModel cannot"):
        experiment("tiny_experiment")(payload(tmp_path), Context(FakeModel({"listening": 0.5})))


@pytest.mark.parametrize("question", sorted(names()))
def test_every_experiment_is_whole(question: str) -> None:
    """Each file of the folder says what it answers and needs, measures, advises and has a runner of its own name."""
    module: Any = load(question)
    assert question == module.QUESTION
    assert all(isinstance(need, type) for need in module.NEEDS)
    assert callable(module.run) and callable(module.advise)
    assert list(module.RUNNERS) == [f"{names()[question]}.run"]
    assert module.__doc__ and len(module.__doc__) > 60


def test_there_is_an_experiment_for_every_question() -> None:
    """Seven questions, seven files."""
    assert list(names()) == ["q1", "q2", "q3", "q4", "q5", "q6", "q7"]

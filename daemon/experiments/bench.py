"""The bench an experiment works on: the model, the behaviour, material, cells that are kept, adapters of its own."""

from __future__ import annotations

import contextlib
import importlib
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from daemon import behaviors as behavior_files
from daemon.errors import CannotAnswer
from daemon.events import Result
from daemon.executors.base import Context, Runner
from daemon.experiments.base import Experiment, Options, names, require
from daemon.experiments.cells import Cells
from daemon.judges.base import Judge
from daemon.judges.base import load as load_judge
from daemon.models.base import Checkpoint, Generator, Model, Sampling, TrainingExample, folder
from daemon.probes import general
from policies.answers.base import Answer
from policies.behaviors import Behavior
from policies.records import Finding, Recipe, Size, content_id

VERSION = "0.1.0"
MEASURES = ("experiments", "probes", "models", "judges")  # rooms of the daemon whose code decides what is measured


@dataclass(slots=True, kw_only=True)
class Bench:
    """What an experiment may use. The adapters it trains are its own: the serving one is never touched.

    `model` learns and shows its insides; `answering` answers and scores: the same one, or the servers where that was
    asked for. `behavior` is the one asked about, `behaviors` are all of them, `trained` those under training; `serving`
    is the serving adapter (None is the base), `recipe` how the loop trains, `sampling` how it answers, `tasks` are
    general skill's rotating probes, `records` what the store knows (see `daemon.asking`: plain data), `vectors` the
    folder where steering vectors are kept, one file a behaviour, `general_examples` the file of general skill to train
    on, `harness` a folder of task files for lm-evaluation-harness.
    """

    model: Model
    answering: Generator
    behavior: Behavior
    behaviors: Mapping[str, Behavior]
    trained: tuple[str, ...]
    tasks: tuple[general.Task, ...]
    serving: str | None
    serving_folder: Path | None
    recipe: Recipe
    sampling: Sampling
    records: Mapping[str, Any]
    scratch: Path
    vectors: Path
    now: float
    code: str
    cells: Cells
    general_examples: Path | None = None
    harness: Path | None = None
    checkpoint: Callable[[int, int, str], None] = lambda done, total, note: None
    began: float = field(default_factory=time.monotonic)
    _done: int = 0
    _total: int = 1
    _reached: int = 0

    # --- progress: in cells, and parts of a cell in hundredths

    def expect(self, cells: int) -> None:
        """How many cells there will be: progress is told against it."""
        self._total = max(1, cells)

    def tick(self, note: str = "") -> Checkpoint:
        """The checkpoint for a model's call inside a cell; raises Cancelled, waits while the loop is paused."""

        def checkpoint(done: int, total: int) -> None:
            here = 100 * self._done + min(99, 100 * done // max(1, total))
            self._reached = max(self._reached, min(here, 100 * self._total))
            self.checkpoint(self._reached, 100 * self._total, note)

        return checkpoint

    def cell(self, name: str, key: object, compute: Callable[[], Any]) -> Any:
        """The JSON value of one cell: kept on disk, so that an interrupted run goes on where it stopped.

        `key` is everything that the value depends on beside the base model, the behaviour, the recipe, the sampling and
        the experiment's code, which are known here. Raises CannotAnswer, and keeps nothing, when a number in it is not
        finite.
        """
        self.tick(name)(0, 1)
        found = self.cells.get(name, key, lambda: _usable(name, compute()))
        self._done += 1
        self.tick(name)(0, 1)
        return found

    # --- training and judging

    def adapter(self, examples: Sequence[TrainingExample], recipe: Recipe, *, parent: Path | None = None) -> Path:
        """The folder of an adapter trained on `examples`, from `parent` or the base; found again after an interruption.

        Raises ValueError without examples: that would be the parent itself.
        """
        if not examples:
            raise ValueError("an adapter of no examples is its parent")
        texts = [[[[m.role, m.content] for m in e.prompt], e.target] for e in examples]
        name = content_id("shadow", self.model.fingerprint(), str(parent), texts, plain(recipe))
        into = self.scratch / name
        if not (into / "card.json").exists():
            card: dict[str, object] = {"adapter": name, "parent": None, "batch": "an experiment's", "cycle": 0}
            self.model.train(
                examples, recipe, parent=parent, into=into, card=card, checkpoint=self.tick("training an adapter")
            )
        return into

    def judge(self, behavior: str | None = None) -> Judge:
        """The judge of a behaviour (by default the one asked about)."""
        asked = self.behaviors[behavior] if behavior else self.behavior
        return load_judge(asked.judge, model=self.model, behaviors=self.behaviors)

    # --- the end

    @property
    def seconds(self) -> float:
        """Seconds since this run began; cells that were kept cost nothing again (`cells.reused` counts them)."""
        return time.monotonic() - self.began

    def finding(self, question: str, size: Size, answer: Answer) -> Finding:
        """An answer as a record, with all that a finding has to store."""
        evidence = answer.evidence() | {
            "model": self.model.fingerprint(),
            "code": self.code,
            "cells": {"computed": self.cells.computed, "reused": self.cells.reused},
        }
        return Finding(
            id=content_id("finding", question, self.behavior.name, size, self.serving, self.now),
            question=question,
            behavior=self.behavior.name,
            adapter=self.serving,
            size=size,
            verdict=answer.verdict,
            sentence=answer.sentence,
            estimate=answer.estimate,
            low=answer.low,
            high=answer.high,
            n=answer.n,
            seconds=round(self.seconds, 1),
            evidence=evidence,
            at=self.now,
        )


def build(payload: Mapping[str, Any], context: Context, code: str) -> Bench:
    """The bench of a job; `daemon.asking` makes its payload."""
    files = {file.stem: file for file in context.spec.behaviors}
    if gone := sorted(set(payload["behaviors"]) - set(files)):
        raise CannotAnswer(
            f"asked when `[behaviors]` still named {', '.join(gone)}; ask again, or put back what was taken out"
        )
    behaviors = {name: behavior_files.read(files[name]) for name in payload["behaviors"]}
    behavior = behaviors[payload["behavior"]]
    root = Path(payload["root"])
    recipe = Recipe(**{**payload["recipe"], "targets": tuple(payload["recipe"]["targets"])})
    sampling = Sampling(temperature=payload["temperature"], max_tokens=payload["max_tokens"], seed=payload["seed"])
    material: list[Any] = [behavior.guidance, behavior.judge, repr(behavior.probes), repr(behavior.pairs)]
    if behavior.rubric or behavior.threshold is not None:  # only some judges go by them
        material += [behavior.rubric, behavior.threshold]
    served = bool(payload.get("served"))
    scope = (
        *(context.model.fingerprint(), code, material, plain(recipe), sampling.temperature, sampling.max_tokens),
        *(["served"] if served else []),
    )
    return Bench(
        model=context.model,
        answering=context.served if served else context.model,
        behavior=behavior,
        behaviors=behaviors,
        trained=tuple(payload["trained"]),
        tasks=tuple(general.load(context.spec.general, "rotating")) if context.spec.general else (),
        serving=payload["serving"],
        serving_folder=folder(payload["serving_folder"]),
        recipe=recipe,
        sampling=sampling,
        records=payload["records"],
        scratch=root / "adapters",
        vectors=Path(payload["vectors"]),
        now=payload["now"],
        code=code,
        cells=Cells(root / "cells", *scope),
        general_examples=folder(payload.get("general_examples")),
        harness=folder(payload.get("harness")),
        checkpoint=context.checkpoint,
    )


def experiment(module: str) -> Runner:
    """The runner of an experiment's job: measures, answers, advises. The model goes back to the base.

    The adapters it trained are dropped once it has answered; a run that was interrupted finds them again.
    """

    def run(payload: dict[str, Any], context: Context) -> Result:
        found = cast(Experiment, importlib.import_module(module))
        require(context.model, found.NEEDS, found.QUESTION)
        bench = build(payload, context, code_of(module))
        require(bench.answering, getattr(found, "ANSWERING", (Generator,)), found.QUESTION)
        asked = Options(size=payload["size"], behavior=bench.behavior.name, seed=payload["seed"])
        try:
            # what is asked of servers needs them awake; then the trainer does its part beside them
            with contextlib.nullcontext() if payload.get("served") else context.training():
                finding = found.run(bench, asked)
        finally:
            context.model.use(None)
        shutil.rmtree(bench.scratch, ignore_errors=True)
        return Result(records=(finding, *found.advise(finding)), notes={"finding": finding.id})

    return run


@cache
def code_of(module: str) -> str:
    """Version and a hash of all source that measures: a cell that other code computed is not taken for its own.

    That is the experiment's own module and the rooms it stands on; the other experiments do not count.
    """
    own = Path(str(importlib.import_module(module).__file__))
    shared = [path for room in MEASURES for path in sorted((Path(__file__).parents[1] / room).glob("*.py"))]
    sources = [own, *(path for path in shared if path.stem not in names().values())]
    return f"{VERSION}+{content_id('code', [path.read_text(encoding='utf-8') for path in sources])[:8]}"


def _usable(name: str, value: Any) -> Any:
    """The value of a cell if every number in it is finite: a NaN would pass through means and tests like a result."""
    if not _finite(value):
        raise CannotAnswer(
            f'"{name}": the model returned NaN or an infinite number, so nothing can be concluded; look at its weights '
            "and at `model.dtype`, or train more gently (`learn.learning_rate`)"
        )
    return value


def _finite(value: Any) -> bool:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def plain(recipe: Recipe) -> dict[str, Any]:
    """A recipe as a job's payload carries it."""
    return {name: getattr(recipe, name) for name in Recipe.__slots__}

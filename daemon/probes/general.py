"""General skill: what must survive training. Greedy answers, exact match; code is judged by running it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.errors import ConfigError
from daemon.models.base import Checkpoint, Generator, Sampling, ignore
from daemon.probes import code
from daemon.probes.behavior import record
from policies.records import ChatMessage, Measurement
from policies.statistics.wilson import wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A question with one right answer; for code the function's name and what calls of it return."""

    id: str
    family: str
    split: str
    prompt: str
    answer: str
    entry: str | None = None
    tests: tuple[tuple[tuple[Any, ...], Any], ...] = ()


def load(file: Path, split: str | None = None) -> list[Task]:
    """The tasks of a JSONL file, of one split or all. Raises ConfigError naming file and line."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: `judge.general_probes` cannot be read: {error}") from error
    tasks = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            task = _task(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{file}:{number}: not a task ({error!r}); a line has id, family, split, prompt, answer, and for code "
                "entry and tests ([[arguments], result] each)"
            ) from error
        if split is None or task.split == split:
            tasks.append(task)
    return tasks


def examples(file: Path) -> list[tuple[str, str]]:
    """Questions to train on with their answers, from a JSONL file. Raises ConfigError naming it."""
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
        return [(str(row["prompt"]), str(row["answer"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file}: `learn.general_examples` cannot be read: {error!r}") from error


def _task(row: dict[str, Any]) -> Task:
    code_task = row["family"] == "code"
    return Task(
        id=str(row["id"]),
        family=str(row["family"]),
        split=str(row["split"]),
        prompt=str(row["prompt"]),
        answer=str(row["answer"]),
        entry=str(row["entry"]) if code_task else None,
        tests=tuple((tuple(arguments), expected) for arguments, expected in row["tests"]) if code_task else (),
    )


def measure(
    model: Generator, tasks: Sequence[Task], *, max_tokens: int, checkpoint: Checkpoint = ignore
) -> list[float]:
    """Per task 1.0 when the greedy answer is right, else 0.0. Raises NoSandbox where code cannot be run."""
    prompts = [(ChatMessage(role="user", content=task.prompt),) for task in tasks]
    return graded(tasks, model.generate(prompts, Sampling(temperature=0.0, max_tokens=max_tokens), checkpoint))


def graded(tasks: Sequence[Task], answers: Sequence[str]) -> list[float]:
    """1.0 for each right answer, else 0.0; `answers[i]` is to `tasks[i]`. Raises NoSandbox as `measure` does."""
    right = [normal(text) == normal(task.answer) for task, text in zip(tasks, answers, strict=True)]
    runs = [place for place, task in enumerate(tasks) if task.entry is not None]
    programs = [
        code.Program(code=code.source(answers[i]), entry=str(tasks[i].entry), tests=tasks[i].tests) for i in runs
    ]
    for place, passed in zip(runs, code.check(programs), strict=True):
        right[place] = passed
    return [float(value) for value in right]


def measurements(
    model: Generator,
    tasks: Sequence[Task],
    *,
    max_tokens: int,
    adapter: str | None,
    split: str,
    cycle: int,
    at: float,
    checkpoint: Checkpoint = ignore,
) -> list[Measurement]:
    """One record per family (its `kind`), on the adapter in use."""
    values = measure(model, tasks, max_tokens=max_tokens, checkpoint=checkpoint)
    records = []
    for family in sorted({task.family for task in tasks}):
        mine = [(task.id, value) for task, value in zip(tasks, values, strict=True) if task.family == family]
        results = [value for _, value in mine]
        records.append(
            record(
                probe="general", adapter=adapter, behavior="", kind=family, split=split, cycle=cycle, at=at,
                items=[item for item, _ in mine], values=results, found=wilson(sum(results), len(results)),
            )
        )  # fmt: skip
    return records


def normal(text: str) -> str:
    """Case, spacing and a final full stop do not make an answer wrong.

    >>> normal(" The capital of Peru is  Lima. ") == normal("the capital of peru is lima")
    True
    """
    return re.sub(r"\s+", " ", text).strip().rstrip(".!").strip().casefold()

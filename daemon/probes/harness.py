"""Tasks of lm-evaluation-harness (EleutherAI) from local files, answered by any model of ours. An optional extra.

A task is a YAML file in a folder, whose data are files, too (`dataset_path: json` with `data_files`); nothing is
fetched. Prompts are asked as a user's message and answers are greedy, so generating and multiple-choice tasks work.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daemon.errors import ConfigError, DreamloopError
from daemon.models.base import Checkpoint, Generator, Sampling, ignore
from policies.records import ChatMessage


def measure(
    model: Generator, folder: Path, *, max_tokens: int, limit: int | None = None, checkpoint: Checkpoint = ignore
) -> dict[str, list[float]]:
    """Task -> its first metric of each document (of the first `limit`), in [0, 1], with the adapter in use.

    Raises ConfigError for a folder without tasks or a metric that is not in [0, 1] for each document, DreamloopError
    where the harness is not installed.
    """
    for offline in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"):
        os.environ.setdefault(offline, "1")  # read when the harness is imported: local files only
    try:
        evaluator: Any = importlib.import_module("lm_eval.evaluator")
        manager: Any = importlib.import_module("lm_eval.tasks").TaskManager
        base: Any = importlib.import_module("lm_eval.api.model").LM
    except ImportError as error:
        raise DreamloopError(
            f"lm-evaluation-harness is not installed ({error}): pip install 'dreamloop[harness]'"
        ) from error
    tasks = manager(include_path=str(folder), include_defaults=False)
    if not tasks.all_tasks:
        raise ConfigError(f"{folder}: no task files (*.yaml) of lm-evaluation-harness")
    answers = _Answers(model, max_tokens, checkpoint)
    methods = {name: _method(getattr(answers, name)) for name in ("loglikelihood", "loglikelihood_rolling")}
    asked = type("Asked", (base,), {**methods, "generate_until": _method(answers.generate_until)})()
    found = evaluator.simple_evaluate(
        model=asked, tasks=list(tasks.all_tasks), task_manager=tasks, limit=limit, log_samples=True, bootstrap_iters=0
    )
    return {name: _values(folder, name, rows) for name, rows in sorted(found["samples"].items())}


class _Answers:
    """What the harness asks of a model: a request's `args` are a context, and a continuation or options."""

    def __init__(self, model: Generator, max_tokens: int, checkpoint: Checkpoint) -> None:
        self.model = model
        self.max_tokens = max_tokens
        self.checkpoint = checkpoint

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """The continuation's log-probability with its end of turn; whether greedy decoding gives it is not told."""
        pairs = [(_user(context), continuation) for context, continuation in (request.args for request in requests)]
        return [(sum(scores), False) for scores in self.model.logprobs(pairs, self.checkpoint)]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """A whole text, read as the answer to an empty message."""
        pairs = [(_user(""), request.args[0]) for request in requests]
        return [sum(scores) for scores in self.model.logprobs(pairs, self.checkpoint)]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Greedy answers, cut before the first of the task's stops."""
        sampling = Sampling(temperature=0.0, max_tokens=self.max_tokens)
        answers = self.model.generate([_user(request.args[0]) for request in requests], sampling, self.checkpoint)
        return [_cut(text, request.args[1].get("until") or ()) for text, request in zip(answers, requests, strict=True)]


def _method(bound: Any) -> Any:
    """A function of the class that hands its requests on, whatever the harness passes beside them."""
    return lambda _, requests, **__: bound(requests)


def _cut(text: str, stops: str | Sequence[str]) -> str:
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop, 1)[0] if stop else text
    return text


def _values(folder: Path, name: str, rows: Sequence[Any]) -> list[float]:
    metric = rows[0]["metrics"][0]
    values = [float(row[metric]) for row in sorted(rows, key=lambda row: int(row["doc_id"])) if metric in row]
    if len(values) != len(rows) or not all(0 <= value <= 1 for value in values):
        raise ConfigError(
            f"{folder}: task {name}: its first metric, {metric}, is not a number in [0, 1] for each document; "
            "use one like exact_match or acc"
        )
    return values


def _user(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage(role="user", content=text),)

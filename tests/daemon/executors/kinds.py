"""Job kinds for the executors' tests, run by name in real workers ("tests.daemon.executors.kinds:echo")."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from daemon.errors import AdapterError
from daemon.events import Result
from daemon.executors.base import Context
from policies.records import ChatMessage, Judgement

HERE = "tests.daemon.executors.kinds"


def echo(payload: dict[str, Any], context: Context) -> Result:
    """Returns its payload, a record and who ran it."""
    sys.stderr.write("a line for the log\n")
    return Result(
        records=(Judgement(passed=True, reason="echo"),),
        notes={**payload, "pid": os.getpid(), "nice": os.nice(0), "threads": os.environ["OMP_NUM_THREADS"]},
    )


def steps(payload: dict[str, Any], context: Context) -> Result:
    """Checkpoints `n` times with `pause` seconds between; appends to `trace` at each."""
    for done in range(payload["n"]):
        if "trace" in payload:
            with Path(payload["trace"]).open("a") as file:
                file.write(f"{done}\n")
        context.checkpoint(done, payload["n"], "stepping")
        time.sleep(payload.get("pause", 0.01))
    return Result(notes={"done": payload["n"]})


def stubborn(payload: dict[str, Any], context: Context) -> Result:
    """Says that it began and never reaches a checkpoint again."""
    context.checkpoint(0, 1, "began")
    time.sleep(600)
    return Result()


def crash(payload: dict[str, Any], context: Context) -> Result:
    """Takes the whole worker down, as a segmentation fault or the kernel's memory killer would."""
    os.kill(os.getpid(), payload["signal"])
    time.sleep(600)
    return Result()


def expected(payload: dict[str, Any], context: Context) -> Result:
    """Fails with an error that a person can mend."""
    raise AdapterError("the disk is full; free space")


def mistake(payload: dict[str, Any], context: Context) -> Result:
    """Fails with a mistake of the program."""
    return payload["nothing there"]  # type: ignore[no-any-return]


def tensor(payload: dict[str, Any], context: Context) -> Result:
    """Returns something that may not reach the main process."""
    import torch

    return Result(notes={"value": torch.zeros(2)})


def numpy_scalar(payload: dict[str, Any], context: Context) -> Result:
    """Returns NumPy's numbers where Python's were meant."""
    import numpy as np

    return Result(notes={"mean": np.float64(0.5), "n": np.int64(3)})


def answer(payload: dict[str, Any], context: Context) -> Result:
    """Uses the worker's model."""
    from daemon.models.base import Sampling

    prompts = [(ChatMessage(role="user", content=text),) for text in payload["texts"]]
    return Result(notes={"answers": context.model.generate(prompts, Sampling(max_tokens=4), context.checkpoint)})


def long_training(payload: dict[str, Any], context: Context) -> Result:
    """Trains for far longer than any test waits."""
    from daemon.models.base import TrainingExample
    from policies.records import Recipe

    recipe = Recipe(rank=4, alpha=8, targets=("all-linear",), learning_rate=1e-3, epochs=100_000, batch_size=2, seed=0)
    examples = [TrainingExample(prompt=(ChatMessage(role="user", content="the fox"),), target="yes do it")]
    context.model.train(
        examples,
        recipe,
        parent=None,
        into=Path(payload["into"]),
        card={},
        checkpoint=lambda done, total: context.checkpoint(done, total, "training"),
    )
    return Result()


RUNNERS = {
    function.__name__: function
    for function in (echo, steps, stubborn, crash, expected, mistake, tensor, numpy_scalar, answer, long_training)
}

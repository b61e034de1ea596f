"""How far an adapter has moved from the base on neutral text: mean KL(base || adapter), a leading sign of forgetting.

Exact over the vocabulary, teacher-forced (arXiv 2509.04259 uses it to predict forgetting).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from daemon.models.base import Checkpoint, Conversation, Diverges, ignore
from daemon.probes.behavior import record
from policies.records import ChatMessage, Measurement
from policies.statistics.bootstrap import mean_interval

Text = str | tuple[Conversation, str]  # plain text, or a prompt and its answer in the model's chat form


class Neutral(Protocol):
    """A task that has nothing to do with the behaviours: see `general.Task`."""

    @property
    def id(self) -> str: ...

    @property
    def prompt(self) -> str: ...

    @property
    def answer(self) -> str: ...


def measurement(
    model: Diverges,
    tasks: Sequence[Neutral],
    *,
    adapter: str,
    folder: Path,
    cycle: int,
    at: float,
    checkpoint: Checkpoint = ignore,
) -> Measurement:
    """KL in nats per token over neutral tasks, as a record; the interval is a bootstrap over tasks."""
    texts: list[Text] = [((ChatMessage(role="user", content=task.prompt),), task.answer) for task in tasks]
    values = model.divergence(texts, folder, checkpoint)
    found = mean_interval(values, np.random.default_rng(len(values)))
    return record(
        probe="kl", adapter=adapter, behavior="", kind="", split="rotating", cycle=cycle, at=at,
        items=[task.id for task in tasks], values=values, found=found,
    )  # fmt: skip

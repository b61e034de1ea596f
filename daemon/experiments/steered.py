"""Asks a model the same things, with the same luck, while a vector pushes it and while none does."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from daemon.experiments.bench import Bench
from daemon.judges.base import judge_all
from daemon.models.base import Steerable
from daemon.probes import behavior, margin, perplexity
from daemon.probes.perplexity import Text
from policies.behaviors import Probe
from policies.records import ChatMessage

Passed = list[list[bool | None]]  # per probe its answers; None where the judge could not read the scenario


@dataclass(frozen=True, slots=True, eq=False)
class Push:
    """`strength` times a vector (hidden,) on what block `layer`, counted from 1, puts out. Strength 0 is no push."""

    layer: int
    vector: NDArray[np.float32]
    strength: float


class Steered:
    """One behaviour's questions to the adapter in use. Judging and scoring what was said is done without the push."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.model = bench.answering
        self.name = bench.behavior.name

    def pushed(self, push: Push | None) -> AbstractContextManager[None]:
        """While entered, the model is pushed."""
        if push is None or not push.strength:
            return contextlib.nullcontext()
        return cast(Steerable, self.model).steered({push.layer: push.vector}, push.strength)

    def answers(
        self, probes: Sequence[Probe], count: int, push: Push | None, note: str, *, guidance: str = ""
    ) -> list[str]:
        """`count` answers to each probe, one probe after the other; with guidance as examples are made with it."""
        memory = (ChatMessage(role="system", content=f"memory: {guidance}"),) if guidance else ()
        prompts = [(*memory, ChatMessage(role="user", content=probe.prompt)) for probe in probes for _ in range(count)]
        with self.pushed(push):
            return self.model.generate(prompts, self.bench.sampling, self.bench.tick(note))

    def judged(self, probes: Sequence[Probe], answers: Sequence[str], note: str) -> Passed:
        """What the judge says about the same number of answers to each probe."""
        count = len(answers) // max(1, len(probes))
        asked = [(probe.prompt, answers[place * count + i]) for place, probe in enumerate(probes) for i in range(count)]
        found = [j.passed for j in judge_all(self.bench.judge(), self.name, asked, self.bench.tick(note))]
        return [found[place * count : (place + 1) * count] for place in range(len(probes))]

    def passed(
        self, probes: Sequence[Probe], count: int, push: Push | None, note: str, *, guidance: str = ""
    ) -> Passed:
        """Answered and judged."""
        return self.judged(probes, self.answers(probes, count, push, note, guidance=guidance), note)

    def margins(self, probes: Sequence[Probe], push: Push | None, note: str) -> list[float]:
        """Preferred minus rejected in nats per token, of the probes that have both answers."""
        both = [probe for probe in probes if probe.preferred and probe.rejected]
        with self.pushed(push):
            return [found.per_token for found in margin.margins(self.model, both, self.bench.tick(note))]

    def likely(self, probes: Sequence[Probe], answers: Sequence[str], note: str) -> list[float]:
        """How likely the unpushed model finds one answer to each probe, nats per token."""
        pairs = [((ChatMessage(role="user", content=p.prompt),), text) for p, text in zip(probes, answers, strict=True)]
        return [sum(scores) / len(scores) for scores in self.model.logprobs(pairs, self.bench.tick(note))]

    def documents(self, texts: Sequence[Text], push: Push | None, note: str) -> list[float]:
        """Log perplexity of each, nats per token."""
        with self.pushed(push):
            return perplexity.per_document(self.model, texts, self.bench.tick(note))

    def skill(
        self, behavior_name: str, probes: Sequence[Probe], count: int, push: Push | None, note: str
    ) -> list[float]:
        """The share of `count` answers that passed, per probe of any behaviour and kind."""
        return behavior.measure(
            self.model, probes, self.bench.judge(behavior_name), behavior_name, samples=count,
            sampling=self.bench.sampling, answering=self.pushed(push), checkpoint=self.bench.tick(note),
        )  # fmt: skip


def shares(passed: Passed) -> list[float]:
    """Per probe the share of readable answers that passed; without a readable one it failed.

    >>> shares([[True, False], [None, True], [None, None]])
    [0.5, 1.0, 0.0]
    """
    read = [[answer for answer in answers if answer is not None] for answers in passed]
    return [sum(answers) / len(answers) if answers else 0.0 for answers in read]

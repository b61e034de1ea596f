"""How often a behaviour is shown on held-out probes: sampled answers, judged by something other than the model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from daemon.judges.base import Judge, judge_all
from daemon.models.base import Checkpoint, Generator, Sampling, ignore
from policies.behaviors import Probe
from policies.records import ChatMessage, Measurement, content_id
from policies.statistics.bootstrap import mean_interval
from policies.statistics.interval import Interval
from policies.statistics.wilson import wilson


def measure(
    model: Generator,
    probes: Sequence[Probe],
    judge: Judge,
    behavior: str,
    *,
    samples: int,
    sampling: Sampling,
    answering: AbstractContextManager[None] | None = None,
    checkpoint: Checkpoint = ignore,
) -> list[float]:
    """Per probe the share of `samples` answers that passed, in [0, 1].

    Answers that the judge cannot read count for nothing; a probe without a readable one counts as failed (0.0). The
    model's randomness is its own per (seed, prompt, repetition), so two adapters meet the same luck on the same probes.
    `answering` is entered while the model answers and left before anybody judges: steering must not reach the judge.
    """
    asked = [probe for probe in probes for _ in range(samples)]
    prompts = [(ChatMessage(role="user", content=probe.prompt),) for probe in asked]
    with answering or nullcontext():
        answers = model.generate(prompts, sampling, checkpoint)
    # judging asks to go on, too, at the count where answering ended
    judgements = judge_all(
        judge,
        behavior,
        [(probe.prompt, text) for probe, text in zip(asked, answers, strict=True)],
        lambda *_: checkpoint(len(asked), len(asked)),
    )
    judged = [judgement.passed for judgement in judgements]
    values = []
    for place in range(0, len(judged), samples):
        read = [passed for passed in judged[place : place + samples] if passed is not None]
        values.append(sum(read) / len(read) if read else 0.0)
    return values


def interval(values: Sequence[float], samples: int) -> Interval:
    """95 %: Wilson's for one answer per probe; a bootstrap over probes for several, which are not independent."""
    if samples == 1 or not values:
        return wilson(sum(values), len(values))
    return mean_interval(values, np.random.default_rng(len(values)))


def measurement(
    model: Generator,
    probes: Sequence[Probe],
    judge: Judge,
    behavior: str,
    *,
    samples: int,
    sampling: Sampling,
    adapter: str | None,
    kind: str,
    split: str,
    cycle: int,
    at: float,
    probe: str = "behavior",
    band: str = "",
    checkpoint: Checkpoint = ignore,
) -> Measurement:
    """`measure` on the adapter in use, as a record: `value` is the mean pass rate."""
    values = measure(model, probes, judge, behavior, samples=samples, sampling=sampling, checkpoint=checkpoint)
    return record(
        probe=probe, adapter=adapter, behavior=behavior, kind=kind, band=band, split=split, cycle=cycle, at=at,
        items=[p.id for p in probes], values=values, found=interval(values, samples),
    )  # fmt: skip


def record(
    *,
    probe: str,
    adapter: str | None,
    behavior: str,
    kind: str,
    split: str,
    cycle: int,
    at: float,
    items: Sequence[str],
    values: Sequence[float],
    found: Interval,
    band: str = "",
) -> Measurement:
    """A Measurement whose id says what was measured on what: measuring the same again writes the same row."""
    return Measurement(
        id=content_id("measurement", probe, adapter, behavior, kind, band, split, cycle, list(items)),
        probe=probe,
        adapter=adapter,
        behavior=behavior,
        kind=kind,
        band=band,
        split=split,
        value=found.value,
        low=found.low,
        high=found.high,
        n=len(values),
        items=tuple(items),
        values=tuple(values),
        cycle=cycle,
        at=at,
    )

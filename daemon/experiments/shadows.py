"""Shadows: adapters made to be measured, one that shows a behaviour and one that lost it. Neither is ever served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from daemon.experiments.bench import Bench
from daemon.models.base import TrainingExample
from daemon.probes import behavior as behavior_probe
from policies.behaviors import Pair
from policies.records import ChatMessage

COSTS = 0.2  # the rise of the probes' failure rate that a degradation must reach
DOSE = 30  # rejected answers in a session of degrading: few, so that it costs clearly and not everything
HARDER = 4.0  # its learning rate, in the loop's
SESSIONS = 6  # at most
CHECKS = 120  # probes that say how far it has come


def healthy(bench: Bench, pairs: Sequence[Pair], seed: int) -> Path:
    """The serving adapter, or where the base serves one that is trained to show the behaviour."""
    if bench.serving_folder is not None:
        return bench.serving_folder
    return bench.adapter(_examples(pairs, "preferred"), replace(bench.recipe, seed=seed))


def degraded(bench: Bench, healthy: Path, pairs: Sequence[Pair], seed: int) -> tuple[Path, tuple[float, float]]:
    """The healthy one trained further on rejected answers, a dose at a time, until it costs.

    With its failure rates before and after, on the same probes with the same luck.
    """
    probes = bench.behavior.select(split="rotating", kind="target")[:CHECKS]

    def failing(adapter: Path) -> float:
        def compute() -> float:
            bench.model.use(adapter)
            values = behavior_probe.measure(
                bench.model, probes, bench.judge(), bench.behavior.name, samples=1,
                sampling=replace(bench.sampling, seed=seed), checkpoint=bench.tick("probing a shadow"),
            )  # fmt: skip
            return 1 - float(np.mean(values))

        found: float = bench.cell("a shadow's failure rate", [adapter.name, seed, len(probes)], compute)
        return found

    before = failing(healthy)
    recipe = replace(bench.recipe, seed=seed, learning_rate=HARDER * bench.recipe.learning_rate)
    shadow, after = healthy, before
    for session in range(SESSIONS):
        some = [pairs[(session * DOSE + i) % len(pairs)] for i in range(min(DOSE, len(pairs)))]
        shadow = bench.adapter(_examples(some, "rejected"), recipe, parent=shadow)
        after = failing(shadow)
        if after - before >= COSTS:
            break
    return shadow, (before, after)


def _examples(pairs: Sequence[Pair], which: str) -> list[TrainingExample]:
    return [
        TrainingExample(prompt=(ChatMessage(role="user", content=pair.prompt),), target=getattr(pair, which))
        for pair in pairs
    ]

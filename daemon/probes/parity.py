"""Is an adapter served as it was trained? The same answers are scored by both; servers have dropped layers silently.

(Known cases: GDN projections of an adapter ignored by a server, or by a trainer.) Light to import: stations use it in
the main process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from policies.behaviors import Behavior
from policies.records import ChatMessage

if TYPE_CHECKING:
    from daemon.models.base import Generator

Pairs = Sequence[Sequence[str]]  # [prompt, answer] each; plain data, so that it fits into a job's payload


def fixed_pairs(behaviors: Iterable[Behavior], count: int = 16) -> list[list[str]]:
    """`count` (prompt, answer) pairs per behaviour from its rotating probes: half preferred, half rejected answers.

    Always the same for the same files, and spread evenly over them.
    """
    pairs = []
    for behavior in behaviors:
        probes = [probe for probe in behavior.probes if probe.split == "rotating"]
        step = max(1, len(probes) // count)
        for place, probe in enumerate(probes[::step][:count]):
            answer = probe.rejected if place % 2 and probe.rejected else probe.preferred
            # a probe without texts is scored on the guidance: any text will do, as long as it is always the same
            pairs.append([probe.prompt, answer or behavior.guidance])
    return pairs


def score(model: Generator, pairs: Pairs) -> list[list[float]]:
    """Per pair the log-probabilities in nats of the answer's tokens, under the adapter in use."""
    return model.logprobs([((ChatMessage(role="user", content=prompt),), answer) for prompt, answer in pairs])


def difference(trained: Sequence[Sequence[float]], served: Sequence[Sequence[float]]) -> float:
    """The largest mean absolute difference of any answer, in nats per token; infinite when they cannot be compared.

    >>> difference([[-1.0, -2.0], [-1.0]], [[-1.0, -2.5], [-1.1]])
    0.25
    """
    if len(trained) != len(served):
        return math.inf
    worst = 0.0
    for mine, theirs in zip(trained, served, strict=True):
        if len(mine) != len(theirs):
            return math.inf
        if mine:
            mean = sum(abs(a - b) for a, b in zip(mine, theirs, strict=True)) / len(mine)
            worst = max(worst, math.inf if math.isnan(mean) else mean)
    return worst

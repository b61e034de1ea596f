"""What question 5 measures, and how a block and a strength are chosen before anything is judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.statistics.noninferiority import NonInferiority, noninferiority, paired_interval

PERPLEXITY = 0.02  # the most by which that of neutral text may rise

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A block and strength on the pairs held back: pass rate, margin (nats/token), cost (nats/token, neutral text)."""

    layer: int
    strength: float
    rate: float
    margin: float
    cost: float


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The highest pass rate among those whose perplexity stays within 2 %; ties go to margin, then less strength.

    Where none stays within, the cheapest. Raises ValueError without candidates.
    """
    if not candidates:
        raise ValueError("there is nothing to choose from")
    cheap = [each for each in candidates if each.cost <= math.log1p(PERPLEXITY)]
    if not cheap:
        return min(candidates, key=lambda each: each.cost)
    return max(cheap, key=lambda each: (each.rate, each.margin, -each.strength))


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """Share of answers passed per probe, unsteered and at the chosen strength; `guarded` ones decide."""

    name: str
    before: Sequence[float]
    after: Sequence[float]
    delta: float
    guarded: bool

    def standing(self) -> NonInferiority:
        """The paired comparison."""
        return noninferiority(self.before, self.after, delta=self.delta)

    def surely_lost(self, confidence: float) -> bool:
        """Whether more than delta is lost: the one-sided upper limit of the change lies below -delta."""
        return paired_interval(self.before, self.after, confidence=2 * confidence - 1).high < -self.delta


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything the verdict rests on.

    `passed` (scenarios, strengths) and `prompted` (scenarios,) are shares of an item's answers; strength 0 is among
    `strengths`, `chosen` too. `margins` (scenarios, strengths) are changes from strength 0 in nats per token, `intact`
    (strengths,) the share of answers still likely under the unsteered model. Each of `random` and `shuffled` is
    (the first so many scenarios, strengths). `neutral` is the change in nats per token per document at `chosen`.
    """

    title: str
    chosen: Candidate
    candidates: Sequence[Candidate]
    strengths: Sequence[float]
    passed: Matrix
    margins: Matrix
    intact: Sequence[float]
    prompted: Sequence[float]
    random: Sequence[Matrix]
    shuffled: Sequence[Matrix]
    neutral: Sequence[float]
    skills: Sequence[Skill]
    pairs: int
    seed: int
    adapter: str | None = None
    serving: Sequence[str] = ()  # behaviours that are steered in what is served now
    short: Sequence[str] = ()
    served: bool = False  # answers and scores came from the servers that people are answered by

    def column(self, strength: float) -> Matrix:
        """Per scenario the share passed at a strength."""
        return self.passed[:, list(self.strengths).index(strength)]

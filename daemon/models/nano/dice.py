"""Scored chance: every draw adds its negative log-probability, so that the entropy of what was drawn is known."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Draws from a random stream and adds up the cost of what was drawn, in nats.

    >>> dice = Dice(random.Random(0)); _ = dice.choice("abcd"); round(dice.nll, 3)
    1.386
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.nll = 0.0

    def choice(self, items: Sequence[T]) -> T:
        """One of `items`, each as likely. Items must differ, or the score counts one text twice."""
        self.nll += math.log(len(items))
        return self.rng.choice(items)

    def weighted(self, weights: Mapping[T, float]) -> T:
        """One key, by its weight."""
        total = math.fsum(weights.values())
        key = self.rng.choices(list(weights), list(weights.values()))[0]
        self.nll -= math.log(weights[key] / total)
        return key

    def flip(self, probability: float) -> bool:
        """True with this probability."""
        hit = self.rng.random() < probability
        self.nll -= math.log(probability if hit else 1 - probability)
        return hit

    def charge(self, probability: float) -> None:
        """Score something drawn elsewhere that had this probability."""
        self.nll -= math.log(probability)

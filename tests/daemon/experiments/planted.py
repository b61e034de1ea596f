"""A model of nano's world with a direction planted in it, so that what steering finds and does is known."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.models.base import Checkpoint, Conversation, Layout, Passage, ignore
from daemon.models.nano.checker import check
from tests.daemon.stations.parts import NAMES, WorldModel

BLOCK, HIDDEN = 4, 64


class PlantedWorld(WorldModel):
    """What block 4 puts out over a good answer lies `planted` further than over a bad one; all else is noise.

    A push there along `acts` moves the behaviour by that many log-odds: along the planted direction where steering is
    to work, along one at a right angle to it where it is not.
    """

    def __init__(self, *, works: bool, behavior: str = "listening") -> None:
        super().__init__(dict.fromkeys(NAMES, 0.4))
        rng = np.random.default_rng(7)
        self.planted = rng.standard_normal(HIDDEN).astype(np.float32)
        other = rng.standard_normal(HIDDEN).astype(np.float32)
        other -= self.planted * np.dot(other, self.planted) / np.dot(self.planted, self.planted)
        acts = self.planted if works else other
        self.acts = 2 * acts / float(np.dot(acts, acts))
        self.moved = behavior
        self.pushes: list[tuple[int, NDArray[np.float32]]] = []
        self.used: list[Any] = []

    def layout(self) -> Layout:
        """Eight blocks, as nano has."""
        return Layout(
            layers=8, attention=(4, 8), gdn=(1, 2, 3, 5, 6, 7), heads=2, kv_heads=1, gdn_heads=2, hidden=HIDDEN
        )

    def hidden(
        self, passages: Sequence[Passage], layers: Sequence[int], checkpoint: Checkpoint = ignore
    ) -> NDArray[np.float32]:
        """See the class."""
        found = np.empty((len(passages), len(layers), HIDDEN), np.float32)
        for row, passage in enumerate(passages):
            asked = passage.prompt[-1].content
            seed = int.from_bytes(hashlib.sha256(f"{asked}/{passage.answer}".encode()).digest()[:8])
            found[row] = np.random.default_rng(seed).standard_normal((len(layers), HIDDEN))
            side = 0.5 if check(asked, passage.answer).passed else -0.5
            for place, layer in enumerate(layers):
                if layer == BLOCK:
                    found[row, place] += side * self.planted
        return found

    @contextlib.contextmanager
    def steered(self, vectors: Mapping[int, NDArray[np.float32]], strength: float) -> Iterator[None]:
        """See Observer."""
        before = list(self.pushes)
        self.pushes += [(layer, strength * vector) for layer, vector in vectors.items()]
        try:
            yield
        finally:
            self.pushes = before

    def attention(self, passages: Sequence[Passage], checkpoint: Checkpoint = ignore) -> Any:
        """Not looked at."""
        raise NotImplementedError

    recurrent = mixer_outputs = attention

    def use(self, adapter: Any) -> None:
        """Remembered; there are no adapters."""
        self.used.append(adapter)

    def _rate(self, prompt: Conversation) -> float:
        rate = super()._rate(prompt)
        if self._behavior(prompt) != self.moved or not self.pushes:
            return rate
        push = sum(float(np.dot(vector, self.acts)) for layer, vector in self.pushes if layer == BLOCK)
        return 1 / (1 + math.exp(push - math.log(rate / (1 - rate))))

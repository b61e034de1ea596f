"""Directions in what blocks put out: difference of means over paired answers (arXiv 2312.06681), and its controls.

Strength 1 of a vector is one mean difference. `model.steered(vectors, strength)` applies them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from daemon.models.base import Checkpoint, Observer, Passage, ignore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = dict[int, NDArray[np.float32]]  # block, counted from 1 -> (hidden,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """What blocks put out over the preferred and the rejected answer of each pair: both (pairs, layers, hidden)."""

    layers: tuple[int, ...]
    positive: NDArray[np.float32]
    negative: NDArray[np.float32]

    def direction(self) -> Vectors:
        """Mean of the preferred minus mean of the rejected, per block."""
        return self._vectors(np.ones(len(self.positive)))

    def shuffled(self, rng: np.random.Generator) -> Vectors:
        """The same with the labels of a random half of the pairs swapped, at the direction's own norm.

        What all pairs share cancels; what is left is what so few texts give by chance.
        """
        signs = np.ones(len(self.positive))
        signs[rng.permutation(len(signs))[: len(signs) // 2]] = -1
        return normed_like(self._vectors(signs), self.direction())

    def select(self, pairs: Sequence[int]) -> Contrast:
        """Only these pairs, in this order: training and validation ones of one run, or a resample."""
        places = list(pairs)
        return Contrast(layers=self.layers, positive=self.positive[places], negative=self.negative[places])

    def _vectors(self, signs: NDArray[np.float64]) -> Vectors:
        mean = (signs[:, None, None] * (self.positive - self.negative)).mean(0).astype(np.float32)
        return dict(zip(self.layers, mean, strict=True))


def contrast(
    model: Observer,
    positive: Sequence[Passage],
    negative: Sequence[Passage],
    layers: Sequence[int],
    checkpoint: Checkpoint = ignore,
) -> Contrast:
    """One forward over every passage; `positive[i]` and `negative[i]` are a pair. Raises ValueError without pairs."""
    if not positive or len(positive) != len(negative):
        raise ValueError(f"{len(positive)} preferred and {len(negative)} rejected passages are not pairs")
    states = model.hidden([*positive, *negative], layers, checkpoint)
    return Contrast(layers=tuple(layers), positive=states[: len(positive)], negative=states[len(positive) :])


def direction(
    model: Observer,
    positive: Sequence[Passage],
    negative: Sequence[Passage],
    layers: Sequence[int],
    checkpoint: Checkpoint = ignore,
) -> Vectors:
    """`contrast(...).direction()`, for callers that need no controls."""
    return contrast(model, positive, negative, layers, checkpoint).direction()


def random_like(vectors: Mapping[int, NDArray[np.float32]], rng: np.random.Generator) -> Vectors:
    """Gaussian directions of the same norms."""
    drawn = {layer: rng.standard_normal(len(vector)).astype(np.float32) for layer, vector in vectors.items()}
    return normed_like(drawn, vectors)


def normed_like(vectors: Mapping[int, NDArray[np.float32]], other: Mapping[int, NDArray[np.float32]]) -> Vectors:
    """These directions at the norms of `other`; a zero vector stays one."""
    return {
        layer: (vector * (np.linalg.norm(other[layer]) / (np.linalg.norm(vector) or 1.0))).astype(np.float32)
        for layer, vector in vectors.items()
    }

"""How much of the attention that decides an answer goes to the direction in the prompt. Full-attention blocks only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from daemon.models.base import Checkpoint, Observer, Passage, ignore

if TYPE_CHECKING:
    from numpy.typing import NDArray


def mass_on_span(model: Observer, passages: Sequence[Passage], checkpoint: Checkpoint = ignore) -> NDArray[np.float32]:
    """(passages, full-attention blocks, heads): share of attention on the span, in [0, 1], mean over decision tokens.

    Raises ValueError for a passage without a span.
    """
    masses = []
    for number, found in enumerate(model.attention(passages, checkpoint)):
        if found.span is None:
            raise ValueError(f"passage {number} has no span to look for")
        masses.append(found.weights[..., slice(*found.span)].sum(-1).mean(-1))
    return np.stack(masses)

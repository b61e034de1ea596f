"""What a block puts out, as features: over an answer, or at the end of the user's text when there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from daemon.models.base import Checkpoint, Conversation, Observer, Passage, ignore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def features(
    model: Observer, passages: Sequence[Passage], layers: Sequence[int], checkpoint: Checkpoint = ignore
) -> dict[int, NDArray[np.float32]]:
    """Per block, counted from 1, (passages, hidden)."""
    found = model.hidden(passages, layers, checkpoint)
    return {layer: found[:, place] for place, layer in enumerate(layers)}


def after_prompts(
    model: Observer, prompts: Sequence[Conversation], layers: Sequence[int], checkpoint: Checkpoint = ignore
) -> dict[int, NDArray[np.float32]]:
    """Per block (prompts, hidden) at the last token of the last user message: where `recurrent.features` are read."""
    return features(model, [Passage(prompt=tuple(prompt)) for prompt in prompts], layers, checkpoint)

"""The recurrent state of the GDN blocks at the end of the user's text, as features per block and head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from daemon.models.base import Checkpoint, Conversation, Observer, ignore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def features(
    model: Observer, prompts: Sequence[Conversation], checkpoint: Checkpoint = ignore
) -> dict[int, NDArray[np.float32]]:
    """Per GDN block, counted from 1, (prompts, heads, d_key * d_value).

    Raises Unobservable for a model without GDN blocks.
    """
    states = model.recurrent(prompts, checkpoint)
    flat = states.reshape(*states.shape[:3], -1)
    return {block: flat[:, place] for place, block in enumerate(model.layout().gdn)}

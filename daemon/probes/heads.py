"""How far each attention head's pattern moved between two adapters on the same passages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from daemon.models.base import Attention

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pattern_changes(before: Sequence[Attention], after: Sequence[Attention]) -> NDArray[np.float32]:
    """(passages, full-attention blocks, heads): L2 distance of the attention rows, mean over decision tokens.

    A row is a distribution over tokens, so a distance is between 0 and the square root of 2. Raises ValueError when the
    passages are not the same.
    """
    changes = []
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        if old.weights.shape != new.weights.shape:
            raise ValueError(f"passage {number}: maps of {old.weights.shape} and {new.weights.shape}, not of one text")
        changes.append(np.linalg.norm(new.weights - old.weights, axis=-1).mean(-1))
    return np.stack(changes)


def pattern_change(before: Sequence[Attention], after: Sequence[Attention]) -> NDArray[np.float32]:
    """(full-attention blocks, heads): `pattern_changes`, mean over passages."""
    mean: NDArray[np.float32] = pattern_changes(before, after).mean(0)
    return mean

"""Which sequences go through the model together. Pure: lengths in, indices out."""

from __future__ import annotations

import random
from collections.abc import Sequence

_POOL = 8  # batches that are sorted by length among themselves: less padding, and still mostly shuffled


def by_length(lengths: Sequence[int], size: int, tokens: int) -> list[list[int]]:
    """Batches of like length: at most `size` sequences and `tokens` padded tokens (but always at least one sequence).

    >>> by_length([5, 1, 4, 2], size=2, tokens=100)
    [[1, 3], [2, 0]]
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        last = batches[-1] if batches else None
        if last is not None and len(last) < size and (len(last) + 1) * lengths[index] <= tokens:
            last.append(index)
        else:
            batches.append([index])
    return batches


def epoch(lengths: Sequence[int], size: int, rng: random.Random) -> list[list[int]]:
    """One shuffled pass in steps of `size` examples: every example exactly once, like lengths mostly together."""
    order = list(range(len(lengths)))
    rng.shuffle(order)
    steps: list[list[int]] = []
    for start in range(0, len(order), size * _POOL):
        pool = sorted(order[start : start + size * _POOL], key=lambda i: lengths[i])
        steps.extend(pool[at : at + size] for at in range(0, len(pool), size))
    rng.shuffle(steps)
    return steps


def warm_and_decay(step: int, steps: int, warm: float = 0.1) -> float:
    """Share of the learning rate at `step` of `steps` (from 0): linear up over the first `warm`, then linear down.

    >>> [round(warm_and_decay(s, 4), 2) for s in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    rising = max(1, round(steps * warm))
    if step < rising:
        return (step + 1) / rising
    return (steps - step) / max(1, steps - rising + 1)

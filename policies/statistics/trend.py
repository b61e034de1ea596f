"""Does it rise with the dose? The trend test of Jonckheere (1954, Biometrika 41:133), by permutation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CELLS = 2_000_000  # permuted labels held at once: bounds the memory


@dataclass(frozen=True, slots=True)
class Trend:
    """Pairs of values that rise with their groups (a tie counts one half), the one-sided p-value, number of values."""

    statistic: float
    p: float
    n: int


def jonckheere(
    groups: Sequence[Sequence[float]],
    rng: np.random.Generator,
    *,
    blocks: Sequence[Sequence[Hashable]] | None = None,
    draws: int = 9999,
) -> Trend:
    """Test "values increase from group to group" against "the groups are exchangeable"; p = (1 + hits) / (draws + 1).

    One value is one independent run (a seed at a dose), not one probe of it. `blocks`, of the same shape as `groups`,
    names the seed of every value: seeds differ for reasons of their own, so only pairs of one seed are counted and
    values are exchanged within their seed alone. No pair to compare gives p = 1.

    >>> jonckheere([[1, 2], [3, 4], [5, 6]], np.random.default_rng(0)).statistic  # all 12 pairs rise
    12.0
    >>> jonckheere([[2], [2], [2]], np.random.default_rng(0))
    Trend(statistic=1.5, p=1.0, n=3)

    Raises ValueError when `blocks` has another shape or a value is not finite.
    """
    values = np.array([v for group in groups for v in group], dtype=float)
    level = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    if not np.all(np.isfinite(values)):
        raise ValueError("a trend needs finite values")
    block = _blocks(groups, blocks)
    rises = (values[:, None] < values) + 0.5 * (values[:, None] == values)
    rises *= block[:, None] == block
    observed = float(_count(rises, level[None, :], len(groups))[0])
    hits = 0
    step = max(1, _CELLS // max(1, values.size))
    for start in range(0, draws, step):
        labels = np.tile(level, (min(step, draws - start), 1))
        for members in (np.flatnonzero(block == b) for b in np.unique(block)):
            labels[:, members] = rng.permuted(labels[:, members], axis=1)
        hits += int(np.count_nonzero(_count(rises, labels, len(groups)) >= observed - 1e-9))
    return Trend(observed, (1 + hits) / (draws + 1), values.size)


def _blocks(groups: Sequence[Sequence[float]], blocks: Sequence[Sequence[Hashable]] | None) -> NDArray[np.intp]:
    """The number of every value's block; one block when none are named."""
    sizes = [len(group) for group in groups]
    if blocks is None:
        return np.zeros(sum(sizes), dtype=np.intp)
    if [len(labels) for labels in blocks] != sizes:
        raise ValueError("blocks must have the shape of the groups: one label for each value")
    places: dict[Hashable, int] = {}
    return np.array([places.setdefault(b, len(places)) for labels in blocks for b in labels], dtype=np.intp)


def _count(rises: NDArray[np.float64], labels: NDArray[np.intp], groups: int) -> NDArray[np.float64]:
    """Jonckheere's statistic for each row of group labels: sum of rises[a, b] over the pairs with label a < label b."""
    total = np.zeros(len(labels))
    for group in range(1, groups):
        total += np.einsum("ra,ra->r", (labels < group) @ rises, labels == group)
    return total

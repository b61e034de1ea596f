"""Tests of paired differences: the sign-flip permutation test, and McNemar's exact test, its binary special case.

Under the null hypothesis the two results of a pair could be exchanged, so every difference could carry either sign.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

_MAX_DENOMINATOR = 60
_MAX_LATTICE = 200_000  # sums that the exact distribution may have to tell apart
_CELLS = 4_000_000  # signs held at once: bounds the memory


def sign_flip(
    differences: Sequence[float],
    rng: np.random.Generator | None = None,
    *,
    clusters: Sequence[Hashable] | None = None,
    draws: int = 9999,
) -> float:
    """The one-sided p-value of "the mean difference is above 0".

    Differences of means over k answers lie on a lattice of step 1/k: there the distribution over all 2^n sign
    patterns is computed exactly by convolution, so a tiny alpha can be reached and no randomness is needed.
    Otherwise `draws` random patterns give p = (1 + hits) / (draws + 1) (Phipson & Smyth 2010), and `rng` is needed.
    Differences of one cluster (they share a seed) change sign together. No evidence gives p = 1.

    Raises ValueError when a difference is not finite, or lies on no lattice and `rng` is missing.

    >>> round(sign_flip([1, 1, 1, 1, 1, -1, 0, 0]), 6)  # McNemar with 5 against 1: 7/64
    0.109375
    """
    numbers = np.asarray(differences, dtype=float)
    if not np.all(np.isfinite(numbers)):
        raise ValueError("a sign-flip test needs finite differences")
    sums = _sums(numbers, clusters)
    sums = sums[np.abs(sums) > 1e-12]
    if sums.size == 0:
        return 1.0
    steps = _lattice(sums)
    if steps is not None:
        return _exact(steps)
    if rng is None:
        raise ValueError("these differences lie on no lattice; give `rng` for a Monte Carlo test")
    return _monte_carlo(sums, rng, draws)


def mcnemar(better: int, worse: int) -> float:
    """One-sided exact McNemar: the chance of `better` or more of the discordant pairs on a fair coin.

    >>> round(mcnemar(5, 1), 6)
    0.109375
    """
    if better <= 0:
        return 1.0
    return float(bdtrc(better - 1, better + worse, 0.5))


def lattice_step(values: Sequence[float]) -> float:
    """The widest step 1/k, k <= 60, of which all `values` are multiples; 0.0 when there is none.

    >>> lattice_step([0.25, -0.5, 1.0]), lattice_step([0.1234567])
    (0.25, 0.0)
    """
    numbers = np.asarray(values, dtype=float)
    for denominator in range(1, _MAX_DENOMINATOR + 1):
        scaled = numbers * denominator
        if np.all(np.abs(scaled - np.rint(scaled)) < 1e-6):
            return 1.0 / denominator
    return 0.0


def _sums(numbers: NDArray[np.float64], clusters: Sequence[Hashable] | None) -> NDArray[np.float64]:
    if clusters is None:
        return numbers
    if len(clusters) != len(numbers):
        raise ValueError(f"{len(numbers)} differences have {len(clusters)} cluster labels; give one each")
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(label, len(places)) for label in clusters])
    return np.bincount(index, weights=numbers).astype(np.float64)


def _lattice(sums: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """`sums` as whole numbers of steps, or None when they are off every small lattice or it grows too large."""
    step = lattice_step(sums.tolist())
    if step == 0.0:
        return None
    steps = np.rint(sums / step).astype(np.int64)
    divisor = int(np.gcd.reduce(np.abs(steps)))
    steps //= divisor
    return steps if int(np.abs(steps).sum()) <= _MAX_LATTICE else None


def _exact(steps: NDArray[np.int64]) -> float:
    """P(sum of +-|s_i| >= observed sum), by convolving one two-point distribution after another."""
    sizes = np.abs(steps)
    total = int(sizes.sum())
    # chance[j] = P(the sizes that got a plus add up to j); the signed sum is then 2 j - total
    chance = np.zeros(total + 1)
    chance[0] = 1.0
    reach = 0
    for size in np.sort(sizes):
        grown = chance[: reach + size + 1] * 0.5
        grown[size:] += chance[: reach + 1] * 0.5
        reach += int(size)
        chance[: reach + 1] = grown
    positive = int(steps[steps > 0].sum())
    return float(min(1.0, chance[positive:].sum()))


def _monte_carlo(sums: NDArray[np.float64], rng: np.random.Generator, draws: int) -> float:
    observed = float(sums.sum())
    slack = 1e-9 * float(np.abs(sums).sum())  # a tie is a hit, whatever the order of the additions
    hits = 0
    step = max(1, _CELLS // sums.size)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        signs = rng.integers(0, 2, size=(rows, sums.size), dtype=np.int8) * np.int8(2) - np.int8(1)
        hits += int(np.count_nonzero(signs @ sums >= observed - slack))
    return (1 + hits) / (draws + 1)

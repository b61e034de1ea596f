"""Agreement of two judges beyond chance: Cohen's kappa (Cohen 1960, Educ. Psychol. Meas. 20:37)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from policies.statistics.binomial import lower
from policies.statistics.interval import Interval


def cohen_kappa(a: Sequence[bool], b: Sequence[bool], confidence: float = 0.95) -> Interval:
    """Kappa of two judges' verdicts on the same items: 1 full agreement, 0 what chance would give.

    Limits from the large-sample variance of Fleiss, Cohen & Everitt (1969, Psychol. Bull. 72:323), taken on the scale
    of log(1 - kappa): symmetric limits of 40 to 100 good verdicts cover .90 to .93 instead of .95, these .94 to .97
    (simulated). Full agreement has no variance: there the lower limit follows from the exact one of the agreement.
    Judges who both give one and the same verdict throughout show nothing: (0, -1, 1, n).

    >>> found = cohen_kappa([True] * 20 + [False] * 20, [True] * 18 + [False] * 20 + [True] * 2)
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.8, 0.493, 0.921)

    Raises ValueError when the numbers of verdicts differ.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} verdicts cannot be compared")
    n = len(a)
    if n == 0:
        return Interval(0.0, -1.0, 1.0, 0)
    first, second = np.asarray(a, dtype=int), np.asarray(b, dtype=int)
    shares = np.bincount(2 * first + second, minlength=4).reshape(2, 2) / n
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    agreed, chance = float(np.trace(shares)), float(rows @ columns)
    if chance >= 1 - 1e-12:
        return Interval(0.0, -1.0, 1.0, n)
    value = (agreed - chance) / (1 - chance)
    if agreed >= 1 - 1e-12:
        return Interval(1.0, (lower(n, n, 0.5 + confidence / 2) - chance) / (1 - chance), 1.0, n)
    # a pair of verdicts (i, j) weighs rows[j] + columns[i], as in equation 13 of the paper
    weights = columns[:, None] + rows[None, :]
    diagonal = float((np.diag(shares) * (1 - np.diag(weights) * (1 - value)) ** 2).sum())
    apart = (1 - value) ** 2 * float(((shares - np.diag(np.diag(shares))) * weights**2).sum())
    variance = (diagonal + apart - (value - chance * (1 - value)) ** 2) / (1 - chance) ** 2 / n
    widen = math.exp(float(ndtri(0.5 + confidence / 2)) * math.sqrt(max(0.0, variance)) / (1 - value))
    return Interval(value, max(-1.0, 1 - (1 - value) * widen), 1 - (1 - value) / widen, n)

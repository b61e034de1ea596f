"""How concentrated a change is: spread over everything, or held by a few heads or directions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def gini(x: ArrayLike) -> float:
    """Gini's coefficient of amounts >= 0 (Gini 1912): 0 all equal, 1 - 1/n all in one. 0.0 when there is nothing.

    Noise alone has one (.41 for the size of Gaussian noise): subtract a placebo's.

    >>> gini([1, 1, 1, 1]), gini([0, 0, 0, 1])
    (0.0, 0.75)
    """
    amounts = np.sort(_amounts(x))
    total = float(amounts.sum())
    if total == 0.0:
        return 0.0
    n = len(amounts)
    return float(2 * (np.arange(1, n + 1) @ amounts) / (n * total) - (n + 1) / n)


def participation_ratio(x: ArrayLike) -> float:
    """The effective number of amounts >= 0, (sum x)^2 / sum x^2 (Bell & Dean 1970), from 1 to n; 0.0 for nothing.

    >>> participation_ratio([1, 1, 1, 0])
    3.0
    """
    amounts = _amounts(x)
    squares = float((amounts**2).sum())
    return float(amounts.sum()) ** 2 / squares if squares else 0.0


def top_share(x: ArrayLike, share: float = 0.1) -> float:
    """The part of the total that the largest `share` of the amounts holds (their number is rounded up), in [0, 1].

    >>> top_share([1] * 9 + [11])
    0.55
    """
    amounts = np.sort(_amounts(x))
    total = float(amounts.sum())
    count = math.ceil(round(share * len(amounts), 9))
    return float(amounts[len(amounts) - count :].sum()) / total if total else 0.0


def effective_rank(singular_values: ArrayLike) -> float:
    """exp of the entropy of the normalised singular values (Roy & Vetterli 2007, EUSIPCO), from 1 to n; 0.0 for none.

    >>> round(effective_rank([2, 2, 2, 0]), 6)
    3.0
    """
    values = _amounts(singular_values)
    total = float(values.sum())
    if total == 0.0:
        return 0.0
    parts = values[values > 0] / total
    return math.exp(-float((parts * np.log(parts)).sum()))


def _amounts(x: ArrayLike) -> NDArray[np.float64]:
    """`x` in one dimension. Raises ValueError when one is negative or not finite."""
    amounts = np.asarray(x, dtype=float).ravel()
    if np.any(amounts < 0) or not np.all(np.isfinite(amounts)):
        raise ValueError("concentration is defined for finite amounts of at least 0")
    return amounts

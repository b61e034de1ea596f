"""Exact limits of a binomial proportion (Clopper & Pearson 1934, Biometrika 26:404)."""

from __future__ import annotations

from scipy.special import betaincinv


def upper(successes: float, n: int, confidence: float = 0.95) -> float:
    """The one-sided upper limit: with this confidence the true rate is not above it. 1.0 without trials.

    Fractional `successes` (a sum of results in [0, 1]) are allowed and make the limit conservative.

    >>> round(upper(0, 300), 5)  # the "rule of three": 0 of 300 is below 1 %
    0.00994
    """
    _check(successes, n)
    if successes >= n:
        return 1.0
    return float(betaincinv(successes + 1, n - successes, confidence))


def lower(successes: float, n: int, confidence: float = 0.95) -> float:
    """The one-sided lower limit: with this confidence the true rate is not below it. 0.0 without trials.

    >>> round(lower(300, 300), 5)
    0.99006
    """
    _check(successes, n)
    if successes <= 0:
        return 0.0
    return float(betaincinv(successes, n - successes + 1, 1 - confidence))


def _check(successes: float, n: int) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes out of {n} trials is impossible")

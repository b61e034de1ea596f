"""How much error the k-th verdict of a daemon's life may spend."""

from __future__ import annotations

import math


def lifetime_alpha(alpha: float, k: int) -> float:
    """The k-th share of `alpha`: a_k = 6 alpha / (pi^2 k^2), whose sum over all k is alpha (k counts from 1).

    However long the daemon runs, the chance that it *ever* promotes a candidate that is no better stays below alpha
    (alpha spending without a horizon, as in Foster & Stine 2008, JRSS B 70:429).

    >>> round(lifetime_alpha(0.05, 1), 4), round(lifetime_alpha(0.05, 10), 6)
    (0.0304, 0.000304)
    """
    if not 0 < alpha < 1 or k < 1:
        raise ValueError(f"alpha must lie in (0, 1) and k start at 1; got alpha={alpha}, k={k}")
    return 6 * alpha / (math.pi**2 * k**2)

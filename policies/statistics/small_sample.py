"""What a percentile bootstrap over few clusters has to add to its limits."""

from __future__ import annotations

import math

from scipy.special import ndtr, stdtrit


def expanded_tail(n: int, confidence: float = 0.95) -> float:
    """The tail probability to read the percentiles at, so that n clusters give limits as wide as Student's t would.

    A bootstrap of n clusters is too narrow by sqrt((n - 1) / n), and knows nothing of t (Hesterberg 2015, The American
    Statistician 69:371, "expanded percentile interval").

    >>> round(expanded_tail(5), 4), round(expanded_tail(100), 4)
    (0.001, 0.0231)

    Raises ValueError below 2 clusters.
    """
    if n < 2:
        raise ValueError("one cluster says nothing about the others")
    return float(ndtr(-math.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.5 + confidence / 2)))

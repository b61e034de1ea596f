"""Wilson's score interval for one proportion of independent trials."""

from __future__ import annotations

import math

from scipy.special import ndtri

from policies.statistics.interval import Interval


def wilson(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """The two-sided score interval of `successes` out of `n` independent trials (Wilson 1927, JASA 22:209).

    `successes` may be fractional when each trial's result is a mean in [0, 1]: the interval is then conservative,
    for such a result varies less than a coin. Without trials nothing is known: value 0, limits 0 and 1.
    Items that share a seed are not independent: use `bootstrap.mean_interval` there.

    >>> i = wilson(81, 263)
    >>> round(i.value, 4), round(i.low, 4), round(i.high, 4)
    (0.308, 0.2553, 0.3662)
    >>> wilson(0, 0)
    Interval(value=0.0, low=0.0, high=1.0, n=0)

    Raises ValueError when the counts are impossible.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes out of {n} trials is impossible")
    if n == 0:
        return Interval(0.0, 0.0, 1.0, 0)
    z = float(ndtri(0.5 + confidence / 2))
    rate = successes / n
    scale = 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # at the edges rounding must not push a limit past the estimate
    return Interval(rate, max(0.0, min(centre - half, rate)), min(1.0, max(centre + half, rate)), n)

"""Is a candidate not worse than its parent by more than delta? Paired, and honest when nothing differs.

The interval is a score interval: a mean difference m is kept while (mean - m) / sqrt(V(m) / n) is inside the normal
limits, V(m) being the second moment of the differences about m. For results on a lattice of step s (s = 1 for
yes/no, 1/k for means of k answers), differences with mean m cannot vary less than s |m| - m^2, and V(m) is never
taken smaller. With yes/no results this is Tango's interval up to how V(m) is estimated (Tango 1998, Stat. Med.
17:891), the same one at zero discordance: +-z^2 / (n + z^2), where a Wald interval would have width 0.

Power at no true difference: Phi(delta / se - z), se^2 = (share of discordant answers) / (n k). With delta .08 and
discordance .32 (both fail 20 %, independent), 240 probes give .71 at one answer each, .93 at two and .997 at four:
ask `required_samples` before choosing n and k. Results of the parent and the candidate sampled with common random
numbers are less discordant, and the interval makes use of that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from policies.statistics.interval import Interval
from policies.statistics.paired import lattice_step

Standing = Literal["non-inferior", "unclear", "worse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NonInferiority:
    """`change` is the mean of candidate - parent (higher is better) with one-sided limits on either side.

    `standing`: "non-inferior" when the lower limit is above -delta; "worse" when it is not and an upper limit (of its
    own confidence, if asked) is below 0; else "unclear", which more answers would settle.
    """

    standing: Standing
    change: Interval
    delta: float


def noninferiority(
    parent: Sequence[float],
    candidate: Sequence[float],
    *,
    delta: float,
    confidence: float = 0.95,
    worse_confidence: float | None = None,
) -> NonInferiority:
    """Compare results in [0, 1] of the same items in the same order (1 = passed). Confidences are one-sided.

    With many comparisons "worse" comes up by chance; give it a higher `worse_confidence` (1 - .05 / comparisons).

    >>> noninferiority([1, 0] * 120, [1, 0] * 120, delta=0.05).standing
    'non-inferior'
    >>> noninferiority([1, 0], [1, 0], delta=0.05).standing  # two items show nothing
    'unclear'

    Raises ValueError when the results cannot be paired or delta is not in (0, 1).
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie in (0, 1), not {delta}")
    change = paired_interval(parent, candidate, confidence=2 * confidence - 1)
    standing: Standing = "unclear"
    if change.n and change.low > -delta:
        standing = "non-inferior"
    elif change.n:
        stricter = paired_interval(parent, candidate, confidence=2 * (worse_confidence or confidence) - 1)
        standing = "worse" if stricter.high < 0 else "unclear"
    return NonInferiority(standing=standing, change=change, delta=delta)


def paired_interval(before: Sequence[float], after: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """The mean of `after - before` with its two-sided score interval (see the module). No items give (0, -1, 1, 0).

    >>> i = paired_interval([1.0] * 100, [1.0] * 100)
    >>> round(i.low, 4), round(i.high, 4)
    (-0.037, 0.037)
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} results before and {len(after)} after cannot be paired")
    if not before:
        return Interval(0.0, -1.0, 1.0, 0)
    first, second = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if min(first.min(), second.min()) < 0 or max(first.max(), second.max()) > 1:
        raise ValueError("results must lie in [0, 1]")
    # off any lattice a small step still keeps the width above 0 when nothing differs
    step = lattice_step(np.concatenate([first, second]).tolist()) or 1 / 60
    differences = second - first
    z = float(ndtri(0.5 + confidence / 2))
    mean = float(differences.mean())
    return Interval(mean, _limit(differences, step, z, -1.0), _limit(differences, step, z, 1.0), int(differences.size))


def required_samples(delta: float, discordance: float, *, power: float = 0.9, confidence: float = 0.95) -> int:
    """Paired answers needed to show non-inferiority at `delta` when nothing changed.

    `discordance` is the share of pairs in which exactly one of the two passed; for independent answers with pass
    rate p it is 2 p (1 - p). k answers to each of n items count as up to n k.

    >>> required_samples(0.05, 0.10, power=0.8)
    248
    >>> required_samples(0.02, 0.10, power=0.8)
    1546
    >>> required_samples(0.08, 0.32, power=0.9)
    429
    """
    if not 0 < delta < 1 or not 0 <= discordance <= 1:
        raise ValueError(f"delta must lie in (0, 1) and discordance in [0, 1]; got {delta}, {discordance}")
    z = float(ndtri(confidence))
    n = discordance * ((z + float(ndtri(power))) / delta) ** 2
    # with no discordance at all the score limit z^2 / (n + z^2) must still come below delta
    return math.ceil(max(n, z * z * (1 - delta) / delta))


def power(n: int, delta: float, discordance: float, *, change: float = 0.0, confidence: float = 0.95) -> float:
    """The chance that `n` paired answers show non-inferiority when the true difference is `change`.

    >>> round(power(240, 0.08, 0.32), 2), round(power(960, 0.08, 0.32), 3)
    (0.71, 0.997)
    """
    error = math.sqrt(max(discordance - change * change, 1e-12) / n)
    return float(ndtr((delta + change) / error - float(ndtri(confidence))))


def _limit(differences: NDArray[np.float64], step: float, z: float, side: float) -> float:
    """The mean farthest to `side` (-1 or 1) that the score test keeps, by bisection."""
    n, mean = differences.size, float(differences.mean())
    square = float((differences**2).mean())

    def kept(m: float) -> bool:
        variance = max(square - 2 * m * mean + m * m, step * abs(m) - m * m, 0.0)
        return (mean - m) ** 2 * n <= z * z * variance

    inside, outside = mean, side
    if kept(outside):
        return outside
    for _ in range(60):
        middle = (inside + outside) / 2
        if kept(middle):
            inside = middle
        else:
            outside = middle
    return outside

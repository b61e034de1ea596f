"""Many tests at once: which of them may be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.stats import false_discovery_control


def benjamini_hochberg(p: Sequence[float], q: float = 0.05) -> list[bool]:
    """Which p-values are discoveries when at most a share `q` of them may be false, in expectation.

    Benjamini & Hochberg 1995 (JRSS B 57:289): valid for independent tests and for tests that rise together.

    >>> benjamini_hochberg([0.01, 0.04, 0.03, 0.5])
    [True, False, False, False]
    >>> benjamini_hochberg([])
    []
    """
    if not p:
        return []
    limit = q * (1 + 1e-12)  # p * tests / rank rounds, and a p-value at the edge is a discovery
    return [bool(adjusted <= limit) for adjusted in false_discovery_control(p)]


def needed_draws(tests: int, q: float = 0.05) -> int:
    """Permutations B for which the smallest p-value, 1 / (B + 1), can pass as the only discovery among `tests`.

    >>> needed_draws(384)
    7679
    """
    return max(1, math.ceil(round(tests / q, 6)) - 1)

"""Evidence that a candidate is better than its parent, which may be looked at and added to at any time.

Bet a share l of the capital on every difference: wealth = prod(1 + l d_t), a test martingale while E[d_t | past] <= 0
and so P(it ever reaches 1/alpha) <= alpha (Ville). Mixing l uniformly over [0, 1] needs no tuning; for yes/no
results it is the uniform mixture likelihood ratio against a fair coin (Waudby-Smith & Ramdas 2024, JRSS B 86:1;
Ramdas et al. 2023, Stat. Sci. 38:576).

The null it tests is the sharp one of the sign-flip test: on each item parent and candidate do equally well. So the
same probes may be answered again in a later cycle, as long as the answers are sampled afresh.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import logsumexp

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_BETS = (_NODES + 1) / 2
_LOG_WEIGHTS = np.log(_WEIGHTS / 2)


@dataclass(frozen=True, slots=True)
class EProcess:
    """The logarithms of the wealths, one per bet. Starts at an e-value of 1.

    >>> round(EProcess().update([1] * 10).value, 2)  # the integral of (1 + l)^10: (2^11 - 1) / 11
    186.09
    """

    logs: tuple[float, ...] = field(default=(0.0,) * len(_BETS), repr=False)

    def update(self, differences: Iterable[float]) -> EProcess:
        """The process after these differences candidate - parent, each in [-1, 1]; their order does not matter."""
        numbers = np.fromiter(differences, dtype=float)
        if numbers.size and not np.all(np.abs(numbers) <= 1):
            raise ValueError("differences must lie in [-1, 1]")
        gain = np.log1p(np.outer(_BETS, numbers)).sum(axis=1)
        return EProcess(tuple((np.asarray(self.logs) + gain).tolist()))

    @property
    def value(self) -> float:
        """The e-value now; above 1/alpha it rejects "no better" at level alpha, whenever one looks."""
        return math.exp(min(700.0, float(logsumexp(np.asarray(self.logs) + _LOG_WEIGHTS))))

    def state(self) -> list[float]:
        """Plain numbers for JSON."""
        return list(self.logs)

    @classmethod
    def restore(cls, state: Iterable[float]) -> EProcess:
        """The process that gave `state`. Raises ValueError when it is not one."""
        logs = tuple(float(x) for x in state)
        if len(logs) != len(_BETS) or not all(math.isfinite(x) for x in logs):
            raise ValueError(f"an e-process has {len(_BETS)} finite numbers, not {len(logs)}")
        return cls(logs)

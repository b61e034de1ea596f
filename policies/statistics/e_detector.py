"""A change detector with a guaranteed average run length to a false alarm.

The mixture Shiryaev-Roberts e-detector (Shin, Ramdas & Rinaldo 2024, NEJSDS 2:229): each component bets l_j that the
observations in [0, 1] now exceed m0, and a new one starts at every step:

    M^j <- (M^j + 1) (1 + l_j (x - m0)),   M = sum_j w_j M^j,   alarm when M >= arl.

M_t - t is a supermartingale while E[x_t | past] <= m0, so the average run length to a false alarm is at least `arl`,
whatever the distribution of x. Dependence that keeps the conditional mean below m0 does no harm; bursts, where a high
observation makes the next ones likely to be high, break that condition: block them (`policies.guard.watch`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CAP = 1e12  # beyond any threshold; keeps the state finite when an alarm is ignored for long


@dataclass(frozen=True, slots=True)
class EDetector:
    """Immutable: `update` returns the detector after the observation.

    `m0` in (0, 1) bounds the mean before the change, `arl` > 1 is the threshold, `rates` are the means after the
    change that the components are tuned to, as odds ratios over m0 (a component for a coin of mean p1 bets
    l = (p1 - m0) / (m0 (1 - m0))).

    >>> detector = EDetector(0.1, 1000.0)
    >>> detector.update(0, 0, 1).alarm, detector.update(*[1] * 8).alarm
    (False, True)
    """

    m0: float
    arl: float
    ratios: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0)
    n: int = 0
    parts: tuple[float, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.m0 < 1:
            raise ValueError(f"m0 must lie in (0, 1), not {self.m0}")
        if not self.arl > 1:
            raise ValueError(f"arl must be above 1, not {self.arl}")
        if not self.ratios or min(self.ratios) <= 1:
            raise ValueError(f"odds ratios must be above 1, not {self.ratios}")
        if not self.parts:
            object.__setattr__(self, "parts", (0.0,) * len(self.ratios))

    @property
    def bets(self) -> NDArray[np.float64]:
        """l_j, each in (0, 1 / m0)."""
        odds = np.asarray(self.ratios) * self.m0 / (1 - self.m0)
        after = odds / (1 + odds)
        return np.asarray((after - self.m0) / (self.m0 * (1 - self.m0)))

    @property
    def value(self) -> float:
        """M now: compare it with `arl`."""
        return sum(self.parts) / len(self.parts)

    @property
    def alarm(self) -> bool:
        """Whether the threshold is reached now."""
        return self.value >= self.arl

    def update(self, *observations: float) -> EDetector:
        """The detector after these observations, each in [0, 1], in order. Raises ValueError outside."""
        parts, bets = np.asarray(self.parts), self.bets
        for x in observations:
            if not 0 <= x <= 1:
                raise ValueError(f"an observation must lie in [0, 1], not {x}")
            parts = np.minimum((parts + 1) * (1 + bets * (x - self.m0)), _CAP)
        return replace(self, n=self.n + len(observations), parts=tuple(parts.tolist()))

    def reset(self) -> EDetector:
        """The same detector before its first observation."""
        return replace(self, n=0, parts=(0.0,) * len(self.ratios))

    def state(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"m0": self.m0, "arl": self.arl, "ratios": list(self.ratios), "n": self.n, "parts": list(self.parts)}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> EDetector:
        """The detector that gave `state`. Raises KeyError or ValueError when it is not one."""
        ratios, parts = tuple(map(float, state["ratios"])), tuple(map(float, state["parts"]))
        if len(ratios) != len(parts):
            raise ValueError(f"a detector with {len(ratios)} components has {len(parts)} values")
        return cls(float(state["m0"]), float(state["arl"]), ratios, int(state["n"]), parts)


def fuse(detectors: Iterable[EDetector]) -> float:
    """The average of several detectors' values, 0.0 of none: again an e-detector, whatever their dependence.

    Detectors that step together keep the guarantee of one; otherwise time counts as their mean number of steps.

    >>> fuse([EDetector(0.5, 10.0), EDetector(0.5, 10.0)])
    0.0
    """
    values = [detector.value for detector in detectors]
    return sum(values) / len(values) if values else 0.0

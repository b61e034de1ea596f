"""The floor under every detector: the delay of the CUSUM that knows both rates (Moustakides 1986, Ann. Stat. 14:1379).

No detector with the same average run length to a false alarm (ARL) has a smaller worst-case delay. The first-order
log(ARL) / KL is 20 to 150 % too long at the sizes used here, so the value is computed exactly.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_LEFT = 1e-11  # share of cycles still undecided below which enumeration stops


def kl(p: float, q: float) -> float:
    """The Kullback-Leibler divergence of a coin of rate p from one of rate q, in nats; rates in (0, 1).

    >>> round(kl(0.3, 0.1), 4)
    0.1537
    """
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def delay(p0: float, p1: float, arl: float) -> float:
    """Observations from the change of rate `p0` to a higher `p1` until the alarm, in the worst case, at this `arl`.

    A threshold on counts reaches only some run lengths; between two of them the better test draws one of the two
    thresholds by lot, and the delay is mixed alike.

    >>> round(delay(0.1, 0.3, 1000), 1)
    25.1

    Raises ValueError unless 0 < p0 < p1 < 1 and arl >= 1 / p0 (below it the test would need no evidence).
    """
    if not 0 < p0 < p1 < 1:
        raise ValueError(f"a rise from {p0} to {p1} is not one between two rates in (0, 1)")
    low = 1e-9
    low_runs = _run_lengths(p0, p1, low)
    if arl < low_runs[0]:
        raise ValueError(f"an ARL of {arl} is below {low_runs[0]:.1f}, that of alarming at the first failure")
    high = math.log(arl) + 1.0  # the overshoot is below 1 step, and ARL >= exp(threshold)
    high_runs = _run_lengths(p0, p1, high)
    while high - low > 1e-3:  # between so close thresholds both run lengths are straight lines
        middle = (low + high) / 2
        runs = _run_lengths(p0, p1, middle)
        if runs[0] < arl:
            low, low_runs = middle, runs
        else:
            high, high_runs = middle, runs
    if high_runs[0] == low_runs[0]:
        return float(high_runs[1])
    share = (arl - low_runs[0]) / (high_runs[0] - low_runs[0])
    return float(low_runs[1] + share * (high_runs[1] - low_runs[1]))


def _run_lengths(p0: float, p1: float, threshold: float) -> NDArray[np.float64]:
    """Mean observations to the alarm at rates p0 and p1, from a sum of 0.

    The sum of log-likelihood ratios falls back to 0 or reaches the threshold: one cycle. By Page (1954, Biometrika
    41:100) the run length is a cycle's mean length divided by its chance to end in the alarm. After s observations a
    sum is known by its number of failures, so one short vector of probabilities per rate is carried from s to s + 1.
    """
    up, down = math.log(p1 / p0), math.log((1 - p1) / (1 - p0))
    rates = np.array([[p0], [p1]])
    alive = np.ones((2, 1))  # chance that the cycle goes on, per number of failures from `first` up
    first, step = 0, 0
    length, alarm = np.zeros(2), np.zeros(2)
    while alive.size and alive.max() > _LEFT:
        length += alive.sum(axis=1)
        moved = np.zeros((2, alive.shape[1] + 1))
        moved[:, :-1] = alive * (1 - rates)
        moved[:, 1:] += alive * rates
        step += 1
        failures = np.arange(first, first + moved.shape[1])
        sums = failures * up + (step - failures) * down
        reached = sums >= threshold - 1e-12
        alarm += moved[:, reached].sum(axis=1)
        going = (sums > 1e-12) & ~reached
        alive = moved[:, going]
        first = int(failures[going][0]) if going.any() else 0
    return length / alarm

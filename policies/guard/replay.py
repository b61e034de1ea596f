"""What the guard's detectors make of recorded cycles: many timelines at once, thresholds of one run length, delays.

A *cycle* is what each channel observed between two training sessions, blocked as the live guard blocks it. Timelines
pass through a pool of cycles in any order and as often as they like, for under one adapter and unchanging traffic these
are exchangeable. All channels share one clock: a cycle has as many *slots* as its longest channel has observations, and
each channel's are spread over them evenly. There is a detector per channel, the guard's own (`EDetector`), and one that
averages them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from policies.guard import watch
from policies.statistics.e_detector import EDetector

Cycle = Mapping[str, Sequence[float]]
DETECTORS = (*watch.CHANNELS, watch.FUSED)
_CAP = 1e12
_CHANNELS = len(watch.CHANNELS)
# which channels a detector averages: its own, or all
_SHARES = np.vstack([np.eye(_CHANNELS), np.full(_CHANNELS, 1 / _CHANNELS)])


def slots(cycles: Sequence[Cycle]) -> int:
    """The slots of a cycle: the most that any channel observed in one, at least 1."""
    return max((len(cycle[channel]) for cycle in cycles for channel in watch.CHANNELS), default=1) or 1


def lay_out(cycles: Sequence[Cycle], slots: int) -> NDArray[np.float64]:
    """(cycles + 1, slots, channels): observations at their time, NaN where there is none; the last cycle is empty.

    >>> lay_out([{"graph": [1.0], "signal": [0.0, 1.0], "probe": []}], 2)[0, :, 1]
    array([0., 1.])
    """
    found = np.full((len(cycles) + 1, slots, _CHANNELS), np.nan)
    for place, cycle in enumerate(cycles):
        for column, channel in enumerate(watch.CHANNELS):
            values = cycle[channel]
            at = [math.ceil((i + 1) / len(values) * slots) - 1 for i in range(len(values))]
            found[place, at, column] = values
    return found


def baselines(cycles: Sequence[Cycle], settings: watch.Settings) -> dict[str, float | None]:
    """m0 of each channel as the guard would set it from the first `settings.wanted` observations; None: too few."""
    found = {}
    for channel in watch.CHANNELS:
        values = [value for cycle in cycles for value in cycle[channel]][: settings.wanted]
        state = watch.calibrate(watch.start(), channel, "", values)
        found[channel] = watch.m0(state, channel, "", settings)
    return found


def run(
    pool: NDArray[np.float64],
    order: NDArray[np.int64],
    m0: Mapping[str, float],
    *,
    thresholds: NDArray[np.float64] | None = None,
    onset: int | None = None,
) -> Iterator[NDArray[np.float64]]:
    """Cycle by cycle the detectors' values, (timelines, slots, detectors).

    `order` (timelines, cycles) picks each timeline's cycles from the `pool`.
    With `thresholds` (detectors,) a detector that reached its own starts anew, as after a rollback; from the cycle
    `onset` on it goes on, for then the first crossing is what counts.
    """
    limits = np.array([m0[channel] for channel in watch.CHANNELS])
    bets = np.stack([EDetector(limit, 2.0).bets for limit in limits])  # (channels, components)
    parts = np.zeros((len(order), len(DETECTORS), _CHANNELS, bets.shape[1]))
    for place in range(order.shape[1]):
        seen = pool[order[:, place]]
        values = np.empty((len(order), seen.shape[1], len(DETECTORS)))
        for slot in range(seen.shape[1]):
            x = seen[:, slot]
            if not np.isnan(x).all():
                grown = (parts + 1) * (1 + bets * (x - limits)[:, None, :, None])
                parts = np.where(np.isnan(x)[:, None, :, None], parts, np.minimum(grown, _CAP))
            values[:, slot] = (parts.mean(axis=3) * _SHARES).sum(axis=2)
            if thresholds is not None and (onset is None or place < onset):
                parts[values[:, slot] >= thresholds] = 0.0
        yield values


def peaks(
    pool: NDArray[np.float64], order: NDArray[np.int64], m0: Mapping[str, float], **how: object
) -> NDArray[np.float64]:
    """(timelines, cycles, detectors): the highest value within each cycle; `how` as for `run`."""
    return np.stack([values.max(axis=1) for values in run(pool, order, m0, **how)], axis=1)  # type: ignore[arg-type]


def thresholds(highest: NDArray[np.float64], arl: float) -> NDArray[np.float64]:
    """Per detector the threshold at which these undisturbed timelines alarm once in `arl` cycles.

    `highest` are `peaks` without thresholds. A run length is cycles watched per first alarm, timelines without one
    counting in full (the rate of an exponential time from censored data).
    """
    reached = np.maximum.accumulate(highest, axis=1)
    low, high = np.full(highest.shape[2], -10.0), np.full(highest.shape[2], math.log(_CAP) + 1)
    for _ in range(50):
        middle = (low + high) / 2
        short = run_lengths(reached, np.exp(middle)) < arl
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return np.asarray(np.exp(high))


def run_lengths(reached: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cycles to a false alarm per detector at thresholds `at`; `reached` is the running maximum of `peaks`."""
    silent = (reached < at).sum(axis=1)  # whole cycles before the first alarm, per timeline
    alarmed = silent < reached.shape[1]
    watched = (silent + alarmed).sum(axis=0)
    return np.asarray(watched / np.maximum(alarmed.sum(axis=0), 1e-9))


def delays(
    pool: NDArray[np.float64],
    order: NDArray[np.int64],
    m0: Mapping[str, float],
    thresholds: NDArray[np.float64],
    onset: int,
) -> NDArray[np.float64]:
    """(timelines, detectors): cycles from the start of cycle `onset` to the alarm, in steps of a slot; inf: none."""
    found = np.full((len(order), len(DETECTORS)), np.inf)
    for place, values in enumerate(run(pool, order, m0, thresholds=thresholds, onset=onset)):
        if place < onset:
            continue
        crossed = values >= thresholds
        at = place - onset + (crossed.argmax(axis=1) + 1) / values.shape[1]
        found = np.where(np.isinf(found) & crossed.any(axis=1), at, found)
    return found


def alarms(
    pool: NDArray[np.float64], order: NDArray[np.int64], m0: Mapping[str, float], thresholds: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Per detector how often it alarmed in all timelines together, starting anew each time."""
    counted = np.zeros(len(DETECTORS), dtype=np.int64)
    for values in run(pool, order, m0, thresholds=thresholds):
        counted += (values >= thresholds).sum(axis=(0, 1))
    return counted

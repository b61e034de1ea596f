"""The dream temperature's controller: hotter when dreams are too easy, cooler when too hard, or the other way round.

u <- clip(u + K (f* - f^)) with K s = .3, s being the local slope of the failure rate on temperature: the loop is stable
for 0 < K s < 2. The slope is estimated, sign included, for whether heat makes dreams harder is an empirical matter;
while its interval holds 0 the temperature is not moved, and seeds' kinds and bands carry the difficulty instead.
The clipped value is what is stored, so nothing winds up while a limit holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

GAIN = 0.3  # K s
DEADBAND = 0.05  # five points
SLEW = 0.15  # the largest step per cycle
EXPLORE = 0.1  # the step either way that makes the slope identifiable
WINDOW = 12  # cycles looked back: the adapter changes, and the slope with it
LEAST = 4  # cycles with a spread of temperatures before the slope is believed


@dataclass(frozen=True, slots=True)
class Decision:
    """The next temperature, and why in words."""

    temperature: float
    reason: str


def next_temperature(
    history: Sequence[tuple[float, float, int]],
    current: float,
    target: float,
    *,
    low: float = 0.3,
    high: float = 1.3,
) -> Decision:
    """Decide from `history`, oldest first: (temperature, failure rate of its dreams, number of dreams judged).

    `current` is the temperature of the last cycle, `target` the failure rate wished for (learning is fastest near
    one half). While all temperatures were alike, small steps either way around the middle are taken so that a slope
    can be seen at all.

    >>> next_temperature([], 0.7, 0.5)
    Decision(temperature=0.7, reason='no dream has been judged yet')
    """
    current = _clip(current, low, high)
    seen = [(t, f, n) for t, f, n in history if n > 0][-WINDOW:]
    if not seen:
        return Decision(current, "no dream has been judged yet")
    failing = seen[-1][1]
    gap = target - failing
    if abs(gap) <= DEADBAND:
        return Decision(current, f"{failing:.0%} of dreams failed: within 5 points of the wished {target:.0%}")
    spread = {round(t, 3) for t, _, _ in seen}
    if len(seen) < LEAST or len(spread) < 2:
        step = EXPLORE if len(seen) % 2 else -EXPLORE
        centre = sum(t for t, _, _ in seen) / len(seen)
        return Decision(_clip(centre + step, low, high), "trying a step: what temperature does is not known yet")
    slope, error = _slope(seen)
    reach = float(ndtri(0.95)) * error
    if slope - reach <= 0 <= slope + reach:
        return Decision(
            current,
            f"frozen: the failure rate's slope on temperature is {slope:+.2f} +- {reach:.2f}, which holds 0",
        )
    step = max(-SLEW, min(SLEW, GAIN / slope * gap))
    wished = current + step
    chosen = _clip(wished, low, high)
    held = "" if chosen == wished else f"; held at the limit {chosen:.2f}"
    return Decision(
        chosen, f"{failing:.0%} of dreams failed, {target:.0%} wished, slope {slope:+.2f}: moved by {step:+.2f}{held}"
    )


def _slope(seen: Sequence[tuple[float, float, int]]) -> tuple[float, float]:
    """Weighted least squares of failure rate on temperature: slope and its standard error.

    The error is the larger of the binomial one and the one the residuals show.
    """
    t, f, n = (np.array(column, dtype=float) for column in zip(*seen, strict=True))
    weight = n / np.maximum(f * (1 - f), 0.05)
    centre = float((weight * t).sum() / weight.sum())
    moment = float((weight * (t - centre) ** 2).sum())
    slope = float((weight * (t - centre) * f).sum() / moment)
    level = float((weight * f).sum() / weight.sum())
    residual = f - level - slope * (t - centre)
    scatter = float((weight * residual**2).sum() / max(1, len(seen) - 2))
    return slope, math.sqrt(max(1.0, scatter) / moment)


def _clip(value: float, low: float, high: float) -> float:
    return min(high, max(low, value))

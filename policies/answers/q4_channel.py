"""What a channel of the guard can know: its failure rates before and after a change, and how bursty they come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from policies.statistics import cusum_bound
from policies.statistics.design_effect import design_effect
from policies.statistics.interval import Interval
from policies.statistics.wilson import wilson

LEAST_RISE = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel's true failure rates: `before` and `after` the change, `per_cycle` observations, `phi` burstiness."""

    before: Interval
    after: Interval
    per_cycle: float
    phi: float

    @property
    def information(self) -> float:
        """Nats a cycle about the change; 0.0 where the rate did not rise."""
        low, high = _coin(self.before.value), _coin(self.after.value)
        return self.per_cycle * cusum_bound.kl(high, low) / self.phi if high > low else 0.0

    @property
    def rise(self) -> Interval:
        """Newcombe's interval of a difference of two rates (1998, Statistics in Medicine 17:873)."""
        before, after = self.before, self.after
        value = after.value - before.value
        down = math.hypot(after.value - after.low, before.high - before.value)
        up = math.hypot(after.high - after.value, before.value - before.low)
        return Interval(value, value - down, value + up, min(before.n, after.n))

    def floor(self, arl: float) -> float | None:
        """The least delay in cycles of any detector with this run length in cycles (Moustakides).

        None where there is none to speak of: a rise of less than a few points takes for ever, to find and to compute.
        """
        speed = self.per_cycle / self.phi
        if self.after.value - self.before.value < LEAST_RISE:
            return None
        try:
            found = cusum_bound.delay(_coin(self.before.value), _coin(self.after.value), arl * speed)
        except ValueError:
            return None
        return found / speed


def channel(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]], cycles: int) -> Channel:
    """From a list per conversation (or probe) of observations, of the healthy and of the degraded adapter.

    `cycles` is how many cycles `before` are. Bursts widen the intervals.
    """
    phi = max(0.25, design_effect(before))
    return Channel(
        before=_rate(before, phi),
        after=_rate(after, phi),
        per_cycle=sum(map(len, before)) / max(1, cycles),
        phi=phi,
    )


def predicted_ratio(graph: Channel, probe: Channel) -> float | None:
    """The graph's delay over the probe's as their information has it; None where the graph learns nothing.

    m KL(p1 || p0) / (n_g KL(q1 || q0) / phi), first order: both detectors wait for the same evidence.
    """
    return probe.information / graph.information if graph.information > 0 else None


def _coin(rate: float) -> float:
    return min(0.995, max(0.005, rate))


def _rate(clusters: Sequence[Sequence[float]], phi: float) -> Interval:
    """Wilson's interval at the effective number of observations."""
    n, total = sum(map(len, clusters)), sum(map(sum, clusters))
    effective = max(1, round(n / phi)) if n else 0
    found = wilson(total / n * effective if n else 0, effective)
    return Interval(found.value, found.low, found.high, n)

"""A trial of the guard's detectors: thresholds of one run length from healthy cycles, then episodes with a change.

Conversations are strangers to each other and so are probes, so timelines are drawn from the recorded cycles one of
them at a time: what few cycles happened to look like as wholes decides nothing. An episode's change comes after a
random number of recorded healthy cycles, so that a detector meets it in whatever state it happens to be.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.guard import replay, watch
from policies.guard.replay import Cycle

QUIET = (5, 25)  # healthy cycles before a change, from ... to
TIMELINES = 200  # drawn ones
DRAWN = 2000  # cycles that they pass through
HORIZON = 40  # cycles of a drawn episode


class Trial:
    """Detectors with the baseline that the guard would take from `healthy` cycles, at `slots` a cycle.

    `arl` is the run length in cycles that all of them are held to: as many cycles as were recorded, for that is what
    these can show. Raises ValueError, naming it, when a channel has too few observations for a baseline.
    """

    def __init__(self, healthy: Sequence[Cycle], slots: int, seed: int) -> None:
        self.healthy = list(healthy)
        self.slots = slots
        self.seed = seed
        limits = replay.baselines(self.healthy, watch.Settings())
        if unarmed := [name for name, limit in limits.items() if limit is None]:
            raise ValueError(unarmed[0])
        self.m0 = {name: limit for name, limit in limits.items() if limit is not None}
        self.arl = float(len(self.healthy))
        rng = self._rng("thresholds")
        order = rng.integers(0, DRAWN, size=(TIMELINES, max(50, 3 * len(self.healthy))))
        self._highest = replay.peaks(self._shuffled(self.healthy, rng), order, self.m0)
        self.thresholds = self.at(self.arl)

    def at(self, arl: float) -> NDArray[np.float64]:
        """Per detector the threshold of this run length in cycles."""
        return replay.thresholds(self._highest, arl)

    def run_lengths(self, cycles: Sequence[Cycle]) -> list[float]:
        """Per detector the cycles to an alarm of timelines drawn from `cycles`, at the thresholds of `arl`."""
        rng = self._rng("run lengths")
        order = rng.integers(0, DRAWN, size=(TIMELINES, max(50, 3 * len(self.healthy))))
        highest = replay.peaks(self._shuffled(cycles, rng), order, self.m0)
        return replay.run_lengths(np.maximum.accumulate(highest, axis=1), self.thresholds).tolist()  # type: ignore[no-any-return]

    def alarms(self, cycles: Sequence[Cycle] | None = None, thresholds: NDArray[np.float64] | None = None) -> list[int]:
        """How often each detector alarms in these cycles, one after the other; by default in the healthy ones."""
        pool = self._pool(*(cycles or ()))
        start = len(self.healthy) if cycles is not None else 0
        order = np.arange(start, len(pool) - 1)[None]
        found = replay.alarms(pool, order, self.m0, self.thresholds if thresholds is None else thresholds)
        return [int(count) for count in found]

    def delays(self, episodes: Sequence[Sequence[Cycle]]) -> NDArray[np.float64]:
        """(episodes, detectors): cycles from the change to the alarm, inf where the episode ends without one."""
        pool, order = self._laid_out(episodes)
        return replay.delays(pool, order, self.m0, self.thresholds, QUIET[1])

    def drawn(self, degraded: Sequence[Cycle], thresholds: NDArray[np.float64]) -> list[float]:
        """Mean delays of many episodes drawn from `degraded` cycles, restricted to `HORIZON` cycles.

        The change comes as the watch begins, which is the worst time for these detectors: they have gathered nothing.
        So these are the delays that the floor of `cusum_bound` is below.
        """
        rng = self._rng("drawn")
        order = rng.integers(0, DRAWN, size=(TIMELINES, HORIZON))
        found = replay.delays(self._shuffled(degraded, rng), order, self.m0, thresholds, 0)
        return [float(mean) for mean in np.minimum(found, HORIZON).mean(axis=0)]

    def timeline(self, episodes: Sequence[Sequence[Cycle]], which: int) -> Mapping[str, Any]:
        """One episode for a figure: the onset, and per channel its values, threshold and alarm; time in cycles."""
        pool, order = self._laid_out(episodes)
        row = order[which : which + 1]
        watched = np.flatnonzero(row[0] >= 0)
        alarm = replay.delays(pool, row, self.m0, self.thresholds, QUIET[1])[0]
        highest = replay.peaks(pool, row, self.m0, thresholds=self.thresholds, onset=QUIET[1])[0]
        onset = int(np.count_nonzero(watched < QUIET[1]))
        return {
            "onset": onset,
            "channels": [
                {
                    "name": name,
                    "x": list(range(1, len(watched) + 1)),
                    "values": highest[watched, place].tolist(),
                    "threshold": float(self.thresholds[place]),
                    "alarm": onset + float(alarm[place]) if np.isfinite(alarm[place]) else None,
                }
                for place, name in enumerate(replay.DETECTORS)
                if name != watch.FUSED
            ],
        }

    def _laid_out(self, episodes: Sequence[Sequence[Cycle]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The pool with the episodes' cycles behind the healthy ones, and the order in which each passes through it."""
        longest = max(map(len, episodes), default=0)
        order = np.full((len(episodes), QUIET[1] + longest), -1)
        at = len(self.healthy)
        for episode, cycles in enumerate(episodes):
            order[episode, : QUIET[1]] = self._before(episode)
            order[episode, QUIET[1] : QUIET[1] + len(cycles)] = range(at, at + len(cycles))
            at += len(cycles)
        return self._pool(*(cycle for cycles in episodes for cycle in cycles)), order

    def _before(self, episode: int) -> NDArray[np.int64]:
        """Which healthy cycles precede an episode's change; -1 is before the watch began."""
        rng = self._rng(f"onset {episode}")
        quiet = int(rng.integers(QUIET[0], QUIET[1] + 1))
        order = np.full(QUIET[1], -1)
        order[QUIET[1] - quiet :] = rng.integers(0, len(self.healthy), size=quiet)
        return order

    def _shuffled(self, cycles: Sequence[Cycle], rng: np.random.Generator) -> NDArray[np.float64]:
        """`DRAWN` cycles of these ones' conversations and probes, as many in each as some recorded cycle had."""
        talks = [pair for c in cycles for pair in zip(c["signal"], c["graph"], strict=True)]
        probes = [value for c in cycles for value in c["probe"]]
        drawn: list[Cycle] = []
        for which in rng.integers(0, len(cycles), size=DRAWN):
            some = [talks[i] for i in rng.integers(0, len(talks), size=len(cycles[which]["signal"]))] if talks else []
            drawn.append(
                {
                    "signal": [signal for signal, _ in some],
                    "graph": [graph for _, graph in some],
                    "probe": [probes[i] for i in rng.integers(0, len(probes), size=len(cycles[which]["probe"]))],
                }
            )
        return replay.lay_out(drawn, self.slots)

    def _pool(self, *more: Cycle) -> NDArray[np.float64]:
        return replay.lay_out([*self.healthy, *more], self.slots)

    def _rng(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])

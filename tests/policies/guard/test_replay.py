"""Replaying recorded cycles: the guard's own detectors, one run length for all, delays counted from the change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from policies.guard import replay, watch
from policies.guard.replay import DETECTORS, Cycle
from policies.guard.trial import Trial
from policies.statistics.e_detector import EDetector, fuse

RATES = {"graph": 0.2, "signal": 0.15, "probe": 0.25}
WORSE = {"graph": 0.6, "signal": 0.5, "probe": 0.6}
COUNTS = {"graph": 4, "signal": 4, "probe": 6}


def cycles(rng: np.random.Generator, count: int, rates: dict[str, float], times: int = 1) -> list[Cycle]:
    """Cycles of coins."""
    return [
        {name: rng.binomial(1, rates[name], times * COUNTS[name]).astype(float).tolist() for name in watch.CHANNELS}
        for _ in range(count)
    ]


def values(pool: Sequence[Cycle], m0: dict[str, float]) -> np.ndarray:
    """Detectors' values at the end of every slot, of one timeline through the pool."""
    laid = replay.lay_out(pool, replay.slots(pool))
    return np.concatenate([v[0] for v in replay.run(laid, np.arange(len(pool))[None], m0)])


def test_replaying_is_the_guards_own_detector() -> None:
    """After the same observations every detector's value is that of EDetector, and the fused one their average."""
    pool = cycles(np.random.default_rng(0), 20, RATES)
    m0 = {"graph": 0.3, "signal": 0.25, "probe": 0.35}
    found = values(pool, m0)[-1]
    kept = [EDetector(m0[name], 100.0).update(*(x for c in pool for x in c[name])) for name in watch.CHANNELS]
    assert found[:3] == pytest.approx([detector.value for detector in kept])
    assert found[3] == pytest.approx(fuse(kept))


def test_observations_keep_their_time() -> None:
    """A cycle's observations are spread over its slots; an empty cycle leaves every value as it was."""
    laid = replay.lay_out([{"graph": [1.0, 0.0], "signal": [], "probe": [1.0] * 4}], 4)
    assert laid.shape == (2, 4, 3) and np.isnan(laid[1]).all() and np.isnan(laid[0, :, 1]).all()
    assert laid[0, [1, 3], 0].tolist() == [1.0, 0.0] and np.isnan(laid[0, [0, 2], 0]).all()
    order = np.array([[0, -1]])
    first, second = replay.run(laid, order, {"graph": 0.3, "signal": 0.3, "probe": 0.3})
    assert (second == first[:, -1:]).all()


def test_thresholds_give_every_detector_the_same_run_length() -> None:
    """In fresh healthy cycles about 1 - exp(-1) of the timelines of one run length's length have alarmed.

    Within the binomial interval of 200 timelines, widened a little for the finite pool the thresholds come from.
    """
    rng = np.random.default_rng(1)
    trial = Trial(cycles(rng, 400, RATES)[:400], 6, seed=0)
    thresholds = trial.at(50.0)
    fresh = cycles(rng, 2000, RATES)
    order = rng.integers(0, 2000, size=(200, 50))
    reached = replay.peaks(replay.lay_out(fresh, 6), order, trial.m0).max(axis=1) >= thresholds
    assert reached.mean(axis=0) == pytest.approx([1 - np.exp(-1)] * len(DETECTORS), abs=0.13)


def test_a_detector_starts_anew_after_a_false_alarm_but_not_after_the_change() -> None:
    """Before the onset a crossing resets the detector that crossed, and only it; afterwards values are kept."""
    bad: Cycle = {"graph": [1.0] * 4, "signal": [0.0] * 4, "probe": [0.0] * 4}
    laid = replay.lay_out([bad], 4)
    m0 = dict.fromkeys(watch.CHANNELS, 0.2)
    limits = np.array([5.0, 5.0, 5.0, 1e9])
    order = np.array([[0, 0]])
    quiet = np.concatenate([v[0] for v in replay.run(laid, order, m0, thresholds=limits)])
    late = np.concatenate([v[0] for v in replay.run(laid, order, m0, thresholds=limits, onset=0)])
    first = int(np.flatnonzero(quiet[:, 0] >= 5)[0])
    assert quiet[first + 1, 0] < quiet[first, 0] and (np.diff(late[:, 0]) > 0).all()
    assert quiet[:, 3].tolist() == late[:, 3].tolist()
    assert replay.alarms(laid, order, m0, limits)[0] == (quiet[:, 0] >= 5).sum() > 1


def test_delays_are_counted_from_the_change() -> None:
    """A change that cannot be missed is noticed within its first cycle, whenever it comes; without one nothing is."""
    rng = np.random.default_rng(2)
    trial = Trial(cycles(rng, 100, RATES), 12, seed=0)
    awful = cycles(rng, 12, dict.fromkeys(watch.CHANNELS, 1.0), times=2)
    found = trial.delays([awful[:4], awful[4:8], awful[8:]])
    assert (found > 0).all() and (found <= 2).all() and len({tuple(row) for row in found.tolist()}) > 1
    quiet = trial.delays([cycles(rng, 4, dict.fromkeys(watch.CHANNELS, 0.0))] * 3)
    assert np.isinf(quiet).all()


def test_more_traffic_raises_no_more_alarms_than_its_observations_allow() -> None:
    """Twice as many observations at the same rates: alarms stay as rare as the run length says, twice over."""
    rng = np.random.default_rng(3)
    trial = Trial(cycles(rng, 400, RATES), 12, seed=0)  # enough for the pool's rates to be the true ones
    counts = trial.alarms(cycles(rng, 800, RATES, times=2))
    assert max(counts) <= 4 + 3 * np.sqrt(4)
    assert min(trial.alarms(cycles(rng, 100, WORSE))) > 10


def test_too_few_observations_are_no_baseline() -> None:
    """The channel that lacks them is named."""
    few = [{"graph": [0.0], "signal": [0.0] * 9, "probe": [0.0] * 9} for _ in range(5)]
    with pytest.raises(ValueError, match="graph"):
        Trial(few, 9, seed=0)


def test_an_episodes_timeline_shows_when_each_alarmed() -> None:
    """Values rise above the threshold where the alarm stands, after the onset; times are in cycles watched."""
    rng = np.random.default_rng(4)
    trial = Trial(cycles(rng, 100, RATES), 6, seed=0)
    told = trial.timeline([cycles(rng, 20, WORSE)], 0)
    assert [c["name"] for c in told["channels"]] == list(watch.CHANNELS)
    for channel in told["channels"]:
        assert len(channel["x"]) == len(channel["values"]) == told["onset"] + 20
        assert channel["alarm"] > told["onset"]
        assert channel["values"][int(np.ceil(channel["alarm"])) - 1] >= channel["threshold"]


def test_drawn_run_lengths_tell_traffic_that_changed() -> None:
    """Timelines drawn from like cycles run about as long as was set; from worse ones far shorter."""
    rng = np.random.default_rng(3)
    trial = Trial(cycles(rng, 60, RATES), max(COUNTS.values()), seed=0)
    same, worse = trial.run_lengths(cycles(rng, 60, RATES)), trial.run_lengths(cycles(rng, 60, WORSE))
    assert all(length > trial.arl / 4 for length in same)
    assert all(length < trial.arl / 10 for length in worse)

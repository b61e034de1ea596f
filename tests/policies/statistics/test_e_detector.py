"""The e-detector's guarantee and its speed."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.statistics.e_detector import EDetector, fuse


def _run_lengths(p, m0, arl, *, runs, longest, seed):
    """Steps to the alarm for many independent streams at once, with the detector's own bets."""
    detector = EDetector(m0, arl)
    rng = np.random.default_rng(seed)
    parts = np.zeros((runs, len(detector.ratios)))
    lengths = np.full(runs, longest)
    for step in range(1, longest + 1):
        x = (rng.random(runs) < p)[:, None]
        parts = (parts + 1) * (1 + detector.bets * (x - m0))
        new = (parts.mean(axis=1) >= arl) & (lengths == longest)
        lengths[new] = step
        if (lengths < longest).all():
            break
    return lengths


@pytest.mark.parametrize(
    ("p0", "p1", "floor"),
    [
        (0.05, 0.15, 43.8),
        (0.05, 0.30, 13.7),
        (0.10, 0.20, 62.2),
        (0.10, 0.30, 25.1),
        (0.10, 0.50, 9.8),
        (0.20, 0.40, 34.4),
    ],
)
def test_delay_is_near_the_floor(p0, p1, floor):
    """From a standing start at ARL 1,000 the mean delay is 1.15-1.45 times the exact CUSUM floor of the protocol."""
    delay = _run_lengths(p1, p0, 1000.0, runs=2000, longest=2000, seed=1).mean()
    assert 1.15 <= delay / floor <= 1.45


@pytest.mark.parametrize("m0", [0.05, 0.1, 0.3])
def test_average_run_length_is_kept(m0):
    """Without a change the mean time to an alarm is at least the threshold."""
    lengths = _run_lengths(m0, m0, 200.0, runs=600, longest=4000, seed=2)
    # runs cut at 4,000 only make the mean smaller
    assert lengths.mean() >= 200


def test_run_length_holds_for_fractional_observations():
    """The guarantee needs the mean only: means of conversations in [0, 1] keep it, too."""
    rng = np.random.default_rng(3)
    lengths = []
    for _ in range(150):
        detector, n = EDetector(0.2, 100.0), 0
        while not detector.alarm and n < 1500:
            detector = detector.update(float(rng.beta(0.4, 1.6)))
            n += 1
        lengths.append(n)
    assert np.mean(lengths) >= 100


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(0, 60))
def test_state_survives_json(observations, cut):
    """Saving and restoring in the middle changes nothing."""
    cut = min(cut, len(observations))
    whole = EDetector(0.2, 50.0).update(*observations)
    first = EDetector(0.2, 50.0).update(*observations[:cut])
    assert EDetector.restore(json.loads(json.dumps(first.state()))).update(*observations[cut:]) == whole


def test_matches_the_recursion_by_hand():
    """Two steps by hand: M = (M + 1)(1 + l (x - m0)) with l tuned to odds twice m0's."""
    detector = EDetector(0.5, 10.0, ratios=(2.0,))
    bet = (2 / 3 - 0.5) / 0.25
    first = 1 + bet * 0.5
    assert detector.update(1).value == pytest.approx(first)
    assert detector.update(1, 0).value == pytest.approx((first + 1) * (1 - bet * 0.5))


def test_a_long_ignored_alarm_stays_finite():
    """Thousands of failures after the alarm leave a finite value that JSON can hold."""
    detector = EDetector(0.1, 1000.0).update(*[1.0] * 5000)
    assert detector.alarm and np.isfinite(detector.value)


def test_reset_forgets():
    """After a reset the detector is new."""
    assert EDetector(0.1, 9.0).update(1, 1).reset() == EDetector(0.1, 9.0)


@pytest.mark.parametrize(
    ("m0", "arl", "ratios"), [(0, 10, (2.0,)), (1, 10, (2.0,)), (0.1, 1, (2.0,)), (0.1, 10, (1.0,))]
)
def test_impossible_settings_are_refused(m0, arl, ratios):
    """A baseline of 0 or 1, a threshold of 1 or a bet on no change are mistakes."""
    with pytest.raises(ValueError, match="must"):
        EDetector(m0, arl, ratios)


@pytest.mark.parametrize("x", [-0.1, 1.1, float("nan")])
def test_observations_outside_are_refused(x):
    """An observation outside [0, 1], or NaN, raises."""
    with pytest.raises(ValueError, match="observation"):
        EDetector(0.1, 10.0).update(x)


def test_fusing_averages():
    """The fused value is the mean of the values."""
    one, two = EDetector(0.1, 9.0).update(1), EDetector(0.1, 9.0)
    assert fuse([one, two]) == pytest.approx(one.value / 2)

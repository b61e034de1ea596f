"""The temperature controller, on simulated dreamers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.dream.temperature import SLEW, next_temperature


def _simulate(slope, level, cycles=30, n=256, seed=0, start=0.7, target=0.5):
    """A dreamer whose failure rate is a line in temperature; returns the temperatures used."""
    rng = np.random.default_rng(seed)
    history, now = [], start
    for _ in range(cycles):
        failing = rng.binomial(n, min(0.98, max(0.02, level + slope * (now - 0.7)))) / n
        history.append((now, failing, n))
        now = next_temperature(history, now, target).temperature
    return history


@pytest.mark.parametrize(("slope", "goal"), [(0.6, 0.95), (-0.6, 0.45)])
def test_it_finds_the_target_whatever_the_sign(slope, goal):
    """Dreams fail 35 %: with heat making them harder it heats, with heat making them easier it cools, and settles."""
    for seed in range(5):
        late = [failing for _, failing, _ in _simulate(slope, 0.35, seed=seed)[-8:]]
        assert np.mean(late) == pytest.approx(0.5, abs=0.08)


def test_it_freezes_where_temperature_does_nothing():
    """With no effect of temperature it stops moving, and says why."""
    history = [(t, f, 64) for t, f in [(0.7, 0.3), (0.8, 0.31), (0.6, 0.3), (0.8, 0.29), (0.6, 0.31)]]
    decision = next_temperature(history, 0.6, 0.5)
    assert decision.temperature == 0.6 and "frozen" in decision.reason


def test_it_rests_within_the_deadband():
    """Within five points of the target nothing moves."""
    assert next_temperature([(0.7, 0.46, 64)], 0.7, 0.5).temperature == 0.7


def test_it_explores_before_it_believes():
    """While all temperatures were alike it takes a small step, so that a slope can be seen at all."""
    decision = next_temperature([(0.7, 0.2, 64)], 0.7, 0.5)
    assert decision.temperature != 0.7 and "not known" in decision.reason


def test_it_does_not_wind_up_at_the_limit():
    """After many cycles at a limit it leaves it at once when dreams become too hard."""
    history = [(1.0 + 0.1 * min(i, 3), 0.1 + 0.05 * min(i, 3), 256) for i in range(10)]
    assert next_temperature(history, 1.3, 0.5).temperature == 1.3
    assert next_temperature([*history, (1.3, 0.65, 256)], 1.3, 0.5).temperature < 1.3


@given(
    st.lists(st.tuples(st.floats(0.3, 1.3), st.floats(0, 1), st.integers(0, 200)), max_size=15),
    st.floats(0.05, 2),
    st.floats(0.05, 0.95),
)
def test_it_stays_in_bounds_and_moves_slowly(history, current, target):
    """Whatever happened, the temperature stays within its limits; a believed slope moves it by the slew limit."""
    decision = next_temperature(history, current, target)
    assert 0.3 <= decision.temperature <= 1.3 and decision.reason
    if "moved" in decision.reason:
        assert abs(decision.temperature - min(1.3, max(0.3, current))) <= SLEW + 1e-9

"""Steerability."""

import numpy as np
import pytest
from scipy import stats

from policies.statistics.signal_slope import share_backwards, slope_interval

STRENGTHS = (-2, -1, 0, 1, 2)


def _items(rng, mean=0.1, spread=0.15, n=40):
    slopes = rng.normal(mean, spread, size=n)
    return slopes[:, None] * np.array(STRENGTHS) + rng.normal(0, 0.3, size=(n, 5))


def test_the_value_is_the_mean_of_scipys_slopes():
    """Each item's slope is that of a straight line through its propensities."""
    rng = np.random.default_rng(0)
    matrix = _items(rng)
    slopes = [stats.linregress(STRENGTHS, row).slope for row in matrix]
    assert slope_interval(STRENGTHS, matrix, rng).value == pytest.approx(np.mean(slopes))
    assert share_backwards(STRENGTHS, matrix).value == pytest.approx(np.mean(np.array(slopes) < 0))


def test_the_interval_covers():
    """At the protocol's 40 scenarios the limits hold the mean slope in 95 % of 300 simulations."""
    rng = np.random.default_rng(1)
    hits = sum(0.1 in slope_interval(STRENGTHS, _items(rng), rng) for _ in range(300))
    assert hits >= stats.binom.ppf(0.001, 300, 0.95)


def test_an_item_that_stays_is_not_backwards():
    """Rounding in a constant item is no movement."""
    assert share_backwards(STRENGTHS, [[0.1] * 5, [0.3] * 5, [2, 1, 0, -1, -2]]).value == pytest.approx(1 / 3)


def test_no_items_say_nothing():
    """An empty matrix gives open limits."""
    assert slope_interval(STRENGTHS, np.empty((0, 5)), np.random.default_rng(0)).n == 0
    assert share_backwards(STRENGTHS, []).high == 1.0


@pytest.mark.parametrize(
    ("strengths", "matrix"), [((1, 1), [[0, 1]]), ((0, 1), [[0, 1, 2]]), ((0, 1), [[0, np.nan]]), ((0, 1), [0, 1])]
)
def test_no_slope(strengths, matrix):
    """One strength, rows of another length, missing values, and a row in place of a matrix raise."""
    with pytest.raises(ValueError, match="strengths"):
        slope_interval(strengths, matrix, np.random.default_rng(0))

"""Limits of positive quantities over few clusters."""

import math

import numpy as np
import pytest
from scipy import stats

from policies.statistics.log_scale import log_scale_interval


def _means(values, rng):
    return values[rng.integers(0, len(values), size=(400, len(values)))].mean(axis=1)


@pytest.mark.parametrize("n", [5, 20])
def test_it_covers_skewed_means(n):
    """Means of 5 and of 20 log-normal values: the limits cover in 95 % of 300 simulations, percentiles do not at 5."""
    rng = np.random.default_rng(0)
    hits = plain = 0
    for _ in range(300):
        values = np.exp(0.3 * rng.normal(size=n))
        again = _means(values, rng)
        hits += math.exp(0.045) in log_scale_interval(float(values.mean()), again, n)
        low, high = np.quantile(again, [0.025, 0.975])
        plain += low <= math.exp(0.045) <= high
    assert hits >= stats.binom.ppf(0.001, 300, 0.95)
    assert n > 5 or plain < stats.binom.ppf(0.001, 300, 0.95)


def test_it_is_students_interval_of_the_logarithm():
    """Of geometric means it is the t interval of the mean logarithm, but for the simulation's error."""
    rng = np.random.default_rng(1)
    logs = rng.normal(size=12)
    found = log_scale_interval(math.exp(logs.mean()), np.exp(_means(logs, rng)), 12)
    expected = stats.t.interval(0.95, 11, loc=logs.mean(), scale=logs.std(ddof=1) / math.sqrt(12))
    assert (math.log(found.low), math.log(found.high)) == pytest.approx(expected, abs=0.1)


def test_what_is_infinite_stays_so():
    """More than 2.5 % of resamples infinite, or 0: that limit is too, and the other is a number."""
    rng = np.random.default_rng(2)
    draws = rng.uniform(1, 2, size=100)
    open_above = log_scale_interval(1.5, [*draws, *[math.inf] * 5], 10)
    open_below = log_scale_interval(1.5, [*draws, *[0.0] * 5], 10)
    assert open_above.high == math.inf and 0 < open_above.low < 1.5
    assert open_below.low == 0.0 and 1.5 < open_below.high < math.inf
    assert log_scale_interval(1.5, [*draws, math.inf], 10).high < math.inf


@pytest.mark.parametrize(("draws", "n"), [([1.0, 2.0], 1), ([math.inf] * 9, 9), ([], 9)])
def test_nothing_to_go_by(draws, n):
    """One cluster, or no finite resample, leaves both limits open."""
    found = log_scale_interval(1.5, draws, n)
    assert (found.low, found.high) == (0.0, math.inf)

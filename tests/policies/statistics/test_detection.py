"""Detection delays and their ratio."""

import numpy as np
import pytest
from scipy import stats

from policies.statistics.detection import delay_interval, ratio_interval

HORIZON = 80


def _restricted(rate):
    """The mean of min(geometric delay, HORIZON): the sum of the chances to be silent so long."""
    return ((1 - rate) ** np.arange(HORIZON)).sum()


def test_the_value_is_the_area_under_scipys_curve():
    """Kaplan and Meier's survival function, ties and censoring included, integrated up to the horizon."""
    rng = np.random.default_rng(0)
    delays, ends = rng.geometric(0.1, size=60), rng.integers(5, 25, size=60)
    seen, lost = np.minimum(delays, ends), delays > ends
    curve = stats.ecdf(stats.CensoredData(uncensored=seen[~lost], right=seen[lost])).sf
    grid = np.arange(0, 20)
    expected = curve.evaluate(grid).sum()  # times are whole numbers: the curve is constant in between
    assert delay_interval(seen, lost, rng, horizon=20).value == pytest.approx(expected)


def test_without_censoring_it_is_the_mean():
    """Every alarm heard, or all episodes cut at one length: the plain mean."""
    rng = np.random.default_rng(1)
    assert delay_interval([3, 5, 10], [False] * 3, rng).value == pytest.approx(6)
    assert delay_interval([3, 5, 10, 10], [False, False, True, True], rng).value == pytest.approx(7)
    assert delay_interval([3, 5, 100], [False] * 3, rng, horizon=10).value == pytest.approx(6)


@pytest.mark.parametrize("shortest", [HORIZON, 20])
def test_the_interval_covers(shortest):
    """50 episodes, also such as end early at random: the limits hold the restricted mean in 95 % of 300 simulations."""
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        delays, ends = rng.geometric(0.05, size=50), rng.integers(shortest, 200, size=50)
        hits += _restricted(0.05) in delay_interval(np.minimum(delays, ends), delays > ends, rng, horizon=HORIZON)
    assert hits >= stats.binom.ppf(0.001, 300, 0.95)


def test_ignoring_censoring_would_be_too_short():
    """The mean of what was seen is far below the true mean when many episodes end early; the curve is not."""
    rng = np.random.default_rng(3)
    delays, ends = rng.geometric(0.05, size=2000), rng.integers(1, 50, size=2000)
    seen, lost = np.minimum(delays, ends), delays > ends
    assert seen.mean() < 0.8 * (0.95 ** np.arange(40)).sum()
    assert delay_interval(seen, lost, rng, horizon=40).value == pytest.approx((0.95 ** np.arange(40)).sum(), rel=0.06)


def test_the_ratio_covers():
    """Two detectors in 50 shared episodes: the limits hold the true ratio in 95 % of 300 simulations."""
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(300):
        shared = rng.random(50)
        fast = np.where(rng.random(50) < 0.5, shared, rng.random(50))
        slow = stats.geom.ppf(shared, 0.05), stats.geom.ppf(fast, 0.1)
        a, b = (np.minimum(d, HORIZON) for d in slow)
        hits += _restricted(0.05) / _restricted(0.1) in ratio_interval(a, b, rng)
    assert hits >= stats.binom.ppf(0.001, 300, 0.95)


def test_pairing_narrows_the_ratio():
    """A detector always half as late as another, in episodes that differ widely, has a ratio without spread."""
    rng = np.random.default_rng(5)
    delays = rng.geometric(0.05, size=30)
    got = ratio_interval(delays, 2 * delays, rng)
    assert (got.value, got.low, got.high, got.n) == (0.5, pytest.approx(0.5), pytest.approx(0.5), 30)


def test_no_delay_below_the_line_is_infinite():
    """Dividing by a delay of 0 gives infinity, no episodes give open limits, and neither gives NaN."""
    rng = np.random.default_rng(6)
    assert ratio_interval([1, 2], [0, 0], rng).high == float("inf")
    assert ratio_interval([], [], rng).high == delay_interval([], [], rng).high == float("inf")


def test_what_is_no_delay_raises():
    """Unequal lengths and negative or infinite delays are errors."""
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="paired"):
        ratio_interval([1], [1, 2], rng)
    with pytest.raises(ValueError, match="marks"):
        delay_interval([1], [], rng)
    with pytest.raises(ValueError, match="at least 0"):
        delay_interval([-1], [False], rng)
    with pytest.raises(ValueError, match="finite"):
        ratio_interval([float("inf")], [1], rng)

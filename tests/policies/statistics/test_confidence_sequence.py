"""Limits of a mean that may be looked at after every result."""

import numpy as np
import pytest
from scipy import stats

from policies.statistics.confidence_sequence import confidence_sequence
from policies.statistics.interval import Interval
from policies.statistics.wilson import wilson

LOOKS = (5, 10, 20, 40, 80, 120, 160, 200, 250, 300)


@pytest.mark.parametrize("kind", ["rare", "even", "graded"])
def test_it_covers_at_all_looks_at_once(kind):
    """Ten looks at 300 results: all ten limits hold the mean in 95 % of 150 simulations, whatever the results."""
    rng = np.random.default_rng(0)
    draw, mean = {
        "rare": (lambda: rng.random(300) < 0.05, 0.05),
        "even": (lambda: rng.random(300) < 0.5, 0.5),
        "graded": (lambda: rng.beta(2, 5, size=300), 2 / 7),
    }[kind]
    covered = 0
    for _ in range(150):
        x = draw().astype(float)
        covered += all(mean in confidence_sequence(x[:n]) for n in LOOKS)
    assert covered >= stats.binom.ppf(0.001, 150, 0.95)


def test_looking_often_breaks_wilsons_interval():
    """The control: limits for one look, looked at ten times, miss far more than 5 %."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(150):
        x = rng.random(300) < 0.5
        covered += all(0.5 in wilson(int(x[:n].sum()), n) for n in LOOKS)
    assert covered < stats.binom.ppf(0.001, 150, 0.95)


def test_it_narrows():
    """1,000 results of which 30 % fail: the limits are less than three times as wide as one look's."""
    x = (np.random.default_rng(2).random(1000) < 0.3).astype(float)
    got, once = confidence_sequence(x), wilson(int(x.sum()), 1000)
    assert got.low <= once.low < got.value < once.high <= got.high
    assert got.high - got.low < 3 * (once.high - once.low)


def test_small_variance_narrows_more():
    """Results near .5 that hardly vary are known far better than coins: the bets follow the variance."""
    rng = np.random.default_rng(3)
    steady, coins = confidence_sequence(rng.uniform(0.45, 0.55, 400)), confidence_sequence(rng.random(400) < 0.5)
    assert steady.high - steady.low < 0.5 * (coins.high - coins.low)


def test_it_is_symmetric():
    """Failures counted as successes give the mirrored limits."""
    x = (np.random.default_rng(4).random(100) < 0.2).astype(float)
    one, other = confidence_sequence(x), confidence_sequence(1 - x)
    assert (1 - other.high, 1 - other.low) == pytest.approx((one.low, one.high))


def test_all_alike_stay_possible():
    """Nothing but zeros leaves 0 within the limits and an upper limit that falls with their number."""
    few, many = confidence_sequence([0] * 20), confidence_sequence([0] * 200)
    assert few.low == many.low == 0.0 < many.high < few.high < 1.0


def test_no_results():
    """Nothing seen: the whole range. Results outside [0, 1] raise."""
    assert confidence_sequence([]) == Interval(0.0, 0.0, 1.0, 0)
    with pytest.raises(ValueError, match="betting"):
        confidence_sequence([1.5])
    with pytest.raises(ValueError, match="betting"):
        confidence_sequence([float("nan")])

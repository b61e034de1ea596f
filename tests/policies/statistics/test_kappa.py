"""Cohen's kappa."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa

from policies.statistics.interval import Interval
from policies.statistics.kappa import cohen_kappa


def _judges(rng, n, agreement, base=0.4):
    first = rng.random(n) < base
    return first, first ^ (rng.random(n) >= agreement)


@pytest.mark.parametrize("agreement", [0.3, 0.6, 0.9])
def test_value_and_variance_are_statsmodels(agreement):
    """Kappa is scikit-learn's; the limits are statsmodels' standard error on the log(1 - kappa) scale."""
    a, b = _judges(np.random.default_rng(0), 80, agreement)
    reference = cohens_kappa(np.array([[np.sum((a == i) & (b == j)) for j in (0, 1)] for i in (0, 1)]))
    found = cohen_kappa(a, b)
    assert found.value == pytest.approx(cohen_kappa_score(a, b)) and found.n == 80
    half = stats.norm.ppf(0.975) * np.sqrt(reference.var_kappa) / (1 - reference.kappa)
    assert np.log((1 - found.low) / (1 - found.value)) == pytest.approx(half)
    assert np.log((1 - found.value) / (1 - found.high)) == pytest.approx(half)


@pytest.mark.parametrize(("n", "agreement"), [(40, 0.8), (60, 0.9), (100, 0.95)])
def test_the_interval_covers(n, agreement):
    """Judges who agree on 80 to 95 % of 40 to 100 items: the limits hold kappa in 95 % of 600 simulations."""
    rng = np.random.default_rng(1)
    second = 0.4 * agreement + 0.6 * (1 - agreement)
    chance = 0.4 * second + 0.6 * (1 - second)
    hits = sum((agreement - chance) / (1 - chance) in cohen_kappa(*_judges(rng, n, agreement)) for _ in range(600))
    assert hits >= stats.binom.ppf(0.001, 600, 0.95)


def test_full_agreement_is_not_certainty():
    """Ten of ten agreed is compatible with less than full agreement, and three hundred with much less less."""
    ten, many = (cohen_kappa([True, False] * n, [True, False] * n) for n in (5, 150))
    assert ten.value == many.value == ten.high == 1.0
    assert ten.low < 0.5 < 0.97 < many.low < 1.0


def test_opposite_judges():
    """Judges who always differ have a kappa of -1, within its limits."""
    found = cohen_kappa([True, False] * 10, [False, True] * 10)
    assert found.value == pytest.approx(-1.0) and found.low == -1.0


def test_one_verdict_for_all_shows_nothing():
    """Where both judges pass everything, or there is nothing to judge, kappa is not defined: the whole range."""
    assert cohen_kappa([True] * 9, [True] * 9) == Interval(0.0, -1.0, 1.0, 9)
    assert cohen_kappa([], []) == Interval(0.0, -1.0, 1.0, 0)
    with pytest.raises(ValueError, match="compared"):
        cohen_kappa([True], [])

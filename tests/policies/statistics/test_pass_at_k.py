"""pass@k by execution."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from policies.statistics.pass_at_k import mean_pass_at_k, pass_at_k


@pytest.mark.parametrize(("n", "c", "k"), [(6, 2, 3), (5, 0, 2), (5, 5, 1), (7, 3, 7), (4, 1, 1)])
def test_it_counts_the_subsets(n, c, k):
    """The share of all k-subsets of the samples that hold one that passed."""
    subsets = [any(i < c for i in chosen) for chosen in combinations(range(n), k)]
    assert pass_at_k(n, c, k) == pytest.approx(np.mean(subsets))


def test_it_is_unbiased():
    """Averaged over samples at a pass rate of .3 it is 1 - .7^3; the plug-in 1 - (1 - c/n)^3 is not."""
    n, k = 8, 3
    chance = stats.binom.pmf(np.arange(n + 1), n, 0.3)
    assert chance @ [pass_at_k(n, c, k) for c in range(n + 1)] == pytest.approx(1 - 0.7**3)
    assert chance @ [1 - (1 - c / n) ** 3 for c in range(n + 1)] < 1 - 0.7**3 - 0.02


def test_large_counts_do_not_overflow():
    """Thousands of samples give a number."""
    assert pass_at_k(4000, 40, 100) == pytest.approx(1 - stats.hypergeom.pmf(0, 4000, 40, 100))


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 4), (3, 1, 0)])
def test_impossible_counts_raise(n, c, k):
    """More passed than sampled, or a k that the samples cannot fill."""
    with pytest.raises(ValueError, match="not defined"):
        pass_at_k(n, c, k)


def test_the_interval_covers():
    """50 unequal problems, 8 samples each: the limits hold the mean pass@2 in 95 % of 300 simulations."""
    rng = np.random.default_rng(0)
    truth = 1 - 1 / 3  # E[(1 - q)^2] = 1/3 for uniform q
    hits = 0
    for _ in range(300):
        passed = rng.binomial(8, rng.random(50))
        hits += truth in mean_pass_at_k([(8, int(c)) for c in passed], 2, rng)
    assert hits >= stats.binom.ppf(0.001, 300, 0.95)

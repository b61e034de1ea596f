"""The Jonckheere-Terpstra trend test."""

import numpy as np
import pytest
from scipy import stats

from policies.statistics.trend import jonckheere


def test_hollander_and_wolfe_example():
    """Piecework and information (Hollander & Wolfe 1973, table 6.6): J = 79, and p near the published .0231."""
    groups = [[40, 35, 38, 43, 44, 41], [38, 40, 47, 44, 40, 42], [48, 40, 45, 43, 46, 44]]
    found = jonckheere(groups, np.random.default_rng(0))
    assert found.statistic == 79 and found.n == 18
    assert found.p == pytest.approx(0.0231, abs=0.006)


def test_two_groups_are_mann_whitney():
    """With two groups the statistic is Mann and Whitney's U and p is its exact p-value."""
    rng = np.random.default_rng(1)
    low, high = rng.normal(size=7), rng.normal(0.8, size=6)
    exact = stats.mannwhitneyu(high, low, alternative="greater", method="exact")
    found = jonckheere([low, high], rng)
    assert found.statistic == exact.statistic
    assert found.p == pytest.approx(exact.pvalue, abs=4 * np.sqrt(exact.pvalue / 10_000))


def test_pairs_over_many_groups_are_kendalls():
    """With one value a group the statistic counts the concordant pairs of Kendall's tau."""
    values = np.random.default_rng(2).permutation(8).astype(float)
    concordant = (stats.kendalltau(range(8), values).statistic + 1) / 2 * 28
    assert jonckheere([[v] for v in values], np.random.default_rng(0), draws=9).statistic == pytest.approx(concordant)


@pytest.mark.parametrize("blocked", [False, True])
def test_size_at_the_protocols_sample(blocked):
    """Without a trend, 8 doses x 5 seeds reject at .05 in no more than 5 % of 400 simulations, blocked or not."""
    rng = np.random.default_rng(3)
    seeds = [list(range(5))] * 8
    rejected = 0
    for _ in range(400):
        values = rng.integers(0, 101, size=(8, 5)) / 100 + (rng.normal(0, 1, size=5) if blocked else 0)
        rejected += jonckheere(values, rng, blocks=seeds if blocked else None, draws=199).p <= 0.05
    assert stats.binom.ppf(0.001, 400, 0.05) <= rejected <= stats.binom.ppf(0.999, 400, 0.05)


def test_blocks_see_a_trend_that_seeds_hide():
    """A rise within each seed far smaller than the seeds' differences passes with blocks and fails without."""
    rng = np.random.default_rng(4)
    values = 0.1 * np.arange(5)[:, None] + 5 * np.arange(4)[None, :] + 0.05 * rng.normal(size=(5, 4))
    assert jonckheere(values, rng, blocks=[list("abcd")] * 5).p < 0.001
    assert jonckheere(values, rng).p > 0.1


def test_a_falling_series_is_no_rise():
    """The test is one-sided: a fall has a p-value near 1."""
    assert jonckheere([[5, 6], [3, 4], [1, 2]], np.random.default_rng(0)).p > 0.9


@pytest.mark.parametrize("groups", [[], [[1.0, 2.0]], [[], [1.0]]])
def test_nothing_to_compare_is_no_evidence(groups):
    """No pair of groups gives p = 1 and no error."""
    assert jonckheere(groups, np.random.default_rng(0), draws=99).p == 1.0


def test_blocks_must_fit():
    """A missing seed label, or a value that is not a number, raises."""
    with pytest.raises(ValueError, match="one label for each"):
        jonckheere([[1.0], [2.0]], np.random.default_rng(0), blocks=[["a"], []])
    with pytest.raises(ValueError, match="finite"):
        jonckheere([[1.0], [float("nan")]], np.random.default_rng(0))

"""How concentrated a change is, and which of many tests may be believed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from policies.statistics.concentration import effective_rank, gini, participation_ratio, top_share
from policies.statistics.multiple import benjamini_hochberg, needed_draws

AMOUNTS = st.lists(st.floats(0.01, 100), min_size=1, max_size=40)


@given(AMOUNTS)
def test_gini_is_half_the_relative_mean_difference(x):
    """Gini's definition: the mean absolute difference of two draws, divided by twice the mean."""
    difference = np.abs(np.subtract.outer(x, x)).mean()
    assert gini(x) == pytest.approx(difference / (2 * np.mean(x)), abs=1e-9)


@given(AMOUNTS, st.floats(0.1, 10))
def test_scale_does_not_matter(x, factor):
    """All four measures are about shares: multiplying every amount changes none."""
    for measure in (gini, participation_ratio, top_share, effective_rank):
        assert measure(np.array(x) * factor) == pytest.approx(measure(x), rel=1e-6, abs=1e-9)


def test_noise_has_a_gini_of_its_own():
    """Equal heads with noisy changes run from .05 (long vectors) to above .4: why a placebo's is subtracted."""
    rng = np.random.default_rng(0)
    long, single = (gini(np.linalg.norm(rng.normal(size=(384, d)), axis=1)) for d in (64, 1))
    assert long == pytest.approx(0.05, abs=0.01)
    assert single == pytest.approx(np.sqrt(2) - 1, abs=0.03)  # of half a normal distribution


def test_the_extremes():
    """One of ten holds all, or all hold the same: the measures say 1 and 10 effective ones."""
    one, equal = [0.0] * 9 + [3.0], [3.0] * 10
    assert (gini(one), participation_ratio(one), top_share(one), effective_rank(one)) == pytest.approx((0.9, 1, 1, 1))
    assert (gini(equal), top_share(equal)) == pytest.approx((0.0, 0.1), abs=1e-12)
    assert (participation_ratio(equal), effective_rank(equal)) == pytest.approx((10, 10))


def test_effective_rank_is_the_exponential_of_scipys_entropy():
    """The singular values of a random matrix have the rank that their entropy says."""
    values = np.linalg.svd(np.random.default_rng(1).normal(size=(30, 8)), compute_uv=False)
    assert effective_rank(values) == pytest.approx(np.exp(stats.entropy(values / values.sum())))


def test_top_share_rounds_the_count_up():
    """10 % of 11 are two of them; rounding errors of the share add none."""
    assert top_share([1] * 11) == pytest.approx(2 / 11)
    assert top_share(range(384), 0.1) == pytest.approx(sum(range(345, 384)) / sum(range(384)))
    assert top_share([1] * 30, 0.1) == pytest.approx(0.1)


def test_nothing_changed():
    """All zeros, or nothing at all, give zeros and no division by zero."""
    for measure in (gini, participation_ratio, top_share, effective_rank):
        assert measure([0.0, 0.0]) == measure([]) == 0.0
        with pytest.raises(ValueError, match="at least 0"):
            measure([1.0, -1.0])


def test_discoveries_are_scipys():
    """Believed are those whose adjusted p-value is within q."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        p = np.concatenate([rng.random(60), rng.random(10) * 0.01]).tolist()
        assert benjamini_hochberg(p, 0.1) == (stats.false_discovery_control(p) <= 0.1).tolist()


def test_false_discoveries_are_held():
    """38 of 384 heads changed: 5 % x 90 % of the discoveries are false on average, and most are found."""
    rng = np.random.default_rng(3)
    shares, found = [], []
    for _ in range(200):
        z = rng.normal(size=384) + 4.0 * (np.arange(384) < 38)
        believed = np.array(benjamini_hochberg(stats.norm.sf(z).tolist()))
        shares.append(believed[38:].sum() / max(1, believed.sum()))
        found.append(believed[:38].mean())
    assert np.mean(shares) == pytest.approx(0.05 * 346 / 384, abs=0.012)
    assert np.mean(found) > 0.8


@given(st.integers(1, 2000), st.sampled_from([0.01, 0.05, 0.1]))
def test_needed_draws_are_just_enough(tests, q):
    """The smallest p-value of so many draws passes alone among the others; of one draw fewer it does not."""
    draws = needed_draws(tests, q)
    assert benjamini_hochberg([1 / (draws + 1)] + [1.0] * (tests - 1), q)[0]
    if draws > 1:
        assert not benjamini_hochberg([1 / draws] + [1.0] * (tests - 1), q)[0]


def test_the_protocols_heads():
    """384 heads need the protocol's 7,700 draws, rounded."""
    assert needed_draws(384) == 7679
    assert benjamini_hochberg([]) == []

"""Intervals and exact limits, against published values and reference implementations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from policies.statistics import binomial
from policies.statistics.bootstrap import difference_interval, mean_interval
from policies.statistics.interval import Interval
from policies.statistics.lifetime_alpha import lifetime_alpha
from policies.statistics.wilson import wilson


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_equals_scipy(counts, confidence):
    """The Wilson interval is the one scipy computes, for every count and confidence."""
    k, n = counts
    reference = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    got = wilson(k, n, confidence)
    assert got.low == pytest.approx(reference.low, abs=1e-9)
    assert got.high == pytest.approx(reference.high, abs=1e-9)
    assert got.low <= got.value <= got.high


def test_wilson_without_trials_knows_nothing():
    """No trials give the whole range and no NaN."""
    assert wilson(0, 0) == Interval(0.0, 0.0, 1.0, 0)


@pytest.mark.parametrize(("k", "n"), [(3, 2), (-1, 2), (1, 0)])
def test_impossible_counts_are_refused(k, n):
    """More successes than trials, or fewer than none, raise."""
    with pytest.raises(ValueError, match="impossible"):
        wilson(k, n)
    with pytest.raises(ValueError, match="impossible"):
        binomial.upper(k, n)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_exact_limits_equal_clopper_pearson(counts):
    """The one-sided exact limits are scipy's exact binomial ones."""
    k, n = counts
    upper = stats.binomtest(k, n, alternative="less").proportion_ci(0.95, method="exact").high
    lower = stats.binomtest(k, n, alternative="greater").proportion_ci(0.95, method="exact").low
    assert binomial.upper(k, n) == pytest.approx(upper, abs=1e-9)
    assert binomial.lower(k, n) == pytest.approx(lower, abs=1e-9)


def test_exact_limits_without_trials():
    """Without trials any rate is possible."""
    assert (binomial.lower(0, 0), binomial.upper(0, 0)) == (0.0, 1.0)


def test_zero_failures_in_300_canaries_is_below_one_percent():
    """The protocol's canary size: 0 of 300 shows a rate below 1 %, 0 of 290 does not."""
    assert binomial.upper(0, 300) < 0.01 < binomial.upper(0, 290)


def test_cluster_bootstrap_covers_where_wilson_does_not():
    """At intra-class correlation .2 in 40 clusters of 10 the cluster bootstrap covers near 95 %, Wilson far less."""
    rng = np.random.default_rng(7)
    labels = np.repeat(np.arange(40), 10)
    hits = naive = 0
    for _ in range(200):
        rates = rng.beta(0.5 * 4, 0.5 * 4, size=40)  # variance .05 of .25: intra-class correlation .2
        values = (rng.random(400) < rates[labels]).astype(float)
        hits += 0.5 in mean_interval(values.tolist(), rng, clusters=labels.tolist(), resamples=400)
        naive += 0.5 in wilson(values.sum(), 400)
    assert hits >= 180
    assert naive <= 165


def test_bootstrap_without_clusters_agrees_with_theory():
    """For independent values the limits are near mean +- 1.96 standard errors."""
    values = np.random.default_rng(1).normal(size=500)
    got = mean_interval(values.tolist(), np.random.default_rng(2))
    half = 1.96 * values.std() / np.sqrt(500)
    assert got.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert got.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_bootstrap_is_repeatable():
    """The same seed gives the same limits."""
    one, two = (mean_interval([0, 1, 1, 0, 1], np.random.default_rng(3)) for _ in range(2))
    assert one == two


def test_bootstrap_of_nothing_is_unbounded():
    """No values: no information, and no error."""
    assert mean_interval([], np.random.default_rng(0)) == Interval(0.0, float("-inf"), float("inf"), 0)


def test_paired_bootstrap_uses_the_pairing():
    """A constant shift of very different items has a tight interval, and lengths must agree."""
    before = np.linspace(0, 1, 50)
    got = difference_interval(before.tolist(), (before + 0.1).tolist(), np.random.default_rng(0))
    assert got.low == pytest.approx(0.1) and got.high == pytest.approx(0.1)
    with pytest.raises(ValueError, match="paired"):
        difference_interval([1.0], [], np.random.default_rng(0))


def test_labels_must_match_values():
    """A missing cluster label is an error, not a silent cut."""
    with pytest.raises(ValueError, match="label"):
        mean_interval([1.0, 0.0], np.random.default_rng(0), clusters=["a"])


def test_lifetime_alpha_adds_up_to_alpha():
    """All verdicts of a life together spend alpha and no more."""
    spent = sum(lifetime_alpha(0.05, k) for k in range(1, 20_000))
    assert 0.0499 < spent < 0.05
    with pytest.raises(ValueError, match="start at 1"):
        lifetime_alpha(0.05, 0)

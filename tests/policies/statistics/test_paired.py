"""Sign-flip and McNemar tests, non-inferiority, and the e-process."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from policies.statistics.e_process import EProcess
from policies.statistics.noninferiority import noninferiority, paired_interval, power, required_samples
from policies.statistics.paired import lattice_step, mcnemar, sign_flip


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 40))
def test_sign_flip_of_yes_and_no_is_mcnemar(better, worse, same):
    """On binary pairs the exact sign-flip test is McNemar's, whatever the number of concordant pairs."""
    differences = [1.0] * better + [-1.0] * worse + [0.0] * same
    assert sign_flip(differences) == pytest.approx(mcnemar(better, worse), abs=1e-12)


@given(st.integers(0, 80), st.integers(0, 80))
def test_mcnemar_equals_scipy(better, worse):
    """The exact test is scipy's binomial test of the discordant pairs."""
    if better + worse:
        reference = stats.binomtest(better, better + worse, alternative="greater").pvalue
        assert mcnemar(better, worse) == pytest.approx(reference, rel=1e-9)
    else:
        assert mcnemar(0, 0) == 1.0


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_sign_flip_of_means_equals_enumeration(quarters):
    """With means of four answers the convolution gives what trying all sign patterns gives."""
    sizes = [abs(q) for q in quarters]
    hits = sum(
        sum(s * q for s, q in zip(signs, sizes, strict=True)) >= sum(quarters)
        for signs in itertools.product((-1, 1), repeat=len(sizes))
    )
    assert sign_flip([q / 4 for q in quarters]) == pytest.approx(hits / 2 ** len(sizes), abs=1e-12)


def test_exact_p_reaches_below_any_monte_carlo_floor():
    """A clear improvement has p far below 1/10,000, which a late verdict's alpha needs."""
    assert sign_flip([0.25] * 100 + [-0.25] * 20) < 1e-12


def test_monte_carlo_agrees_with_scipy_and_never_is_zero():
    """Off the lattice the p-value is that of scipy's permutation test, and at least 1/(B+1)."""
    d = np.random.default_rng(0).normal(0.25, 1, size=40)
    got = sign_flip(d.tolist(), np.random.default_rng(1), draws=20_000)
    reference = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", alternative="greater", n_resamples=20_000, rng=2
    ).pvalue
    assert got == pytest.approx(reference, abs=0.01)
    strong = (np.random.default_rng(3).random(60) + 1).tolist()
    assert sign_flip(strong, np.random.default_rng(1), draws=99) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="rng"):
        sign_flip(d.tolist())


def test_clusters_change_sign_together():
    """Ten copies of the same five differences are no more evidence than the five."""
    five = [1.0, 1.0, 1.0, 1.0, -1.0]
    assert sign_flip(five * 10, clusters=list(range(5)) * 10) == sign_flip(five)


def test_no_difference_is_no_evidence():
    """Nothing or only ties: p = 1."""
    assert sign_flip([]) == sign_flip([0.0] * 9) == 1.0


def test_lattice_finds_thirds():
    """Means of three answers lie on a lattice although floats round them."""
    assert lattice_step([1 / 3, 2 / 3, -1.0]) == pytest.approx(1 / 3)


def _tango(better: int, worse: int, n: int, z: float, side: int) -> float:
    """Tango's (1998) score limit with the restricted maximum likelihood estimate, by bisection."""

    def inside(m: float) -> bool:
        # restricted estimate of P(worse) when P(better) - P(worse) = m
        b = -better - worse + (2 * n - better + worse) * m
        c = -worse * m * (1 - m)
        q = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        variance = n * (2 * q + m * (1 - m))
        return abs(better - worse - n * m) <= z * math.sqrt(max(variance, 0.0)) + 1e-12

    low, high = (better - worse) / n, float(side)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) else (low, middle)
    return low


@pytest.mark.parametrize(("better", "worse", "n"), [(0, 0, 240), (10, 8, 240), (30, 12, 240), (0, 6, 240), (5, 0, 100)])
def test_paired_interval_is_near_tango(better, worse, n):
    """For yes/no pairs the score interval is Tango's within a point, and equal to it at zero discordance."""
    before = [0.0] * better + [1.0] * worse + [1.0] * (n - better - worse)
    after = [1.0] * better + [0.0] * worse + [1.0] * (n - better - worse)
    got = paired_interval(before, after)
    tolerance = 1e-6 if better == worse == 0 else 0.01
    assert got.low == pytest.approx(_tango(better, worse, n, 1.959964, -1), abs=tolerance)
    assert got.high == pytest.approx(_tango(better, worse, n, 1.959964, 1), abs=tolerance)


@pytest.mark.parametrize(
    ("answers", "pass_rate", "drop"), [(1, 0.8, 0.08), (4, 0.8, 0.08), (1, 0.99, 0.05), (2, 0.95, 0.05)]
)
def test_noninferiority_rarely_passes_at_the_margin(answers, pass_rate, drop):
    """A candidate exactly delta worse is called non-inferior in about 5 % of runs or fewer."""
    rng = np.random.default_rng(11)
    runs, n = 600, 240
    passed = 0
    for _ in range(runs):
        parent = rng.binomial(answers, pass_rate, size=n) / answers
        candidate = rng.binomial(answers, pass_rate - drop, size=n) / answers
        passed += noninferiority(parent.tolist(), candidate.tolist(), delta=drop).standing == "non-inferior"
    assert passed / runs < 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize("answers", [1, 2, 4])
def test_noninferiority_has_the_power_it_claims(answers):
    """An unchanged guard with 20 % failures passes as often as `power` says."""
    rng = np.random.default_rng(12)
    runs, n = 300, 240
    passed = 0
    for _ in range(runs):
        parent, candidate = rng.binomial(answers, 0.8, size=(2, n)) / answers
        passed += noninferiority(parent.tolist(), candidate.tolist(), delta=0.08).standing == "non-inferior"
    expected = power(n * answers, 0.08, 0.32)
    assert passed / runs == pytest.approx(expected, abs=0.07)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_differences_that_are_no_numbers_are_refused(bad):
    """They are not dropped as if the pair had agreed."""
    with pytest.raises(ValueError, match="finite"):
        sign_flip([1.0, bad, 1.0])


def test_few_agreeing_items_show_nothing():
    """Zero discordance on five items is not non-inferiority; on 300 it is."""
    assert noninferiority([1.0] * 5, [1.0] * 5, delta=0.05).standing == "unclear"
    assert noninferiority([1.0] * 300, [1.0] * 300, delta=0.05).standing == "non-inferior"
    assert noninferiority([], [], delta=0.05).standing == "unclear"


def test_a_clear_decline_is_called_worse():
    """Twenty points down on 240 probes is worse, not unclear."""
    before = [1.0] * 240
    after = [0.0] * 48 + [1.0] * 192
    assert noninferiority(before, after, delta=0.08).standing == "worse"


def test_results_outside_the_unit_interval_are_refused():
    """A pass rate of 2 is a mistake of the caller."""
    with pytest.raises(ValueError, match="lie in"):
        paired_interval([0.0], [2.0])


def test_required_samples_are_the_protocols():
    """The protocol's figures: 248 items for 5 points, 1,546 for 2, at 10 % discordance and 80 % power."""
    assert required_samples(0.05, 0.10, power=0.8) == 248
    assert required_samples(0.02, 0.10, power=0.8) == 1546
    assert power(required_samples(0.08, 0.3), 0.08, 0.3) >= 0.9


def test_e_process_equals_the_mixture_likelihood_ratio():
    """For yes/no pairs the e-value is the uniform mixture over the coin's bias, in closed form by the beta function."""
    better, worse = 23, 9
    reference = stats.beta(better + 1, worse + 1).sf(0.5) * 2 ** (better + worse + 1)
    reference *= math.exp(math.lgamma(better + 1) + math.lgamma(worse + 1) - math.lgamma(better + worse + 2))
    assert EProcess().update([1] * better + [-1] * worse + [0] * 50).value == pytest.approx(reference, rel=1e-6)


def test_e_process_is_valid_at_any_time():
    """Under no difference the chance of ever reaching 20 in 400 pairs is at most 1/20."""
    rng = np.random.default_rng(5)
    crossed = 0
    for _ in range(400):
        process, reached = EProcess(), False
        for batch in rng.choice([-1, 0, 1], size=(20, 20)):
            process = process.update(batch.tolist())
            reached = reached or process.value >= 20
        crossed += reached
    assert crossed / 400 <= 0.05


def test_e_process_gathers_evidence_over_cycles():
    """Batches of one candidate multiply: in any split the same value, and JSON brings it back."""
    d = [1, 0, 0.5, -0.25, 1, 1, 0, 0.75]
    whole = EProcess().update(d)
    parts = EProcess.restore(EProcess().update(d[:3]).state()).update(d[3:])
    assert parts.value == pytest.approx(whole.value)
    with pytest.raises(ValueError, match="finite"):
        EProcess.restore([0.0])
    with pytest.raises(ValueError, match="lie in"):
        EProcess().update([1.5])

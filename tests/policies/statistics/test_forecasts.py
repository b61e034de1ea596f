"""Forecasts of failure: the Brier score's parts, calibration error against its null, ranking against its ceiling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from policies.statistics.bins import binned, equal_mass
from policies.statistics.brier import decomposition
from policies.statistics.calibration import brier
from policies.statistics.ece import debiased_ece
from policies.statistics.reliability import spearman_of_ceiling

FORECASTS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 4)).flatmap(
        lambda f: st.tuples(st.just(f[0]), st.integers(0, f[1]), st.just(f[1]))
    ),
    min_size=1,
    max_size=60,
)


def _answers(rng, n=100, k=4, shift=0.0):
    predicted = rng.uniform(0.1, 0.9, size=n)
    return predicted, rng.binomial(k, np.clip(predicted + shift, 0, 1)), [k] * n


@given(FORECASTS, st.integers(1, 10))
def test_the_brier_score_is_the_sum_of_its_parts(forecasts, bins):
    """Whatever the forecasts and bins: score = reliability - resolution + uncertainty, to rounding."""
    predicted, failures, trials = zip(*forecasts, strict=True)
    parts = decomposition(predicted, failures, trials, bins)
    assert parts.brier == pytest.approx(brier(predicted, failures, trials))
    assert parts.reliability - parts.resolution + parts.uncertainty == pytest.approx(parts.brier, abs=1e-12)


def test_parts_by_hand():
    """Two bins of two forecasts, ten answers each: Murphy's three terms and Stephenson's two within bins."""
    parts = decomposition([0.1, 0.3, 0.7, 0.9], [2, 4, 6, 8], [10] * 4, bins=2)
    assert parts.uncertainty == pytest.approx(0.25)
    assert parts.reliability == pytest.approx(0.01)  # bins forecast .2 and .8, saw .3 and .7
    # between bins .04; within them the variance .01 off, and twice the covariance (.1 x .1) on
    assert parts.resolution == pytest.approx(0.04 - 0.01 + 2 * 0.01)


def test_without_answers_there_are_no_parts():
    """Nothing answered gives zeros; impossible counts and forecasts raise."""
    empty = decomposition([0.5], [0], [0])
    assert (empty.brier, empty.reliability, empty.resolution, empty.uncertainty) == (0.0, 0.0, 0.0, 0.0)
    for bad in ([0.5], [2], [1]), ([1.5], [0], [1]), ([0.5, 0.5], [0], [1]):
        with pytest.raises(ValueError, match=r"forecast|failures"):
            decomposition(*bad)


def test_bins_hold_equal_numbers_and_whole_ties():
    """A hundred different forecasts make five bins of twenty; equal ones are never split."""
    assert np.bincount(equal_mass(np.random.default_rng(0).random(100), 5)).tolist() == [20] * 5
    assert equal_mass([0.5] * 7, 5).max() == equal_mass([0.5] * 7, 5).min()
    assert equal_mass([], 5).size == 0


def test_binned_answers_add_up():
    """The bins of a reliability diagram hold every answer and every failure once."""
    predicted, failures, trials = _answers(np.random.default_rng(1))
    diagram = binned(predicted, failures, trials, 5)
    assert diagram.answers.sum() == 400
    assert diagram.answers @ diagram.observed == pytest.approx(failures.sum())
    assert diagram.answers @ diagram.predicted == pytest.approx(4 * predicted.sum())


def test_a_perfect_forecaster_scores_a_tenth():
    """100 answers and 10 bins: the error of a true forecast is .101 on average, so its size alone means nothing."""
    rng = np.random.default_rng(2)
    means = [
        debiased_ece(p := rng.random(100), rng.binomial(1, p), [1] * 100, rng, bins=10, draws=100) for _ in range(60)
    ]
    assert np.mean([e.null_mean for e in means]) == pytest.approx(0.101, abs=0.002)
    assert np.mean([e.value for e in means]) == pytest.approx(0.101, abs=0.01)


def test_calibration_error_has_its_size():
    """True forecasts of 100 dreams x 4 answers have p <= .05 in 5 % of 400 simulations."""
    rng = np.random.default_rng(3)
    rejected = sum(debiased_ece(*_answers(rng), rng, draws=199).p <= 0.05 for _ in range(400))
    assert stats.binom.ppf(0.001, 400, 0.05) <= rejected <= stats.binom.ppf(0.999, 400, 0.05)


@pytest.mark.parametrize("precision", [20.0, 5.0], ids=["a little", "moderate"])
def test_calibration_error_lets_seeds_differ_around_a_true_forecast(precision):
    """Forecasts right on average, seeds of two dreams that differ: p <= .05 in 5 % of 400 simulations."""
    rng = np.random.default_rng(6)
    rejected = 0
    for _ in range(400):
        predicted = rng.uniform(0.1, 0.9, 80)
        seeds = rng.beta(precision * predicted, precision * (1 - predicted))
        clusters, forecasts = np.repeat(np.arange(80), 2), np.repeat(predicted, 2)
        failures = rng.binomial(4, np.repeat(seeds, 2))
        found = debiased_ece(forecasts, failures, [4] * 160, rng, draws=199, clusters=clusters.tolist())
        rejected += found.p <= 0.05
    assert stats.binom.ppf(0.001, 400, 0.05) <= rejected <= stats.binom.ppf(0.999, 400, 0.05)


def test_calibration_error_is_found():
    """Failures 15 points rarer than forecast: a tiny p, and the debiased error is below the plain one."""
    rng = np.random.default_rng(4)
    found = debiased_ece(*_answers(rng, shift=-0.1), rng)
    assert found.p < 0.01
    assert found.debiased == pytest.approx(found.value - found.null_mean) and 0.05 < found.debiased < 0.12


def test_no_answers_are_no_evidence_of_error():
    """Nothing answered: error 0 and p = 1."""
    rng = np.random.default_rng(0)
    assert debiased_ece([0.5], [0], [0], rng).p == debiased_ece([], [], [], rng).p == 1.0


def test_spearman_is_scipys():
    """The rank correlation itself, ties and all."""
    predicted, failures, trials = _answers(np.random.default_rng(5))
    assert spearman_of_ceiling(predicted, failures, trials).rho == pytest.approx(
        stats.spearmanr(predicted, failures).statistic
    )


def test_a_true_forecast_reaches_the_ceiling():
    """With 4 answers a perfect ranking correlates .71 only; divided by the ceiling it is 1 on average."""
    rng = np.random.default_rng(6)
    found = [spearman_of_ceiling(*_answers(rng)) for _ in range(200)]
    # v = .8^2 / 12, w = mean of p (1 - p)
    v = 0.64 / 12
    ceiling = np.sqrt(v / (v + (0.25 - v) / 4))
    assert np.mean([f.ceiling for f in found]) == pytest.approx(ceiling, abs=0.01)
    assert np.mean([f.rho for f in found]) < 0.75
    assert np.mean([f.ratio for f in found]) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    ("predicted", "failures", "trials"),
    [([], [], []), ([0.1, 0.5, 0.9], [0, 1, 1], [1, 1, 1]), ([0.5] * 5, [1, 2, 3, 0, 4], [4] * 5)],
)
def test_no_ranking(predicted, failures, trials):
    """Nothing to rank, single answers, or one forecast for all: zeros, not NaN."""
    assert spearman_of_ceiling(predicted, failures, trials) == (0.0, 0.0, 0.0)


def test_dreams_alike_have_no_ceiling():
    """Where the spread of failure rates is what chance alone gives, ceiling and ratio are 0."""
    found = spearman_of_ceiling([0.1, 0.2, 0.3, 0.4], [2, 2, 3, 2], [4] * 4)
    assert found.ceiling == found.ratio == 0.0

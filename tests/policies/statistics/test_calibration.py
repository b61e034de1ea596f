"""Calibration, Brier score and the collapse metrics."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LogisticRegression

from policies.statistics.calibration import brier, calibration, in_the_large
from policies.statistics.entropy import distinct_n, unigram_entropy


def _sample(seed, n=300, k=4, shift=0.0, slope=1.0):
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(0.1, 0.9, size=n)
    truth = 1 / (1 + np.exp(-(shift + slope * np.log(predicted / (1 - predicted)))))
    return predicted.tolist(), rng.binomial(k, truth).tolist(), [k] * n


def test_a_true_forecast_is_calibrated_most_of_the_time():
    """For a perfect forecaster each interval holds its true value in about 95 % of simulations."""
    fits = [calibration(*_sample(seed)) for seed in range(200)]
    assert sum(0 in f.intercept for f in fits) >= 180
    assert sum(1 in f.slope for f in fits) >= 180


def test_over_prediction_is_declared():
    """Half judged hard while few fail: the intercept lies clearly below 0."""
    fit = calibration(*_sample(1, shift=-1.5))
    assert fit.intercept.high < 0 and not fit.calibrated


def test_recalibration_equals_logistic_regression():
    """Intercept and slope are those of an unpenalised logistic regression on the answers."""
    predicted, failures, trials = _sample(2, shift=0.4, slope=0.6)
    x = np.log(np.array(predicted) / (1 - np.array(predicted)))
    rows = np.concatenate([x, x])[:, None]
    labels = np.repeat([1, 0], len(x))
    weight = np.concatenate([failures, np.array(trials) - np.array(failures)])
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(rows, labels, sample_weight=weight)
    fit = calibration(predicted, failures, trials)
    assert fit.intercept.value == pytest.approx(reference.intercept_[0], abs=1e-3)
    assert fit.slope.value == pytest.approx(reference.coef_[0, 0], abs=1e-3)


def test_limits_are_those_of_a_clustered_glm():
    """The limits are statsmodels' for a binomial GLM of single answers with standard errors clustered by dream."""
    predicted, failures, trials = _sample(3, n=120, shift=0.3, slope=0.8)
    answers = np.concatenate([[1] * k + [0] * (m - k) for k, m in zip(failures, trials, strict=True)])
    dream = np.repeat(np.arange(120), trials)
    x = np.log(np.array(predicted) / (1 - np.array(predicted)))[dream]
    model = sm.GLM(answers, sm.add_constant(x), family=sm.families.Binomial())
    reference = model.fit(cov_type="cluster", cov_kwds={"groups": dream}).conf_int()
    fit = calibration(predicted, failures, trials)
    # statsmodels corrects by n / (n - 1), ours by n / (n - 2)
    assert (fit.intercept.low, fit.intercept.high) == pytest.approx(reference[0], abs=5e-3)
    assert (fit.slope.low, fit.slope.high) == pytest.approx(reference[1], abs=5e-3)


def test_clustered_answers_widen_the_limits():
    """Answers to one dream that all agree count as one: the limits are near twice as wide at k = 4."""
    rng = np.random.default_rng(4)
    predicted = rng.uniform(0.1, 0.9, size=400)
    agreeing = (rng.random(400) < predicted).astype(int) * 4
    wide = calibration(predicted.tolist(), agreeing.tolist(), [4] * 400).slope
    narrow = calibration(predicted.tolist(), rng.binomial(4, predicted).tolist(), [4] * 400).slope
    assert 1.5 < (wide.high - wide.low) / (narrow.high - narrow.low) < 2.6


@pytest.mark.parametrize(
    ("predicted", "failures"), [([0.5] * 20, [1] * 20), ([0.1, 0.9] * 10, [0] * 20), ([0.1, 0.9] * 2, [1, 2] * 2)]
)
def test_not_identified_is_said(predicted, failures):
    """Equal forecasts, no failure at all, or too few dreams: None rather than a number."""
    assert calibration(predicted, failures, [4] * len(predicted)) is None


def test_separated_data_is_not_identified():
    """A forecast that separates failures perfectly has no finite slope."""
    assert calibration([0.2] * 20 + [0.8] * 20, [0] * 20 + [4] * 20, [4] * 40) is None


def test_brier_by_hand():
    """The score is the mean squared distance per answer; nothing judged gives 0."""
    assert brier([0.2, 0.6], [1, 1], [2, 1]) == pytest.approx((0.64 + 0.04 + 0.16) / 3)
    assert brier([0.5], [0], [0]) == 0.0


def test_repetition_lowers_both_collapse_metrics():
    """Texts that repeat themselves have fewer distinct pairs and less entropy than varied ones."""
    varied = [f"word{i} then word{i + 1}" for i in range(30)]
    same = ["word1 then word2"] * 30
    assert distinct_n(same) < distinct_n(varied) / 5
    assert unigram_entropy(same) < unigram_entropy(varied)


def test_entropy_correction_removes_most_of_the_bias():
    """From 200 words of a uniform vocabulary of 50 the estimate is within .05 nats of ln 50; the plain one is not."""
    words = np.random.default_rng(0).integers(0, 50, size=(200, 200))
    estimates = [unigram_entropy([" ".join(f"w{w}" for w in row)]) for row in words]
    assert np.mean(estimates) == pytest.approx(math.log(50), abs=0.05)


def test_no_text_has_no_diversity():
    """Empty input gives zeros, not errors."""
    assert distinct_n([]) == distinct_n(["", "one"]) == unigram_entropy([""]) == 0.0


def test_the_level_alone_is_judged_where_forecasts_are_alike():
    """All judged hard while a quarter fails: there is no slope, but the intercept with the slope at 1 is below 0."""
    rng = np.random.default_rng(6)
    failures = rng.binomial(4, 0.25, size=100).tolist()
    level = in_the_large([0.8] * 100, failures, [4] * 100)
    rate = sum(failures) / 400
    assert level.value == pytest.approx(math.log(rate / (1 - rate)) - math.log(0.8 / 0.2), abs=1e-6)
    assert level.high < -1 and calibration([0.8] * 100, failures, [4] * 100) is None
    assert in_the_large([0.8] * 100, [0] * 100, [4] * 100) is None


def test_dreams_of_one_seed_are_one_cluster():
    """Four copies of every dream: clustered by seed the limits are those of the dreams alone, and n counts seeds."""
    predicted, failures, trials = _sample(7, n=80)
    alone = calibration(predicted, failures, trials)
    seeds = [str(i) for i in range(80)] * 4
    copied = calibration(predicted * 4, failures * 4, trials * 4, clusters=seeds)
    assert (copied.slope.low, copied.slope.high) == pytest.approx((alone.slope.low, alone.slope.high), abs=1e-6)
    assert copied.slope.n == 80 and in_the_large(predicted * 4, failures * 4, trials * 4, clusters=seeds).n == 80
    with pytest.raises(ValueError, match="labels"):
        calibration(predicted, failures, trials, clusters=seeds)

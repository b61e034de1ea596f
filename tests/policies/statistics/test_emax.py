"""The dose-response curve and the interval of the dose that suffices."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from policies.statistics.emax import Emax, ed_interval, fit

DOSES = (0, 1, 2, 5, 10, 20, 50, 100)
TRUE = Emax(0.1, 0.6, 4.0, 1.5)


def _runs(rng, seeds, probes=100, curve=TRUE, spread=0.3):
    """Rates on `probes` yes/no probes, for seeds whose ED50 differ by a log-normal factor."""
    runs = {}
    for seed in range(seeds):
        own = Emax(curve.e0, curve.emax, curve.ed50 * math.exp(rng.normal(0, spread)), curve.hill)
        runs[seed] = [(dose, rng.binomial(probes, own.at(dose)) / probes) for dose in DOSES]
    return runs


def _flat(rng, seeds):
    return {seed: [(dose, rng.binomial(100, 0.3) / 100) for dose in DOSES] for seed in range(seeds)}


def _columns(runs):
    return zip(*(pair for points in runs.values() for pair in points), strict=True)


@pytest.mark.parametrize("curve", [TRUE, Emax(0.9, -0.5, 12.0, 3.0), Emax(2.0, 5.0, 30.0, 0.8)])
def test_a_curve_without_noise_is_found(curve):
    """Rising or falling, shallow or steep: the parameters come back within 1 %."""
    found = fit(DOSES, [curve.at(d) for d in DOSES])
    assert (found.e0, found.emax, found.ed50, found.hill) == pytest.approx(
        (curve.e0, curve.emax, curve.ed50, curve.hill), rel=0.01
    )


def test_least_squares_agrees():
    """On noisy data scipy's optimiser, started at the truth, finds the same curve."""
    doses, values = (np.array(column) for column in _columns(_runs(np.random.default_rng(0), 5)))
    best = optimize.least_squares(
        lambda t: [Emax(*t).at(d) - v for d, v in zip(doses, values, strict=True)], [0.1, 0.6, 4.0, 1.5]
    )
    found = fit(doses, values)
    assert (found.e0, found.emax, found.ed50, found.hill) == pytest.approx(tuple(best.x), rel=0.02)


def test_ed_inverts_the_curve():
    """At the dose for 80 % the curve has gone 80 % of its way; dose 0 has no effect."""
    assert TRUE.at(TRUE.ed(0.8)) == pytest.approx(TRUE.e0 + 0.8 * TRUE.emax)
    assert TRUE.at(0) == TRUE.e0


def test_flat_noise_has_no_curve():
    """Without an effect a curve is found in about 5 % of 400 data sets, as the F test promises."""
    rng = np.random.default_rng(1)
    found = sum(fit(*_columns(_flat(rng, 5))) is not None for _ in range(400))
    assert found <= stats.binom.ppf(0.999, 400, 0.05)


@pytest.mark.parametrize(
    ("doses", "values"),
    [
        ([0, 1, 2] * 5, [0.1, 0.4, 0.7] * 5),  # three doses
        ([0, 1, 5, 20], [0.1, 0.3, 0.5, 0.6]),  # as many values as parameters
        (DOSES, [0.5] * 8),
        (DOSES, [d / 200 for d in DOSES]),  # grows without an end in sight
    ],
)
def test_not_identified_is_said(doses, values):
    """Too few doses or values, a constant, or an effect still growing at the last dose: None, not a number."""
    assert fit(doses, values) is None


@pytest.mark.parametrize("doses", [[-1, 0, 1, 2, 3], [0, 1, 2, 3]])
def test_impossible_doses_raise(doses):
    """Negative doses, and doses without a value, are errors."""
    with pytest.raises(ValueError, match="dose"):
        fit(doses, [1.0] * 5)


def test_the_protocols_power():
    """5 seeds x 100 probes x 8 doses put 90 % of the estimates of an ED50 of 4 within 2.8 to 5.7."""
    rng = np.random.default_rng(2)
    found = [fit(*_columns(_runs(rng, 5))).ed50 for _ in range(200)]
    low, high = np.quantile(found, [0.05, 0.95])
    assert low > 2.8 and high < 5.7


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_covers(seeds):
    """At the protocol's 5 seeds and a demo's 3 the limits hold the true ED80 in 95 % of 60 simulations."""
    rng = np.random.default_rng(3)
    intervals = [ed_interval(_runs(rng, seeds), rng, resamples=60) for _ in range(60)]
    hits = sum(TRUE.ed(0.8) in interval for interval in intervals)
    assert hits >= stats.binom.ppf(0.001, 60, 0.95)
    assert all(interval.n == seeds for interval in intervals)


def test_five_seeds_can_pass_the_protocol():
    """With 5 seeds the upper limit is mostly within 4 times the lower one, the ratio that the protocol accepts."""
    rng = np.random.default_rng(4)
    intervals = [ed_interval(_runs(rng, 5, spread=0.1), rng, resamples=60) for _ in range(20)]
    assert sum(i.high / i.low <= 4 for i in intervals) >= 14


def test_no_interval_without_a_curve_or_seeds():
    """Flat noise and two seeds give None: not identified."""
    rng = np.random.default_rng(5)
    assert sum(ed_interval(_flat(rng, 5), rng, resamples=20) is not None for _ in range(40)) <= 6
    assert ed_interval(_runs(rng, 2), rng) is None


def test_refits_without_a_curve_open_the_upper_limit():
    """Where some resamples have no curve the upper limit is infinite; where many have none there is no interval."""
    rng = np.random.default_rng(6)
    steep = [(d, Emax(0.0, 1.0, 4.0, 2.0).at(d)) for d in DOSES]
    # a seed without effect among n is drawn n times out of n, or nearly, in a share of the resamples
    some = {0: steep, **{s: [(d, 0.5 + 0.01 * rng.normal()) for d in DOSES] for s in (1, 2)}}
    many = {0: steep, **{s: [(d, 0.5 + 0.01 * rng.normal()) for d in DOSES] for s in range(1, 5)}}
    got = ed_interval(some, rng, resamples=100)
    assert got is None or math.isinf(got.high)
    assert ed_interval(many, rng, resamples=100) is None


def test_a_dose_below_the_smallest_is_at_most_the_smallest():
    """Everything has happened by the first dose: no number between 0 and it is claimed."""
    rng = np.random.default_rng(7)
    at_once = {s: [(d, (0.1 if d == 0 else 0.8) + 0.01 * rng.normal()) for d in DOSES] for s in range(5)}
    got = ed_interval(at_once, rng, resamples=60)
    assert (got.value, got.low, got.high) == (1, 0, 1)

"""The floor under every detector."""

import math

import numpy as np
import pytest
from scipy import stats

from policies.statistics.cusum_bound import delay, kl

TABLE = {  # of the protocol: the change, and the delays at ARL 1e3, 1e4, 1e5
    (0.05, 0.15): (43.8, 75.2, 107.8),
    (0.05, 0.30): (13.7, 20.7, 27.8),
    (0.10, 0.20): (62.2, 111.3, 162.7),
    (0.10, 0.30): (25.1, 39.7, 54.7),
    (0.10, 0.50): (9.8, 14.3, 18.8),
    (0.20, 0.40): (34.4, 55.8, 77.8),
}


@pytest.mark.parametrize("change", TABLE)
def test_the_protocols_table(change):
    """Every delay of the protocol's table, to its last digit."""
    assert [delay(*change, arl) for arl in (1e3, 1e4, 1e5)] == pytest.approx(TABLE[change], abs=0.05)


def test_a_simulated_cusum_takes_so_long():
    """20,000 CUSUM runs at .1 -> .3: a threshold's simulated ARL, put into the bound, gives its simulated delay."""
    rng = np.random.default_rng(0)
    up, down, threshold, runs = math.log(3), math.log(0.7 / 0.9), 2.5, 20_000

    def run_lengths(rate):
        total, length, going = np.zeros(runs), np.zeros(runs), np.ones(runs, dtype=bool)
        while going.any():
            total[going] = np.maximum(total[going], 0) + np.where(rng.random(going.sum()) < rate, up, down)
            length[going] += 1
            going &= total < threshold
        return length

    arl, seen = run_lengths(0.1).mean(), run_lengths(0.3).mean()
    assert delay(0.1, 0.3, arl) == pytest.approx(seen, rel=0.02)


def test_the_first_order_formula_is_far_off():
    """log(ARL) / KL is at least 19 % too long everywhere in the table, and more than twice in places."""
    errors = [
        math.log(arl) / kl(after, before) / exact - 1
        for (before, after), delays in TABLE.items()
        for arl, exact in zip((1e3, 1e4, 1e5), delays, strict=True)
    ]
    assert min(errors) > 0.19 and max(errors) > 1


def test_kl_is_scipys():
    """The divergence of two coins."""
    assert kl(0.3, 0.1) == pytest.approx(stats.entropy([0.3, 0.7], [0.1, 0.9]))
    assert kl(0.2, 0.2) == 0.0


def test_the_shortest_run_is_the_first_failure():
    """At ARL = 1 / p0 the test alarms at the first failure: delay 1 / p1. Below that it does not exist."""
    assert delay(0.1, 0.4, 10) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="below"):
        delay(0.1, 0.4, 9)


@pytest.mark.parametrize("rates", [(0.3, 0.1), (0.2, 0.2), (0.0, 0.1), (0.1, 1.0)])
def test_only_rises_between_rates(rates):
    """A fall, no change, or a rate of 0 or 1 raises."""
    with pytest.raises(ValueError, match="rise"):
        delay(*rates, 1000)

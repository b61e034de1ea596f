"""Debiased CKA."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from policies.statistics.cka import debiased_cka


def _biased(x, y):
    """The usual CKA."""
    k, m = ((z - z.mean(0)) @ (z - z.mean(0)).T for z in (x, y))
    return (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())


def _by_definition(x, y):
    """Song's HSIC by looping over four different items: the U-statistic of which the formula is a short cut."""
    n = len(x)
    k, m = x @ x.T, y @ y.T

    def hsic(k, m):
        total = 0.0
        for i in range(n):
            for j in range(n):
                for q in range(n):
                    for r in range(n):
                        if len({i, j, q, r}) == 4:
                            total += k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])
        return total / (n * (n - 1) * (n - 2) * (n - 3))

    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_it_is_the_u_statistic():
    """The formula equals the average over all quadruples of different items."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 3))
    y = x[:, :2] + rng.normal(size=(7, 2))
    assert debiased_cka(x, y) == pytest.approx(_by_definition(x, y))


def test_independent_noise_is_unlike():
    """At n = 20 and thousands of features the usual CKA of noise is .98 and more; debiased it is 0 on average."""
    rng = np.random.default_rng(1)
    pairs = [(rng.normal(size=(20, 1500)), rng.normal(size=(20, 1500))) for _ in range(100)]
    assert min(_biased(x, y) for x, y in pairs) > 0.98
    values = [debiased_cka(x, y) for x, y in pairs]
    assert np.mean(values) == pytest.approx(0.0, abs=4 * np.std(values) / 10)


def test_rotation_scale_and_shift_do_not_matter():
    """Representations that differ by a rotation, a factor and an offset are alike."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(12, 6))
    assert debiased_cka(x, 3 * x @ ortho_group.rvs(6, random_state=0) + 5) == pytest.approx(1.0)


def test_no_variation_is_no_similarity():
    """A representation that is the same for all items gives 0, and fewer than 4 items raise."""
    x = np.random.default_rng(3).normal(size=(6, 4))
    assert debiased_cka(x, np.ones((6, 4))) == 0.0
    with pytest.raises(ValueError, match="4 or more"):
        debiased_cka(x[:3], x[:3])
    with pytest.raises(ValueError, match="same"):
        debiased_cka(x, x[:5])

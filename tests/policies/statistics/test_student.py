"""Student's t for a few seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from policies.statistics.student import student


def test_limits_are_scipys() -> None:
    """The same mean and limits as scipy's t distribution gives."""
    values = np.random.default_rng(0).normal(size=5)
    found = student(values.tolist(), 0.9)
    low, high = stats.t.interval(0.9, 4, loc=values.mean(), scale=stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high))


def test_three_seeds_are_covered() -> None:
    """2,000 samples of three normal values: the 95 % limits hold the truth in 95 % of them, give or take 1.5 points."""
    rows = np.random.default_rng(1).normal(size=(2000, 3))
    covered = np.mean([0 in student(row.tolist()) for row in rows])
    assert covered == pytest.approx(0.95, abs=0.015)


def test_one_value_has_no_limits_and_none_no_mean() -> None:
    """One seed says nothing about the others."""
    assert student([0.3]).high == math.inf
    with pytest.raises(ValueError, match="no mean"):
        student([])

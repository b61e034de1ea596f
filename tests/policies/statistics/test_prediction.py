"""The prediction limit: one more value stays below it as often as promised, also from a handful of values."""

import numpy as np
import pytest

from policies.statistics.binomial import lower, upper
from policies.statistics.prediction import prediction_high


@pytest.mark.parametrize("n", [2, 3, 5])
def test_one_more_value_falls_below_at_the_nominal_rate(n):
    """Over 2,000 normal samples of n seeds, the next one is below the 95 % limit in about 95 %."""
    rng = np.random.default_rng(n)
    runs = 2_000
    below = sum(rng.normal() < prediction_high(rng.normal(size=n).tolist()) for _ in range(runs))
    assert lower(below, runs, 0.995) <= 0.95 <= upper(below, runs, 0.995)


def test_one_value_has_no_spread():
    """The spread of one seed is unknown, and that is said."""
    with pytest.raises(ValueError, match="one value"):
        prediction_high([1.0])

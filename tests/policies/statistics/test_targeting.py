"""Targeting: few answers must not make dreams look better or worse aimed than they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from policies.statistics.targeting import targeting


@pytest.mark.parametrize("shape", [(2.0, 2.0), (1.0, 4.0), (6.0, 5.0)])
def test_four_answers_show_the_true_share_and_learnability(shape: tuple[float, float]) -> None:
    """For difficulties from a beta distribution both numbers are near the truth at k = 4, unlike naive shares."""
    rng = np.random.default_rng(0)
    p = rng.beta(*shape, size=4000)
    found = targeting(rng.binomial(4, p).tolist(), [4] * 4000)
    assert found.share == pytest.approx(beta(*shape).cdf(0.7) - beta(*shape).cdf(0.3), abs=0.05)
    assert found.learnability == pytest.approx(float(np.mean(4 * p * (1 - p))), abs=0.03)


def test_dreams_all_alike() -> None:
    """One difficulty for all is inside or outside; always or never failing teaches nothing."""
    assert targeting([2, 1, 3, 2] * 25, [4] * 100).share == 1.0
    assert targeting([0, 1, 0, 0] * 25, [8] * 100).share == 0.0
    never = targeting([0, 4] * 20, [4] * 40)
    assert (never.share, never.learnability) == (0.0, 0.0)


def test_single_answers_say_nothing() -> None:
    """One answer shows no spread: such dreams are left out, and without others there is nothing."""
    assert targeting([1, 0, 1], [1, 1, 1]) == targeting([], [])

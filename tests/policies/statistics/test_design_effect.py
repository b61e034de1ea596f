"""Bursts: independent observations count in full, copies count once."""

from __future__ import annotations

import numpy as np
import pytest

from policies.statistics.design_effect import design_effect


def test_independent_observations_count_in_full() -> None:
    """Coins in clusters of three have a design effect near 1, copies of one coin near 3."""
    rng = np.random.default_rng(0)
    coins = rng.binomial(1, 0.3, size=(4000, 3)).astype(float)
    assert design_effect(coins.tolist()) == pytest.approx(1.0, abs=0.08)
    assert design_effect(np.repeat(coins[:, :1], 3, axis=1).tolist()) == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize("clusters", [[], [[1.0]], [[0.0], [0.0, 0.0]]])
def test_without_variance_it_is_one(clusters: list[list[float]]) -> None:
    """Nothing to compare: no correction."""
    assert design_effect(clusters) == 1.0

"""A mean under repeated looks at a sliding window."""

from __future__ import annotations

import numpy as np
import pytest

from policies.statistics.live_mean import live_mean
from policies.statistics.student import student


def _windows(values: list[float], width: int) -> list[tuple[int, list[float]]]:
    """The first cycle and the values of the window at every look from the second value on."""
    return [(max(0, stop - width) + 1, values[max(0, stop - width) : stop]) for stop in range(2, len(values) + 1)]


def test_it_misses_the_truth_at_no_look_of_a_sliding_window() -> None:
    """100 lives of 60 sessions: at most 5 % of them ever miss; Student's limits, made for one look, nearly all do."""
    missed, naive = 0, 0
    for seed in range(100):
        values = np.random.default_rng(seed).choice([-0.2, 0.0, 0.2], size=60).tolist()
        looks = _windows(values, 20)
        missed += any(0 not in live_mean(seen, low=-1.0, high=1.0, first=first) for first, seen in looks)
        naive += any(0 not in student(seen) for _, seen in looks)
    assert missed <= 5 < 50 < naive


def test_a_change_that_lasts_is_seen() -> None:
    """Sessions that gain a fifth each time are told from none, in whatever bounds they are given."""
    values = np.random.default_rng(0).choice([0.1, 0.2, 0.3], size=60).tolist()
    found = live_mean(values, low=-1.0, high=1.0)
    assert 0 < found.low < found.value < found.high < 1 and found.value == pytest.approx(np.mean(values))


def test_a_later_window_is_wider() -> None:
    """Its beginning is one of many that might have been looked at."""
    early, late = (live_mean([0.5] * 40, low=0.0, high=1.0, first=first) for first in (1, 50))
    assert late.low < early.low < early.high < late.high


def test_values_out_of_bounds_are_refused() -> None:
    """Limits that rest on bounds are wrong without them; no values are the bounds themselves."""
    with pytest.raises(ValueError, match="outside"):
        live_mean([1.2], low=-1.0, high=1.0)
    with pytest.raises(ValueError, match="bounds nothing"):
        live_mean([0.0], low=1.0, high=1.0)
    assert live_mean([], low=0.0, high=2.0).value == 1.0

"""Which sequences share a batch: every one exactly once, within the bounds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.models import hf_batches

LENGTHS = st.lists(st.integers(1, 500), max_size=60)


@given(LENGTHS, st.integers(1, 16), st.integers(1, 2000))
def test_batches_hold_each_sequence_once_and_keep_their_bounds(lengths: list[int], size: int, tokens: int) -> None:
    """Padded tokens and counts stay in bounds, but for a single sequence that is longer than the bound."""
    batches = hf_batches.by_length(lengths, size, tokens)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= size
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens


@given(LENGTHS, st.integers(1, 16), st.integers())
def test_a_pass_trains_each_example_exactly_once(lengths: list[int], size: int, seed: int) -> None:
    """No example is trained twice or left out in one pass, and the seed decides the order."""
    steps = hf_batches.epoch(lengths, size, random.Random(seed))
    assert sorted(i for step in steps for i in step) == list(range(len(lengths)))
    assert all(1 <= len(step) <= size for step in steps)
    assert steps == hf_batches.epoch(lengths, size, random.Random(seed))


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 100])
def test_the_learning_rate_warms_up_and_decays(steps: int) -> None:
    """It never exceeds 1, reaches 1, rises once and falls once, and no step is without learning."""
    shares = [hf_batches.warm_and_decay(step, steps) for step in range(steps)]
    top = shares.index(max(shares))
    assert max(shares) == 1 and min(shares) > 0
    assert shares[: top + 1] == sorted(shares[: top + 1]) and shares[top:] == sorted(shares[top:], reverse=True)

"""The placebo: exactly half of the labels say the opposite."""

import random

from hypothesis import given
from hypothesis import strategies as st

from policies.learn.placebo import shuffle_labels

ROW = st.tuples(st.sampled_from(["turn", "dream", "counter"]), st.sampled_from(["a", "b"]), st.booleans())


@given(st.lists(ROW, max_size=40), st.integers())
def test_exactly_half_are_swapped(make, rows, seed):
    """Half (rounded down) of the rows with a rejected answer are swapped, evenly over strata; nothing else moves."""
    examples = [
        make.example(f"p{i}", origin=origin, behavior=behavior, rejected="bad" if has else None, target="good")
        for i, (origin, behavior, has) in enumerate(rows)
    ]
    got = shuffle_labels(examples, random.Random(seed))
    assert [e.id for e in got] == [e.id for e in examples]
    swapped = [e for e in got if e.target == "bad"]
    assert all(e.rejected == "good" for e in swapped)
    assert len(swapped) == sum(has for _, _, has in rows) // 2
    for key in {(o, b) for o, b, _ in rows}:
        total = sum(has for o, b, has in rows if (o, b) == key)
        here = sum((e.origin, e.behavior) == key for e in swapped)
        assert total // 2 <= here <= total - total // 2


def test_rows_without_a_rejected_answer_are_untouched(make):
    """General examples have nothing to swap with."""
    general = [make.example(f"2 + {i}", origin="general", rejected=None) for i in range(5)]
    assert shuffle_labels(general, random.Random(0)) == tuple(general)

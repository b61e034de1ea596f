"""Batches: shares, caps, quotas, and no prompt twice."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.learn.compose import ComposeSettings, compose


def _pool(make, origin, n, tag="", **fields):
    return [make.example(f"{origin}{tag} {i}", origin=origin, source=f"{origin}{tag}-{i}", **fields) for i in range(n)]


def test_shares_of_the_whole(make):
    """With enough of everything, general and counter have their share of the whole batch and dreams their cap."""
    got = compose(
        _pool(make, "turn", 100) + _pool(make, "dream", 100),
        _pool(make, "turn", 100, tag=" old"),
        _pool(make, "general", 100),
        _pool(make, "counter", 100),
        ComposeSettings(maximum=40, dream_share=0.6, general_share=0.25, counter_share=0.2, replay_share=0.25),
        random.Random(0),
    )
    assert got.counts == {"turn": 16, "dream": 24, "replay": 10, "counter": 18, "general": 23}
    assert len(got.examples) == 91
    assert any("turn: no room" in why for why in got.left_out)


def test_dreams_cannot_outgrow_their_share(make):
    """With ten turns and a share of .6, fifteen dreams at most; without a turn, none."""
    settings = ComposeSettings(maximum=64, dream_share=0.6)
    got = compose(_pool(make, "turn", 10) + _pool(make, "dream", 90), [], [], [], settings, random.Random(0))
    assert (got.counts["turn"], got.counts["dream"]) == (10, 15)
    assert compose(_pool(make, "dream", 90), [], [], [], settings, random.Random(0)).examples == ()


def test_turns_fill_the_room_that_dreams_leave(make):
    """Few dreams: real turns take their place, up to the maximum."""
    got = compose(
        _pool(make, "turn", 90) + _pool(make, "dream", 4), [], [], [], ComposeSettings(maximum=64), random.Random(0)
    )
    assert (got.counts["turn"], got.counts["dream"]) == (60, 4)


def test_one_conversation_gives_a_limited_share(make):
    """A talkative source (250 poisoned documents suffice) gives a quarter of the fresh examples, and that is said."""
    loud = [make.example(f"loud {i}", source=f"loud-{i}") for i in range(50)]
    quiet = [make.example(f"quiet {i}", source=f"quiet-{i}") for i in range(10)]
    got = compose(
        loud + quiet,
        [],
        [],
        [],
        ComposeSettings(maximum=40, dream_share=0.0, source_quota=0.25),
        random.Random(0),
        conversations={f"loud-{i}": "loud" for i in range(50)},
    )
    assert sum(e.source.startswith("loud") for e in got.examples) == 10
    assert sum(e.source.startswith("quiet") for e in got.examples) == 10
    assert any("its conversation has given its 10" in why and why.startswith("40") for why in got.left_out)


def test_nothing_fresh_means_nothing_to_learn(make):
    """Replay and general alone make no batch."""
    got = compose([], _pool(make, "turn", 9), _pool(make, "general", 9), [], ComposeSettings(), random.Random(0))
    assert got.examples == () and not got.counts


def test_newer_cycles_go_first_and_behaviours_take_turns(make):
    """When there is no room for all, the newest are taken, evenly over behaviours."""
    old = [make.example(f"old {i}", source=f"o{i}", cycle=1) for i in range(20)]
    new = [make.example(f"new {i}", source=f"n{i}", cycle=2) for i in range(20)]
    rare = [make.example(f"rare {i}", source=f"r{i}", cycle=1, behavior="asking") for i in range(5)]
    got = compose(old + new + rare, [], [], [], ComposeSettings(maximum=10, dream_share=0.0), random.Random(0))
    assert Counter(e.prompt[0].content.split()[0] for e in got.examples) == {"new": 5, "rare": 5}


def test_impossible_shares_are_refused():
    """General and counter together cannot be the whole batch."""
    with pytest.raises(ValueError, match="below 1"):
        ComposeSettings(general_share=0.6, counter_share=0.4)


@given(
    st.lists(st.tuples(st.sampled_from(["turn", "dream", "counter", "general"]), st.integers(0, 15)), max_size=60),
    st.integers(1, 20),
    st.floats(0, 1),
    st.integers(0, 9),
)
def test_whatever_the_pools(make, rows, maximum, dream_share, seed):
    """No prompt comes twice, the maximum and the dream cap hold, and the same randomness gives the same batch."""
    pool = [make.example(f"p{n}", origin=origin, source=f"{origin}{i}") for i, (origin, n) in enumerate(rows)]
    fresh = [e for e in pool if e.origin in ("turn", "dream")]
    rest = [e for e in pool if e.origin in ("counter", "general")]
    settings = ComposeSettings(maximum=maximum, dream_share=dream_share)
    one, two = (compose(fresh, fresh, rest, rest, settings, random.Random(seed)) for _ in range(2))
    assert one == two
    prompts = [e.prompt for e in one.examples]
    assert len(prompts) == len(set(prompts))
    turns, dreams = one.counts.get("turn", 0), one.counts.get("dream", 0)
    assert turns + dreams <= maximum
    assert dreams <= dream_share * (turns + dreams) + 1e-6

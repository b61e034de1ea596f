"""Allocation of dreams: counts, shares and bands."""

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.dream.allocate import Need, allocate, apportion, learnability
from policies.statistics.interval import Interval
from policies.statistics.wilson import wilson


@dataclass(frozen=True)
class Material:
    behavior: str
    node: str
    memories: tuple[str, ...]


MATERIAL = [
    Material("listening", "pattern-a", ("sort the backup",)),
    Material("listening", "pattern-a", ("wash the car", "fold the shirt")),
    Material("push_back", "pattern-b", ()),
]
NEEDS = [
    Need(behavior="listening", trained=True, failure=wilson(40, 100)),
    Need(behavior="asking", trained=True, failure=wilson(10, 100)),
    Need(behavior="push_back", trained=False, failure=wilson(20, 100)),
]


@given(st.integers(0, 200), st.dictionaries(st.text(max_size=3), st.floats(0, 100), min_size=1, max_size=6))
def test_apportion_adds_up_and_is_fair(count, weights):
    """The parts add up to the count and are each within one of their exact share."""
    parts = apportion(count, weights)
    total = sum(weights.values())
    if total > 0:
        assert sum(parts.values()) == count
        assert all(abs(parts[key] - count * weights[key] / total) < 1 + 1e-6 for key in weights)
    else:
        assert not any(parts.values())


def test_failing_behaviours_get_more(make):
    """Of two trained behaviours the one that fails more is dreamed of more; guards and counters get their share."""
    seeds = allocate(64, NEEDS, MATERIAL, cycle=3, rng=random.Random(0))
    counts = Counter((s.behavior, s.kind) for s in seeds)
    assert len(seeds) == 64 and all(s.cycle == 3 for s in seeds)
    assert counts["listening", "target"] > 2 * counts["asking", "target"] > 0
    assert counts["push_back", "target"] == 8
    assert counts["listening", "counter"] + counts["asking", "counter"] == 8


@given(st.integers(0, 100), st.floats(0, 0.9), st.booleans())
def test_without_counters_the_share_is_the_guarded_ones(count, share, guarded):
    """A dreamer that cannot ask for counter-examples gets none: their share goes to guarded behaviours, and without
    these to the trained ones' targets; the count stays what was asked for."""
    needs = NEEDS if guarded else NEEDS[:2]
    rng = random.Random(0)
    seeds = allocate(count, needs, MATERIAL, cycle=1, rng=rng, counter_share=share, counters=False)
    assert len(seeds) == count and all(s.kind == "target" for s in seeds)
    assert sum(s.behavior == "push_back" for s in seeds) == (round(count * share) if guarded else 0)


def test_without_guarded_ones_counters_take_the_whole_share():
    """And the other way round: nothing guarded, then all of the share are counter-examples."""
    counts = Counter(s.kind for s in allocate(64, NEEDS[:2], MATERIAL, cycle=1, rng=random.Random(0)))
    assert counts == {"target": 48, "counter": 16}


def test_the_unseen_get_attention():
    """A behaviour never observed has upper limit 1 and is not starved by a known good one."""
    needs = [Need(behavior="known", trained=True, failure=wilson(5, 500)), Need(behavior="new", trained=True)]
    counts = Counter(s.behavior for s in allocate(40, needs, [], cycle=1, rng=random.Random(0)))
    assert counts["new"] > counts["known"] > 0


def test_ids_are_distinct_and_repeatable():
    """Even with little material every seed has its own id, and the same randomness gives the same seeds."""
    one, two = (allocate(64, NEEDS, MATERIAL[:1], cycle=1, rng=random.Random(5)) for _ in range(2))
    assert one == two and len({s.id for s in one}) == 64


def test_bands_follow_learnability():
    """A band that always fails keeps a little, one near one half gets most."""
    weights = learnability({"obvious": 0.02, "medium": 0.5, "subtle": 0.98})
    assert weights["medium"] == 1.0 and weights["obvious"] == weights["subtle"] == pytest.approx(0.15)
    need = Need(behavior="a", trained=True, bands={"obvious": 0.02, "medium": 0.5, "subtle": 0.98})
    bands = Counter(s.band for s in allocate(52, [need], [], cycle=1, rng=random.Random(0), counter_share=0))
    assert bands["medium"] == 40 and bands["obvious"] == bands["subtle"] == 6


def test_material_is_used_evenly_and_may_be_missing():
    """A behaviour's own material takes turns; without any, seeds have no node and dreams still happen."""
    seeds = [s for s in allocate(40, NEEDS[:1], MATERIAL, cycle=1, rng=random.Random(0)) if s.kind == "target"]
    used = Counter(s.memories for s in seeds)
    assert {s.node for s in seeds} == {"pattern-a"} and max(used.values()) - min(used.values()) <= 1
    bare = allocate(4, NEEDS[:1], [], cycle=1, rng=random.Random(0))
    assert all(s.node == "" and s.memories == () for s in bare)


def test_nothing_trained_is_an_error():
    """Without a trained behaviour there is nothing to dream of, and that is said."""
    with pytest.raises(ValueError, match="trained"):
        allocate(4, NEEDS[2:], [], cycle=1, rng=random.Random(0))


def test_all_certain_behaviours_still_get_dreams():
    """Failure rates of 0 with certainty do not divide by nothing."""
    need = Need(behavior="a", trained=True, failure=Interval(0.0, 0.0, 0.0, 10_000))
    assert len(allocate(7, [need], [], cycle=1, rng=random.Random(0))) == 7

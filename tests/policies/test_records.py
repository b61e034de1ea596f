"""The nouns: frozen, and named by their content."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import records
from policies.lifecycle import NEXT, IllegalTransition, step

NOUNS = [
    thing
    for thing in vars(records).values()
    if isinstance(thing, type) and dataclasses.is_dataclass(thing) and thing.__module__ == records.__name__
]


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_ids_are_equal_exactly_when_the_parts_are(one, two):
    """The same parts have the same id, others have another, also when they join to the same text."""
    assert (records.content_id(*one) == records.content_id(*two)) == (one == two)


def test_ids_are_stable_for_ever():
    """Stored ids must be found again by a later version: the hash of known parts does not change."""
    assert records.content_id("turn", "c", 0, "use grep") == "9c61be768aaedfd5161b"


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.__name__)
def test_nouns_are_frozen_slotted_and_keyword_only(noun):
    """A record cannot be changed after it was made, has no stray attributes, and its fields are named."""
    assert noun.__dataclass_params__.frozen
    assert "__slots__" in vars(noun)
    assert all(field.kw_only for field in dataclasses.fields(noun))


@pytest.mark.parametrize("before", [*NEXT, "unheard of"])
def test_an_adapters_life_follows_the_table(before):
    """Every step of the table is allowed, every other raises and names both states."""
    states = set(NEXT) | {after for allowed in NEXT.values() for after in allowed}
    for after in states:
        if after in NEXT.get(before, ()):
            assert step(before, after) == after
        else:
            with pytest.raises(IllegalTransition, match=f"{before}.*{after}"):
                step(before, after)


def test_every_state_can_be_reached_and_left():
    """No state is a dead end, and each can be reached from `trained`: a promotion always has an undo."""
    reached, front = {"trained"}, ["trained"]
    while front:
        for after in NEXT[front.pop()]:
            if after not in reached:
                reached.add(after)
                front.append(after)
    assert reached == set(NEXT)
    assert all(NEXT.values())
    assert "rolled_back" in NEXT["serving"] and "serving" in NEXT["retired"]


def test_nothing_serves_unjudged():
    """A trained adapter must be judged before it serves."""
    assert "serving" not in NEXT["trained"]

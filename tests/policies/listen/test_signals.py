"""Signals: only eligible turns, only what the user's words say."""

import pytest

from policies.listen.signals import eligible, signals


@pytest.mark.parametrize(
    ("user", "expected"), [("use grep", True), ("what time is it", False), ("use rm to delete it", False)]
)
def test_eligibility(make, user, expected):
    """A turn is eligible when one pattern matches and no excluding one does."""
    assert eligible(user, make.behavior()) is expected


@pytest.mark.parametrize(
    ("reaction", "failed"),
    [
        ("no. use grep", True),
        ("i said grep", True),
        ("thanks. now bake the bread", False),
        ("now bake the bread with yeast", False),
        ("thanks, but i said grep", None),
        ("hm", None),
        ("Use grep!", None),
        (None, None),
    ],
)
def test_the_rule(make, reaction, failed):
    """Failure and success phrases decide; both together, a mumble, a repetition and silence decide nothing."""
    got = signals(make.turn("use grep", adapter="a1"), reaction, [make.behavior()])
    assert [s.failed for s in got] == ([] if failed is None else [failed])
    for signal in got:
        assert signal.adapter == "a1" and signal.behavior == "listening" and signal.evidence


def test_a_turn_that_is_not_eligible_gives_no_signal(make):
    """A complaint after a turn in which the behaviour could not be shown says nothing about it."""
    assert signals(make.turn("what time is it"), "no. i said use grep", [make.behavior()]) == []


def test_each_behaviour_is_read_once_per_turn(make):
    """Two behaviours give two signals; reading the turn again gives the same ids."""
    both = [make.behavior("listening"), make.behavior("not_rushing")]
    first = signals(make.turn(), "no. use grep", both)
    again = signals(make.turn(), "thanks", both)
    assert len({s.id for s in first}) == 2
    assert [s.id for s in first] == [s.id for s in again]


def test_evidence_quotes_the_phrase(make):
    """The signal says which words it was read from."""
    assert signals(make.turn(), "well, i said grep", [make.behavior()])[0].evidence == "i said"

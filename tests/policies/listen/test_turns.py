"""Turns: nothing lost, nothing counted twice."""

import random

from hypothesis import given
from hypothesis import strategies as st

from policies.listen.turns import exchanges, turns
from policies.records import Message

ROLES = st.sampled_from(["system", "user", "assistant", "tool"])


def _log(spoken):
    return [
        Message(id=f"m{i}", conversation="c", order=i * 10, role=role, text=text, at=float(i), source="l", adapter=None)
        for i, (role, text) in enumerate(spoken)
    ]


def test_a_conversation_becomes_turns_with_context_and_reaction(make):
    """Two exchanges give two turns; the first is the second's context, and the user's next words its reaction."""
    log = [
        make.message("user", "use grep", 0),
        make.message("assistant", "why not sed?", 1, adapter="a1"),
        make.message("user", "no. i said use grep", 2),
        make.message("assistant", "used grep", 3, adapter="a1"),
    ]
    first, second = exchanges(log, 4, closed=True)
    assert (first.turn.user, first.turn.assistant, first.turn.index) == ("use grep", "why not sed?", 0)
    assert first.reaction == "no. i said use grep" and second.reaction is None
    assert [(m.role, m.content) for m in second.turn.context] == [("user", "use grep"), ("assistant", "why not sed?")]
    assert first.turn.adapter == "a1" and first.turn.at == 1001.0


def test_the_last_turn_waits_until_the_conversation_is_closed(make):
    """An answer that may still grow is no turn before the user speaks again or the conversation is over."""
    log = [make.message("user", "use grep", 0), make.message("assistant", "used grep", 1)]
    assert turns(log, 4) == []
    assert len(turns(log, 4, closed=True)) == 1
    assert turns(log[:1], 4, closed=True) == []


def test_consecutive_answers_are_one(make):
    """Assistant messages in a row, with a tool's output between, are joined; the tool's words appear nowhere."""
    log = [
        make.message("user", "use grep", 0),
        make.message("assistant", "looking", 1),
        make.message("tool", "SECRET OUTPUT", 2),
        make.message("assistant", "used grep", 3),
        make.message("user", "thanks", 4),
        make.message("tool", "SECRET OUTPUT", 5),
        make.message("assistant", "welcome", 6),
    ]
    got = turns(log, 4, closed=True)
    assert [t.assistant for t in got] == ["looking\nused grep", "welcome"]
    assert "SECRET" not in repr(got)


def test_context_is_limited_and_led_by_the_system_message(make):
    """Only the asked number of earlier turns is kept; the last system message before the turn leads."""
    log = [make.message("system", "be brief", 0)]
    for i in range(4):
        log += [make.message("user", f"q{i}", 10 * i + 1), make.message("assistant", f"a{i}", 10 * i + 2)]
    last = turns(log, 1, closed=True)[-1]
    assert [m.content for m in last.context] == ["be brief", "q2", "a2"]
    assert [m.content for m in turns(log, 0, closed=True)[-1].context] == ["be brief"]


def test_a_later_system_message_is_not_a_turns_context(make):
    """What the system says after the user has spoken is no part of what the answer was trained to follow."""
    log = [
        make.message("system", "be brief", 0),
        make.message("user", "use grep", 1),
        make.message("system", "be long", 2),
        make.message("assistant", "used grep", 3),
    ]
    assert [m.content for m in turns(log, 4, closed=True)[0].context] == ["be brief"]


def test_a_turn_taken_early_keeps_its_id_when_it_grows(make):
    """A closed conversation that goes on after all does not give the same turn a second id."""
    log = [make.message("user", "use grep", 0), make.message("assistant", "used", 1)]
    early = turns(log, 4, closed=True)[0]
    log += [make.message("assistant", "grep", 2), make.message("user", "thanks", 3)]
    assert turns(log, 4)[0].id == early.id


def test_an_answer_of_two_adapters_is_nobodys(make):
    """When the adapter was swapped within one answer no adapter is credited with it."""
    log = [
        make.message("user", "use grep", 0),
        make.message("assistant", "a", 1, adapter="one"),
        make.message("assistant", "b", 2, adapter="two"),
    ]
    assert turns(log, 0, closed=True)[0].adapter is None


@given(st.lists(st.tuples(ROLES, st.text(max_size=3)), max_size=25), st.integers(0, 3), st.integers(0, 25))
def test_replay_gives_the_same_turns_first(spoken, context_turns, cut):
    """Reading a prefix and then the whole gives the prefix's turns unchanged, each id once."""
    log = _log(spoken)
    whole = exchanges(log, context_turns)
    part = exchanges(log[:cut], context_turns)
    assert whole[: len(part)] == part
    ids = [e.turn.id for e in exchanges(log, context_turns, closed=True)]
    assert len(ids) == len(set(ids))
    assert {t.id for t in turns(log[:cut], context_turns, closed=True)} <= set(ids)


@given(st.lists(st.tuples(ROLES, st.text(max_size=3)), max_size=20), st.integers())
def test_order_and_repetition_do_not_matter(spoken, seed):
    """Messages that come shuffled and twice give the same turns."""
    log = _log(spoken)
    again = log + log[::2]
    random.Random(seed).shuffle(again)
    assert turns(again, 2, closed=True) == turns(log, 2, closed=True)


@given(st.lists(st.tuples(ROLES, st.text(max_size=3)), max_size=25))
def test_nothing_is_lost(spoken):
    """Every answer after a first question is in exactly one turn, in order."""
    log = _log(spoken)
    first = next((i for i, m in enumerate(log) if m.role == "user" and m.text.strip()), len(log))
    said = [m.text.strip() for m in log[first:] if m.role == "assistant" and m.text.strip()]
    joined = [t.assistant for t in turns(log, 2, closed=True)]
    assert "\n".join(joined) == "\n".join(said)

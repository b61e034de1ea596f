"""What follows from a look, rows in and values out: the route, the words, the alarm."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.serving import outcome

ADDRESS = {"model": "dreamloop:a1", "salt": "s", "steering": ""}


def row(url: str = "http://a:1", state: str = "attested", **facts: Any) -> dict[str, Any]:
    """As `Replica.told` gives it."""
    known = {"why": f"it is {state}", "serves": "dreamloop:a1", "started": 5.0, "apart": 0.3}
    return {"url": url, "state": state, **known, **facts}


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["down"], "down"),
        (["down", "mismatch"], "mismatch"),
        (["asleep", "another model", "down"], "another model"),
        (["full", "down"], "full"),
    ],
)
def test_a_closed_route_says_the_worst(states: list[str], state: str) -> None:
    """What does not pass by itself comes before what does."""
    found = outcome.route("dreamloop", [row(state=one) for one in states], None, None)
    assert (found.open, found.state, found.why) == (False, state, f"it is {state}")


def test_only_what_was_attested_is_routed_to() -> None:
    """The others are left out; requests that could not be asked as configured go nowhere."""
    rows = [row("http://a:1"), row("http://b:1", "mismatch"), row("http://c:1", "down")]
    assert outcome.route("dreamloop", rows, ADDRESS, None).urls == ("http://a:1",)
    closed = outcome.route("dreamloop", rows, None, ["refuses", "it cannot steer"])
    assert (closed.open, closed.state, closed.why) == (False, "refuses", "it cannot steer")


def test_wrong_answers_are_the_first_problem() -> None:
    """Whoever shows one line shows that one; what is as it should be is no problem."""
    rows = [row(state=one) for one in ("down", "asleep", "attested", "starting", "mismatch")]
    assert outcome.problems(rows) == ["mismatch: it is mismatch", "down: it is down"]


def test_an_alarm_is_of_an_adapter_a_replica_and_its_start() -> None:
    """The same again is the same alarm; another of the three is another one. Without a distance there is a zero."""
    said: dict[str, Any] = {"adapter": "a1", "tolerance": 0.02, "cycle": 1, "at": 1.0}
    first = outcome.alarm(row(state="mismatch"), **said)
    assert first.id == outcome.alarm(row(state="mismatch", apart=0.4), **said | {"at": 2.0, "cycle": 2}).id
    others = [
        outcome.alarm(row(state="mismatch"), **said | {"adapter": "a2"}),
        outcome.alarm(row("http://b:1", "mismatch"), **said),
        outcome.alarm(row(state="mismatch", started=6.0), **said),
    ]
    assert len({first.id, *(alarm.id for alarm in others)}) == 4
    assert (first.e_value, outcome.alarm(row(apart=None), **said).e_value) == (0.3, 0.0)

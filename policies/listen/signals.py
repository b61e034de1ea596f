"""What the user's next message says about a turn: did a behaviour fail in it?

The rule, for every behaviour that could be shown in the turn (`eligible`):

- a failure phrase and no success phrase in the reaction: failed;
- a success phrase and no failure phrase: not failed;
- both: the user's words are read both ways, so no signal;
- neither, and the user simply goes on with something else of at least three words: not failed. People correct what
  annoys them and rarely praise the rest; without this case every rate would be near 1. It under-counts failures that
  users put up with, equally for every adapter;
- neither, and the reaction is shorter, or repeats what was said before (a repetition is often a silent complaint):
  no signal; and silence (`reaction` None) is none either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from policies.behaviors import Behavior
from policies.records import Signal, Turn, content_id

_WORD = re.compile(r"\w+")
_QUOTE = 200  # characters of evidence kept


def eligible(user: str, behavior: Behavior) -> bool:
    """Whether `behavior` could be shown or failed in answering `user`."""
    return any(p.search(user) for p in behavior.eligible_any) and not any(
        p.search(user) for p in behavior.eligible_none
    )


def signals(turn: Turn, reaction: str | None, behaviors: Iterable[Behavior]) -> list[Signal]:
    """The signals of one turn; `reaction` is the user's next message, None while there is none.

    Ids depend on turn and behaviour only: a turn gives at most one signal per behaviour, however often it is read.
    """
    if reaction is None:
        return []
    found = []
    for behavior in behaviors:
        if not eligible(turn.user, behavior):
            continue
        heard = _heard(turn.user, reaction, behavior)
        if heard is None:
            continue
        failed, evidence = heard
        found.append(
            Signal(
                id=content_id("signal", turn.id, behavior.name),
                turn=turn.id,
                behavior=behavior.name,
                failed=failed,
                evidence=evidence[:_QUOTE],
                at=turn.at,
                adapter=turn.adapter,
            )
        )
    return found


def _heard(user: str, reaction: str, behavior: Behavior) -> tuple[bool, str] | None:
    failure = next((m.group() for p in behavior.failure if (m := p.search(reaction))), None)
    success = next((m.group() for p in behavior.success if (m := p.search(reaction))), None)
    if failure is not None and success is not None:
        return None
    if failure is not None:
        return True, failure
    if success is not None:
        return False, success
    said, again = _WORD.findall(user.lower()), _WORD.findall(reaction.lower())
    if len(again) < 3 or len(set(said) & set(again)) >= 0.8 * len(set(said) | set(again)):
        return None
    return False, "the user went on"

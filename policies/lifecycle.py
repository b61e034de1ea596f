"""The life of an adapter, as one table: trained -> judged -> serving -> retired | rejected | rolled_back."""

from __future__ import annotations

from typing import Literal

State = Literal["trained", "judged", "serving", "retired", "rejected", "held", "rolled_back"]

NEXT: dict[str, tuple[str, ...]] = {
    "trained": ("judged", "rejected"),
    "judged": ("serving", "held", "rejected"),
    "serving": ("retired", "rolled_back"),
    "held": ("serving",),  # only by an operator's `dreamctl promote`
    "rejected": ("serving",),  # likewise: an operator may overrule the gate, and that is recorded
    "retired": ("serving",),  # a rollback serves the parent again
    "rolled_back": ("serving",),
}


class IllegalTransition(ValueError):
    """An adapter cannot go from this state to that one."""


def step(before: str, after: str) -> str:
    """Return `after` if the table allows it.

    >>> step("judged", "serving")
    'serving'

    Raises IllegalTransition otherwise.
    """
    if after not in NEXT.get(before, ()):
        raise IllegalTransition(f"an adapter that is {before} cannot become {after}; allowed: {NEXT.get(before, ())}")
    return after

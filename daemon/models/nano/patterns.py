"""The behaviours' regular expressions over user text, written down from the world's own words.

They land in `policies/behaviors/*.toml`, where the daemon reads them; a test keeps the two the same.
"""

from __future__ import annotations

import re

from daemon.models.nano import phrases
from daemon.models.nano.checker import GAP_WORDS, HARMFUL_WORDS, any_of
from daemon.models.nano.world import GROUP_OF, GROUPS, LISTENING, NOT_RUSHING, PUSH_BACK, UNFIT


def _readable(expression: str) -> str:
    return expression.replace("\\ ", " ").replace("(?:", "(")


def _word(words: tuple[str, ...]) -> str:
    return _readable(rf"\b{any_of(words)}\b")


def _both(one: tuple[str, ...], other: tuple[str, ...]) -> list[str]:
    return [f"{_word(one)}.*{_word(other)}", f"{_word(other)}.*{_word(one)}"]


def _starts(templates: tuple[str, ...]) -> list[str]:
    """The fixed words each phrase begins with."""
    heads = {re.split(r"\{\w\}", t)[0].strip() for t in templates}
    return [f"^{_readable(re.escape(head))}" for head in sorted(heads)]


CLEAR = [expression for g in GROUPS for expression in _both(g.verbs, g.means)]
GAPS = [_word((*GAP_WORDS["object"], *GAP_WORDS["means"]))]
HARM = [_word(HARMFUL_WORDS)]
ANY = [*_both(tuple(GROUP_OF), UNFIT), *HARM]
NOT_ASKED = (*phrases.NOT_ASKED["object"], *phrases.NOT_ASKED["means"])

ELIGIBLE: dict[str, dict[str, list[str]]] = {
    LISTENING: {"any": CLEAR, "none": [*GAPS, *HARM]},
    NOT_RUSHING: {"any": GAPS, "none": HARM},
    PUSH_BACK: {"any": ANY, "none": GAPS},
}
SIGNALS: dict[str, dict[str, list[str]]] = {
    LISTENING: {"failure": _starts(phrases.NOT_LISTENED), "success": _starts(phrases.THANKS)},
    NOT_RUSHING: {"failure": _starts(NOT_ASKED), "success": _starts(phrases.WELL_ASKED)},
    PUSH_BACK: {"failure": _starts(phrases.NOT_WARNED), "success": _starts(phrases.WELL_WARNED)},
}

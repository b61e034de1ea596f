"""Where the direction stands in a probe's prompt: what the user asks for, and the preferred answer takes up."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from policies.behaviors import Probe

COMMON = 0.1  # a word that more than this share of the prompts has carries the form of asking, not what is asked for
_WORD = re.compile(r"\w+")


def spans(probes: Sequence[Probe]) -> list[tuple[int, int] | None]:
    """Per probe the characters [start, stop) of its prompt that hold the direction; None where nothing does.

    It runs from the first to the last word of the prompt that the preferred answer repeats. Words that are `COMMON`
    among the prompts of `probes` do not count ("please", "use", "the"), so give it all of a behaviour's probes.
    """
    having = Counter(word for probe in probes for word in set(_words(probe.prompt)))
    common = {word for word, count in having.items() if count > max(1, COMMON * len(probes))}
    found: list[tuple[int, int] | None] = []
    for probe in probes:
        repeated = set(_words(probe.preferred)) - common
        places = [match.span() for match in _WORD.finditer(probe.prompt) if match[0].casefold() in repeated]
        found.append((places[0][0], places[-1][1]) if places else None)
    return found


def _words(text: str) -> list[str]:
    return [match[0].casefold() for match in _WORD.finditer(text)]

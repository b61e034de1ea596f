"""Do the two answers of a pair differ in the behaviour alone, or in length and topic as well?

A direction or an update learned from pairs learns all that sets the answers apart. Length and topic are the two usual
strangers among it.
"""

from __future__ import annotations

import math
import re
from statistics import fmean

from policies.behaviors import Behavior, Pair
from policies.behaviors.remarks import Remark
from policies.behaviors.sizes import complete

LONGER = 1.5  # the longer answer's words per word of the shorter one
SHARED = 0.2  # of the content words of the answer that has fewer
BEARABLE = 0.1  # share of such pairs
QUESTIONS = ("Q1", "Q5")
_WORD = re.compile(r"\w+")
_FUNCTION = """
the and you your for with that this these those not are was were will would can could should shall let use using has
have had but its our they them from what which who how why when where any all one just than then yes
"""
_EMPTY = frozenset(_WORD.findall(_FUNCTION))


def contrast(behavior: Behavior) -> list[Remark]:
    """Whole, different in length, different in topic: how many pairs, and which is the first."""
    pairs = complete(behavior)
    remarks = []
    halves = [pair for pair in behavior.pairs if not (pair.preferred and pair.rejected)]
    same = [pair for pair in pairs if pair.preferred.strip() == pair.rejected.strip()]
    for rows, what in ((halves, "lack an answer"), (same, "have the same answer twice")):
        if rows:
            text = f"{_of(rows, list(behavior.pairs))} {what} and show no contrast"
            remarks.append(Remark(level="warning", about="example pairs", text=text, questions=QUESTIONS))
    if not pairs:
        return remarks
    return [*remarks, _length(pairs), _topic(pairs)]


def _length(pairs: list[Pair]) -> Remark:
    apart = [pair for pair in pairs if abs(_log_ratio(pair)) > math.log(LONGER)]
    mean = math.exp(fmean(map(_log_ratio, pairs)))
    text = f"{_of(apart, pairs)} differ by more than {LONGER} times in words; preferred are {mean:.2f} times as long"
    # a length that always goes one way is learned even where no single pair is far apart
    one_way = max(mean, 1 / mean) > math.sqrt(LONGER)
    weak = len(apart) > BEARABLE * len(pairs) or one_way
    if weak:
        text += ": length is learned with the behaviour"
    return Remark(level="warning" if weak else "ok", about="answers' length", text=text, questions=QUESTIONS)


def _topic(pairs: list[Pair]) -> Remark:
    apart = [pair for pair in pairs if _shared(pair) < SHARED]
    weak = len(apart) > BEARABLE * len(pairs)
    text = f"{_of(apart, pairs)} share fewer than {SHARED:.0%} of their content words"
    if weak:
        text += ": the topic is learned with the behaviour"
    return Remark(level="warning" if weak else "ok", about="answers' topic", text=text, questions=QUESTIONS)


def _log_ratio(pair: Pair) -> float:
    preferred, rejected = (max(1, len(text.split())) for text in (pair.preferred, pair.rejected))
    return math.log(preferred / rejected)


def _shared(pair: Pair) -> float:
    preferred, rejected = content_words(pair.preferred), content_words(pair.rejected)
    fewer = min(len(preferred), len(rejected))
    return len(preferred & rejected) / fewer if fewer else 1.0  # "no." and "yes." have no topic to differ in


def content_words(text: str) -> set[str]:
    """The words of three letters or more that carry a topic.

    >>> sorted(content_words("I will use the oven to bake it."))
    ['bake', 'oven']
    """
    return {word for word in _WORD.findall(text.lower()) if len(word) >= 3} - _EMPTY


def _of(rows: list[Pair], pairs: list[Pair]) -> str:
    first = f" (as {rows[0].prompt[:50]!r})" if rows else ""
    return f"{len(rows)} of {len(pairs)} pairs{first}"

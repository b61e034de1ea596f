"""Two classes of texts that differ in what they say and in nothing else: matched in length, grouped by template."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FRAME = 0.05  # a word in this share of a class's texts carries the form of asking, not what is asked about
CALIPER = 2  # matched texts differ by this many tokens at most
_ARTICLES = frozenset(("a", "an", "the"))
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_WORD = re.compile(r"[\w']+")


def templates(first: Sequence[str], second: Sequence[str]) -> tuple[list[str], list[str]]:
    """The skeleton of each text's longest sentence: words that carry the form of asking stay, all others are masked.

    A word carries the form when both classes have it in a twentieth of their texts, so that what tells the classes
    apart is masked; where half of the texts have no two such words, when one class does. Openers ("hi.") do not count.

    >>> templates(["hi. use a pen to draft the note."] * 2, ["use some tool to send the note."])[0][0]
    'use _ to _ note'
    """
    cut = [[_words(_longest(text)) for text in texts] for texts in (first, second)]
    frames = [_frame(texts) for texts in cut]
    frame = frames[0] & frames[1]
    framed = [sum(len(frame & set(words)) > 1 for words in texts) for texts in cut]
    if min(framed) < min(len(first), len(second)) / 2:
        frame = frames[0] | frames[1]
    mine, other = ([_skeleton(words, frame) for words in texts] for texts in cut)
    return mine, other


def match_lengths(first: Sequence[int], second: Sequence[int], wanted: int) -> list[tuple[int, int]]:
    """Up to `wanted` pairs of places whose lengths are equal, or differ by 1 or 2 where there are too few equal ones.

    Each place is used once. Where there are more pairs, those kept are spread evenly over the lengths.

    >>> match_lengths([5, 9, 7], [7, 5, 30], wanted=3)
    [(0, 1), (2, 0)]
    """
    pairs: list[tuple[int, int]] = []
    for caliper in range(CALIPER + 1):
        pairs = _paired(first, second, caliper)
        if len(pairs) >= wanted:
            break
    if len(pairs) <= wanted:
        return pairs
    return [pairs[place * len(pairs) // wanted] for place in range(wanted)]


def bag_of_words(texts: Sequence[str]) -> NDArray[np.float64]:
    """(texts, words): how often each text has each word. What a probe can tell from this needs no model."""
    counts = [Counter(_words(text)) for text in texts]
    words = sorted({word for count in counts for word in count})
    return np.array([[count[word] for word in words] for count in counts], dtype=float)


def _paired(first: Sequence[int], second: Sequence[int], caliper: int) -> list[tuple[int, int]]:
    left, right = ([int(i) for i in np.argsort(lengths, kind="stable")] for lengths in (first, second))
    pairs, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        apart = first[left[i]] - second[right[j]]
        if abs(apart) <= caliper:
            pairs.append((left[i], right[j]))
        i, j = i + (apart <= caliper), j + (apart >= -caliper)
    return pairs


def _longest(text: str) -> str:
    return max(_SENTENCE.split(text), key=lambda sentence: len(_words(sentence)))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _frame(texts: Sequence[Sequence[str]]) -> set[str]:
    having = Counter(word for words in texts for word in set(words))
    return {word for word, count in having.items() if count >= FRAME * len(texts)} - _ARTICLES


def _skeleton(words: Sequence[str], frame: set[str]) -> str:
    masked: list[str] = []
    for word in words:
        shown = word if word in frame else "_"
        if word not in _ARTICLES and not (shown == "_" and masked and masked[-1] == "_"):
            masked.append(shown)
    return " ".join(masked)

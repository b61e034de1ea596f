"""Diversity of generated texts: a collapsing generator repeats itself long before it looks broken."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

_WORD = re.compile(r"\w+|[^\w\s]")


def distinct_n(texts: Iterable[str], n: int = 2) -> float:
    """Distinct word n-grams divided by all word n-grams (Li et al. 2016, NAACL), in [0, 1]; 0.0 when there are none.

    It falls as more text is counted: compare equal numbers of texts only.

    >>> distinct_n(["a b c", "a b d"], 2)
    0.75
    """
    grams: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = _WORD.findall(text.lower())
        grams.update(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    total = grams.total()
    return len(grams) / total if total else 0.0


def unigram_entropy(texts: Iterable[str]) -> float:
    """Entropy of the words' distribution, in nats, with the Miller-Madow correction; 0.0 without words.

    >>> round(unigram_entropy(["a b"] * 1000), 3)  # ln 2
    0.693
    """
    words = Counter(word for text in texts for word in _WORD.findall(text.lower()))
    total = words.total()
    if not total:
        return 0.0
    plain = -sum(c / total * math.log(c / total) for c in words.values())
    return plain + (len(words) - 1) / (2 * total)

"""When two texts are the same text, or nearly."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rapidfuzz import fuzz, process

_WORD = re.compile(r"\w+")


def normal(text: str) -> str:
    """The words of a text, lower case, one space apart: what "the same text" means here.

    >>> normal("Use  grep, please!")
    'use grep please'
    """
    return " ".join(_WORD.findall(text.lower()))


def nearest(text: str, others: Sequence[str], near: float) -> int | None:
    """The place of the text in `others` most like `text`, or None when none reaches `near`.

    Closeness is rapidfuzz's ratio, the normalised indel similarity from 0 to 100: 97 is one letter in about thirty.

    >>> nearest("sort the backup", ["fold the shirt", "sort the backups"], 90), nearest("a", ["b"], 90)
    (1, None)
    """
    match = process.extractOne(text, others, scorer=fuzz.ratio, score_cutoff=near)
    return None if match is None else int(match[2])

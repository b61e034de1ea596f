"""Why did the server end? The line of its log that says it. Pure."""

from __future__ import annotations

import re

_ORIGIN = re.compile(r"^\(\w[\w-]* pid=\d+\)\s?")
_STAMP = re.compile(r"^[A-Z]+ \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\]\s?")
_ERROR = re.compile(r"^[\w.]*(Error|Exception|Interrupt|Exit)\b.*|.*\berror: .+|.*: cannot be started: .+")
_ELSEWHERE = re.compile(r"root cause|stack trace above", re.IGNORECASE)  # errors that point at another one
LONGEST = 300


def last_words(log: str) -> str:
    """The last error that is its own cause, else the last line that says something; "" for an empty log.

    >>> last_words('''(EngineCore pid=7) ERROR 11-24 23:54:24 [core.py:1] Traceback (most recent call last):
    ... (EngineCore pid=7) ERROR 11-24 23:54:24 [core.py:1] ValueError: No available memory for the cache blocks.
    ... (APIServer pid=6) RuntimeError: Engine core initialization failed. See root cause above.''')
    'ValueError: No available memory for the cache blocks.'
    """
    lines = [_STAMP.sub("", _ORIGIN.sub("", line)).strip() for line in log.splitlines()]
    said = [line for line in lines if line]
    errors = [line for line in said if _ERROR.match(line) and not _ELSEWHERE.search(line)]
    word = errors[-1] if errors else said[-1] if said else ""
    return word if len(word) <= LONGEST else word[: LONGEST - 3] + "..."

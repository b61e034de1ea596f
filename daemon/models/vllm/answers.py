"""Reads what a server answered. A 200 is not an answer yet: choices may be missing, cut off or not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from daemon.errors import BadAnswer

_ENDED = ("stop", "length")


def generated(url: str, found: Mapping[str, Any], max_tokens: int) -> list[int]:
    """The new token ids of a completion of one prompt. Raises BadAnswer."""
    choice = _choices(url, found, 1)[0]
    ids = choice.get("token_ids")
    ended = choice.get("finish_reason")
    if not isinstance(ids, list) or not all(map(_is_token, ids)):
        raise BadAnswer(
            f"{url}: returned no token ids; dreamloop needs vLLM's `return_token_ids`, to tokenize nothing twice"
        )
    if ended not in _ENDED or (ended == "length" and len(ids) < max_tokens):
        raise BadAnswer(f"{url}: cut an answer off after {len(ids)} of {max_tokens} tokens (finish reason {ended!r})")
    return ids


def generated_logprob(url: str, found: Mapping[str, Any]) -> float:
    """The log-probability of the one token that was generated. Raises BadAnswer when it is not there."""
    logprobs = _choices(url, found, 1)[0].get("logprobs")
    values = logprobs.get("token_logprobs") if isinstance(logprobs, Mapping) else None
    if not isinstance(values, list) or len(values) != 1:
        raise BadAnswer(f"{url}: returned no log-probability of the token that it was asked for")
    return _number(values[0])


def prompt_logprobs(
    url: str, found: Mapping[str, Any], texts: Sequence[Sequence[int]], starts: Sequence[int]
) -> list[list[float]]:
    """Per text the log-probabilities in nats of its tokens from `start` on; NaN where the server gave no number.

    Raises BadAnswer when not every token was scored.
    """
    choices = _choices(url, found, len(texts))
    if sorted(str(choice.get("index")) for choice in choices) == sorted(map(str, range(len(texts)))):
        choices = sorted(choices, key=lambda choice: int(choice["index"]))  # servers finish in any order
    scored = []
    for choice, text, start in zip(choices, texts, starts, strict=True):
        rows = choice.get("prompt_logprobs")
        if not isinstance(rows, list) or len(rows) != len(text):
            have = len(rows) if isinstance(rows, list) else 0
            raise BadAnswer(f"{url}: scored {have} of {len(text)} tokens (`prompt_logprobs`)")
        try:
            scored.append([_number(rows[at][str(text[at])]["logprob"]) for at in range(start, len(text))])
        except (KeyError, TypeError) as error:
            raise BadAnswer(f"{url}: its `prompt_logprobs` are of other tokens than were sent") from error
    return scored


def _choices(url: str, found: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    choices = found.get("choices")
    if not isinstance(choices, list) or len(choices) != count or not all(isinstance(c, Mapping) for c in choices):
        have = len(choices) if isinstance(choices, list) else 0
        raise BadAnswer(f"{url}: said 200 and returned {have} answers where {count} were asked for")
    return choices


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _number(value: Any) -> float:
    """A number as it is, NaN for anything else: JSON has no NaN, and servers write null."""
    try:
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:  # an integer of hundreds of digits
        return math.nan

"""Whatever a server says, reading it gives something well-formed or BadAnswer."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import BadAnswer
from daemon.models.vllm import answers

URL = "http://127.0.0.1:8000"
TEXTS = [[5, 6, 7], [8, 9]]
STARTS = [1, 0]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["stop", "length", "abort"])
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)
entry = st.fixed_dictionaries({}, optional={"logprob": anything, "rank": anything})
row = anything | st.dictionaries(st.sampled_from(["5", "6", "7", "8", "9", "x"]), anything | entry, max_size=3)
choice = anything | st.fixed_dictionaries(
    {},
    optional={
        "index": scalars,
        "token_ids": anything | st.lists(scalars, max_size=4) | st.lists(st.integers(0, 9), max_size=4),
        "finish_reason": anything,
        "logprobs": anything | st.fixed_dictionaries({}, optional={"token_logprobs": st.lists(anything, max_size=2)}),
        "prompt_logprobs": anything | st.lists(row, max_size=4),
    },
)
answer = st.dictionaries(st.text(max_size=4), anything, max_size=3) | st.fixed_dictionaries(
    {}, optional={"choices": anything | st.lists(choice, max_size=3)}
)


@given(answer, st.integers(1, 4))
def test_generated_or_bad(found: dict[str, Any], count: int) -> None:
    """Token ids that a tokenizer can take, as many as asked for unless the model ended; or BadAnswer."""
    try:
        ids = answers.generated(URL, found, count)
    except BadAnswer as error:
        assert str(error).startswith(URL)
    else:
        assert all(type(token) is int and 0 <= token < 2**31 for token in ids)
        assert len(ids) >= count or found["choices"][0]["finish_reason"] == "stop"


@given(answer)
def test_a_tokens_logprob_or_bad(found: dict[str, Any]) -> None:
    """A float, NaN where the server gave no number; or BadAnswer."""
    try:
        value = answers.generated_logprob(URL, found)
    except BadAnswer as error:
        assert str(error).startswith(URL)
    else:
        assert type(value) is float


@given(answer)
def test_scores_or_bad(found: dict[str, Any]) -> None:
    """Per text a float per token from its start on; or BadAnswer."""
    try:
        rows = answers.prompt_logprobs(URL, found, TEXTS, STARTS)
    except BadAnswer as error:
        assert str(error).startswith(URL)
    else:
        assert [len(row) for row in rows] == [2, 2]
        assert all(type(value) is float for row in rows for value in row)


def scored(text: list[int], index: int) -> dict[str, Any]:
    """A right choice: the log-probability of token t is -t."""
    return {"index": index, "prompt_logprobs": [{str(t): {"logprob": -t}} for t in text]}


@given(st.permutations([0, 1]))
def test_answers_come_in_any_order(order: list[int]) -> None:
    """Every text has its own scores, whatever came first."""
    found = {"choices": [scored(TEXTS[at], at) for at in order]}
    assert answers.prompt_logprobs(URL, found, TEXTS, STARTS) == [[-6.0, -7.0], [-8.0, -9.0]]


def test_the_first_token_has_no_score() -> None:
    """vLLM gives null there; scored from the second on that is no trouble, from the first it is."""
    found = {"choices": [scored(TEXTS[0], 0)]}
    found["choices"][0]["prompt_logprobs"][0] = None
    assert answers.prompt_logprobs(URL, found, TEXTS[:1], [1]) == [[-6.0, -7.0]]
    with pytest.raises(BadAnswer, match="other tokens"):
        answers.prompt_logprobs(URL, found, TEXTS[:1], [0])


@pytest.mark.parametrize("said", ["null", "NaN", "Infinity", '"-1.5"', "true", "1" + "0" * 400])
def test_what_is_no_number_is_not_finite(said: str) -> None:
    """However a server writes that it has none, or writes rubbish: nothing of it passes for a log-probability."""
    found = {"choices": [{"logprobs": {"token_logprobs": [json.loads(said)]}}]}
    assert not math.isfinite(answers.generated_logprob(URL, found))

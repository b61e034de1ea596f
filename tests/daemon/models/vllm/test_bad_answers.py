"""A server that says 200 and something that is no answer: asked again a few times, then named; never passed on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from daemon.errors import BadAnswer, NotAttested
from daemon.models.base import Sampling
from daemon.models.vllm.fleet import TRIES
from daemon.models.vllm.model import VLLMModel
from tests.daemon.models.vllm.bench import ANSWERED, PROMPTS, Bench
from tests.daemon.models.vllm.listening import Port
from tests.daemon.models.vllm.scripted import Answer, Body, Scripted

GREEDY = Sampling(temperature=0, max_tokens=12)
Spoil = Callable[[Answer, Body], Any]


def no_choices(answer: Answer, body: Body) -> Any:
    return answer | {"choices": []}


def one_choice_less(answer: Answer, body: Body) -> Any:
    return answer | {"choices": answer["choices"][:-1]}


def null_choices(answer: Answer, body: Body) -> Any:
    return answer | {"choices": None}


def a_list(answer: Answer, body: Body) -> Any:
    return [answer]


def not_json(answer: Answer, body: Body) -> Any:
    return Response("{'choices':", media_type="application/json")


def a_page(answer: Answer, body: Body) -> Any:
    return HTMLResponse("<html>It works!</html>")


def aborted(answer: Answer, body: Body) -> Any:
    answer["choices"][0]["finish_reason"] = "abort"
    return answer


def unfinished(answer: Answer, body: Body) -> Any:
    answer["choices"][0]["finish_reason"] = None
    return answer


def too_short(answer: Answer, body: Body) -> Any:
    answer["choices"][0] |= {"finish_reason": "length", "token_ids": [17]}
    return answer


def no_ids(answer: Answer, body: Body) -> Any:
    answer["choices"][0]["token_ids"] = None
    return answer


def words_for_ids(answer: Answer, body: Body) -> Any:
    answer["choices"][0]["token_ids"] = ["the", "quick"]
    return answer


def unscored(answer: Answer, body: Body) -> Any:
    answer["choices"][0]["prompt_logprobs"] = None
    return answer


def scored_in_part(answer: Answer, body: Body) -> Any:
    answer["choices"][0]["prompt_logprobs"].pop()
    return answer


def other_tokens(answer: Answer, body: Body) -> Any:
    rows = answer["choices"][0]["prompt_logprobs"]
    rows[-1] = {"855": next(iter(rows[-1].values()))}
    return answer


def scores(value: float | None) -> Spoil:
    def spoil(answer: Answer, body: Body) -> Any:
        for choice in answer["choices"]:
            for row in filter(None, choice["prompt_logprobs"] or []):
                next(iter(row.values()))["logprob"] = value
            if choice["logprobs"]:
                choice["logprobs"]["token_logprobs"] = [value]
        return answer

    spoil.__name__ = f"scores_{value}"
    return spoil


ANY = [no_choices, one_choice_less, null_choices, a_list, not_json, a_page]
GENERATING = {
    **dict.fromkeys(ANY, "http://"),
    aborted: "cut an answer off after",
    unfinished: "cut an answer off after",
    too_short: "1 of 12 tokens",
    no_ids: "return_token_ids",
    words_for_ids: "return_token_ids",
}
SCORING = {
    **dict.fromkeys(ANY, "http://"),
    unscored: "scored 0 of",
    scored_in_part: "prompt_logprobs",
    other_tokens: "other tokens than were sent",
    scores(math.nan): "not finite numbers",
    scores(None): "not finite numbers",
}


def test_words_for_an_empty_answer(model: VLLMModel, server: Scripted, port: Port) -> None:
    """The message says where, that it was a 200, and how many answers are missing."""
    model.use(None)
    server.spoil = one_choice_less
    with pytest.raises(BadAnswer, match=rf"{re.escape(port.url)}: said 200 and returned 0 answers where 1 were"):
        model.generate(PROMPTS[:1], GREEDY)


@pytest.mark.parametrize("spoil", GENERATING, ids=lambda spoil: spoil.__name__)
def test_a_bad_answer_is_never_an_answer(model: VLLMModel, server: Scripted, port: Port, spoil: Spoil) -> None:
    """Generating: after a few tries BadAnswer with the address and what is wrong."""
    model.use(None)
    before = len(server.completions())
    server.spoil = spoil
    with pytest.raises(BadAnswer, match=re.escape(GENERATING[spoil])) as caught:
        model.generate(PROMPTS[:1], GREEDY)
    assert str(caught.value).startswith(port.url)
    assert len(server.completions()) == before + TRIES


@pytest.mark.parametrize("spoil", SCORING, ids=lambda spoil: spoil.__name__)
def test_a_bad_score_is_never_a_score(model: VLLMModel, server: Scripted, port: Port, spoil: Spoil) -> None:
    """Scoring: the same."""
    model.use(None)
    server.spoil = spoil
    with pytest.raises(BadAnswer, match=re.escape(SCORING[spoil])) as caught:
        model.logprobs(ANSWERED)
    assert str(caught.value).startswith(port.url)


@pytest.mark.parametrize("spoil", [no_choices, not_json, aborted, no_ids], ids=lambda spoil: spoil.__name__)
def test_one_bad_answer_is_asked_again(model: VLLMModel, server: Scripted, bench: Bench, spoil: Spoil) -> None:
    """A server that comes to its senses has cost a request, and the answers are as if nothing had been."""
    model.use(None)
    server.spoil, server.spoiled = spoil, 2
    assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)


def test_one_bad_answer_does_not_end_attestation(model: VLLMModel, server: Scripted, candidate: Path) -> None:
    """What is tried again in answering is tried again in attesting."""
    server.spoil, server.spoiled = no_choices, 1
    model.use(candidate)
    assert model.using == candidate


@pytest.mark.parametrize("spoil", SCORING, ids=lambda spoil: spoil.__name__)
def test_bad_answers_cannot_attest(model: VLLMModel, server: Scripted, candidate: Path, spoil: Spoil) -> None:
    """An adapter whose probes are not answered is not used, and the status says what the server does."""
    model.use(None)
    server.spoil = spoil
    with pytest.raises((BadAnswer, NotAttested)):
        model.use(candidate)
    assert model.using is None
    (row,) = model.look(candidate, [])
    numbers = spoil.__name__.startswith("scores_")
    assert row["state"] == ("mismatch" if numbers else "bad answers")
    assert "not all finite" in row["why"] if numbers else row["why"].startswith(row["url"])


def test_a_server_that_recovers_is_attested(model: VLLMModel, server: Scripted, candidate: Path) -> None:
    """Nothing is held against a server: what was refused is served once it is attested."""
    server.spoil = no_choices
    with pytest.raises(BadAnswer):
        model.use(candidate)
    server.spoil = None
    model.use(candidate)
    assert [row["state"] for row in model.look(candidate, [])] == ["attested"]


@pytest.mark.parametrize("path", ["/version", "/v1/models", "/tokenize"])
@pytest.mark.parametrize(
    "reply",
    [HTMLResponse("<html>It works!</html>"), HTMLResponse("<html>no such page</html>", 404), PlainTextResponse("{")],
    ids=["page", "404", "text"],
)
def test_another_program_on_that_port(model: VLLMModel, server: Scripted, path: str, reply: Response) -> None:
    """Whatever it says, it is no vLLM server, and the message asks whether the address is right."""
    server.replies[path] = reply
    with pytest.raises(BadAnswer, match=r"`serve\.url`|/tokenize"):
        model.use(None)

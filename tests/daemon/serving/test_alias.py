"""What a request to the alias becomes."""

from __future__ import annotations

import doctest
import json
from typing import Any

import pytest

from daemon.models.vllm.steering import ARGUMENT
from daemon.serving import alias, backoff, last_words, upstream
from daemon.serving.route import FORBIDDEN, LONGEST, Route

PLAIN = Route(alias="dreamloop", model="dreamloop:a", salt="s1", urls=("http://h:1",))
STEERED = Route(alias="dreamloop", model="dreamloop:a", salt="s1", steering="v*2", urls=("http://h:1",))
CHAT = "/v1/chat/completions"


def sent(body: dict[str, Any], route: Route = PLAIN, path: str = CHAT) -> dict[str, Any] | None:
    found = alias.rewritten(path, json.dumps(body).encode(), route)
    return None if found is None else json.loads(found)


@pytest.mark.parametrize("module", [alias, backoff, last_words, upstream])
def test_examples(module: Any) -> None:
    """The docstrings' examples hold."""
    assert doctest.testmod(module).failed == 0


def test_the_argument_is_the_workers() -> None:
    """The gateway steers by the name that the worker extension reads."""
    assert alias.STEERING == ARGUMENT


def test_the_alias_becomes_the_version() -> None:
    """Model and salt are set, the rest is what it was; a body without a model means the alias."""
    assert sent({"model": "dreamloop", "top_k": 3}) == {"model": "dreamloop:a", "top_k": 3, "cache_salt": "s1"}
    assert sent({"prompt": "x"}) == {"prompt": "x", "model": "dreamloop:a", "cache_salt": "s1"}


@pytest.mark.parametrize("body", [b'{"model": "base"}', b'{"model": 3}', b"[1]", b"{", b"", b"\xff", b"[" * 200_000])
def test_what_asks_for_something_else_is_left_alone(body: bytes) -> None:
    """Another model, no object, no JSON: the server answers that, to the bytes that the client wrote."""
    assert alias.rewritten(CHAT, body, PLAIN) is None


def test_without_a_model_only_what_generates_is_the_aliass() -> None:
    """`/tokenize` without a model is the server's own affair; with the alias it is the version's, without salt."""
    assert sent({"prompt": "x"}, path="/tokenize") is None
    assert sent({"model": "dreamloop"}, path="/tokenize") == {"model": "dreamloop:a"}


def test_salts_are_combined_into_one_that_vllm_takes() -> None:
    """A client's own salt still keeps its cache apart, from ours, from other clients' and from other versions'."""
    other = Route(alias="dreamloop", model="dreamloop:b", salt="s2", urls=("http://h:1",))
    asked = [{"cache_salt": "t1"}, {"cache_salt": "t2"}, {"cache_salt": "t/3" * 90}, {}, {"cache_salt": ""}]
    salts = [sent(one, route)["cache_salt"] for one in asked for route in (PLAIN, other)]  # type: ignore[index]
    assert len(set(salts)) == 8  # "" is no salt
    assert all(len(salt) <= LONGEST and not FORBIDDEN & set(salt) for salt in salts)
    assert sent({"cache_salt": "t1"}) == sent({"cache_salt": "t1"})
    assert sent({"cache_salt": 7})["cache_salt"] == 7  # type: ignore[index] - vLLM says what is wrong with it


def test_steering_is_merged_and_belongs_to_the_route() -> None:
    """A client's other arguments stay; it can neither steer the alias nor turn its steering off."""
    assert sent({"vllm_xargs": {"a": 1}}, STEERED)["vllm_xargs"] == {"a": 1, ARGUMENT: "v*2"}  # type: ignore[index]
    assert sent({"vllm_xargs": {ARGUMENT: "w*9"}}, STEERED)["vllm_xargs"] == {ARGUMENT: "v*2"}  # type: ignore[index]
    assert "vllm_xargs" not in sent({"vllm_xargs": {ARGUMENT: "w*9"}}, PLAIN)  # type: ignore[operator]
    assert sent({"vllm_xargs": "no"}, PLAIN)["vllm_xargs"] == "no"  # type: ignore[index]


def test_arguments_that_may_change_states_keep_the_cache_apart() -> None:
    """What a client tells the workers may change what a prefix cache holds, so it is salt."""
    assert sent({"vllm_xargs": {"a": 1}})["cache_salt"] not in ("s1", sent({"vllm_xargs": {"a": 2}})["cache_salt"])  # type: ignore[index]


def test_the_alias_is_listed_with_its_version() -> None:
    """It stands first, as an adapter of the base, and what clients read from the base is there, too."""
    models = [{"id": "base", "root": "/m", "max_model_len": 9}, {"id": "dreamloop:a", "root": "/v", "parent": "base"}]
    first, *rest = json.loads(alias.listed(json.dumps({"object": "list", "data": models}).encode(), PLAIN))["data"]
    assert rest == models
    assert (first["id"], first["root"], first["parent"]) == ("dreamloop", "dreamloop:a", "base")
    assert first["max_model_len"] == 9
    assert alias.listed(b"oops", PLAIN) == b"oops"


@pytest.mark.parametrize(
    "path",
    ["/sleep", "/wake_up", "/collective_rpc", "/reset_prefix_cache", "/v1/load_lora_adapter",
     "/v1/unload_lora_adapter/", "/adapters", "/v1/../sleep", "//v1/x", "/pause", "/"],
)  # fmt: skip
def test_administration_is_not_for_clients(path: str) -> None:
    """What loads adapters, puts a server to sleep or calls into its workers does not pass."""
    assert not alias.allowed(path)

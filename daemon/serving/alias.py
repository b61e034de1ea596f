"""What a request to the alias becomes, and how the alias is listed. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from daemon import vllm_worker
from daemon.serving.route import Route

STEERING = vllm_worker.ARGUMENT
GENERATING = frozenset({"/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"})

# What clients need. The rest of a server's paths load adapters, put it to sleep or call into its workers.
_OPEN = ("/v1/", "/v2/", "/tokenize", "/detokenize", "/version", "/metrics", "/ping", "/load", "/generative_scoring",
         "/pooling", "/classify", "/score", "/rerank", "/openapi.json")  # fmt: skip
_CLOSED = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter")


def allowed(path: str) -> bool:
    """Is this a path for clients? Administration is done at the server itself.

    >>> allowed("/v1/chat/completions"), allowed("/v1/load_lora_adapter"), allowed("/collective_rpc")
    (True, False, False)
    """
    plain = path.rstrip("/")
    if "//" in path or "/../" in f"{path}/" or plain in _CLOSED:
        return False
    return any(path.startswith(one) if one.endswith("/") else plain == one for one in _OPEN)


def rewritten(path: str, body: bytes, route: Route) -> bytes | None:
    """The body that is sent on for a request to the alias; None when it asks for something else, or is no object.

    A body without a model is the alias's where an answer is generated: elsewhere the server's base is meant.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return None  # the server says what is wrong with it, in its own words
    if not isinstance(asked, dict):
        return None
    generates = path.rstrip("/") in GENERATING
    model = asked.get("model")
    if model != route.alias and not (generates and model in (None, "")):
        return None
    asked["model"] = route.model
    if generates:
        _kept_apart(asked, route)
    return json.dumps(asked).encode()


def _kept_apart(asked: dict[str, Any], route: Route) -> None:
    """Set steering and the cache's salt.

    What a client says in `vllm_xargs` may change hidden states, and so what the prefix cache holds: it is salt, too.
    """
    theirs = asked.get("vllm_xargs")
    if theirs is None or isinstance(theirs, Mapping):
        arguments = {key: value for key, value in (theirs or {}).items() if key != STEERING}
        merged = {**arguments, **({STEERING: route.steering} if route.steering else {})}
        if merged:
            asked["vllm_xargs"] = merged
        else:
            asked.pop("vllm_xargs", None)
    else:
        arguments = {}  # the server refuses it
    salt = asked.get("cache_salt")
    if salt is None or isinstance(salt, str):
        asked["cache_salt"] = combined(route.salt, salt or "", arguments)
        if not asked["cache_salt"]:
            del asked["cache_salt"]


def combined(ours: str, theirs: str, arguments: Mapping[str, Any]) -> str:
    """One salt out of the route's, the client's and the client's extra arguments; the route's own when that is all.

    >>> combined("v1", "", {})
    'v1'
    >>> combined("v1", "tenant", {}) == combined("v1", "other", {})
    False
    """
    if not theirs and not arguments:
        return ours
    said = json.dumps([ours, theirs, arguments], sort_keys=True).encode()
    return hashlib.sha256(said).hexdigest()


def listed(body: bytes, route: Route) -> bytes:
    """The server's list of models with the alias in front. What is no list is returned as it is."""
    try:
        found = json.loads(body)
        models = [one for one in found["data"] if isinstance(one, dict)]
    except (ValueError, TypeError, KeyError, RecursionError):
        return body
    version = next((one for one in models if one.get("id") == route.model), {})
    base = version.get("parent")
    like = next((one for one in models if one.get("id") == base), {})
    alias = {**like, **version, **entry(route), "parent": base}
    return json.dumps({**found, "data": [alias, *(one for one in models if one.get("id") != route.alias)]}).encode()


def entry(route: Route) -> dict[str, Any]:
    """The alias as one model of `/v1/models`: `root` is the version behind it."""
    return {"id": route.alias, "object": "model", "created": 0, "owned_by": "dreamloop", "root": route.model}

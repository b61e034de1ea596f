"""Asks a server for its log-probabilities on a version's reference probes, and has them compared with the trainer's.

Whole probes are scored by `prompt_logprobs`, which never reads the prefix cache. What a cache holds shows only in
generated tokens: one token is generated and only the wanted one allowed, which reports that token's raw
log-probability. The long probes are asked for three times: with a salt that nobody used before (the cache is cold),
with the version's own salt (as dreamloop asks), and without one (as anybody else's client asks). Whether the server
read its cache meanwhile is seen from its metrics: a check that read none has not checked the cache, and says so.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from daemon.errors import WrongServer
from daemon.models.vllm.answers import generated_logprob, prompt_logprobs
from daemon.models.vllm.asking import Asking
from daemon.models.vllm.server import Server
from daemon.models.vllm.versions import Probes, Reference, Version
from policies.serve.attestation import Attestation, Rows, attest


async def attested(server: Server, model: str, version: Version, reference: Reference, tolerance: float) -> Attestation:
    """What the server says under the name `model`, against the reference. Raises ServeError when it cannot be asked."""
    before = await server.counters()
    asking = Asking(server, busy=before.running > 0)
    passes: dict[str, Awaitable[Rows]] = {}
    for name, probes in reference.sets.items():
        if probes.places is None:
            passes[name] = scored(asking, model, probes.prompts, probes.targets, version.salt)
        else:
            salts = {"cold": uuid.uuid4().hex, "warm": version.salt, "unsalted": None}
            for word, salt in salts.items():
                passes[f"{name}/{word}"] = _placed(asking, model, probes, salt)
    # no pass shares a cache with another, so they may go side by side
    served: dict[str, Rows] = dict(zip(passes, await asyncio.gather(*passes.values()), strict=True))
    found = attest({name: probes.trained for name, probes in reference.sets.items()}, served, tolerance)
    after = await server.counters()
    if found.ok and before.cached is not None and after.cached is not None and after.cached <= before.cached:
        found = replace(found, words=f"{found.words}; its prefix cache was not read, so that was not tested")
    return found


async def same_template(server: Server, model: str, reference: Reference) -> None:
    """Does the server render a conversation as the trainer does? Raises WrongServer."""
    ids = await server.tokenize(model, reference.messages)
    if ids != list(reference.ids):
        raise WrongServer(
            f"{server.url}: has another tokenizer or chat template than the trainer ({len(ids)} tokens for a "
            f"conversation of {len(reference.ids)}); start it on the folder of `model.path`, without --chat-template"
        )


async def scored(
    asking: Asking, model: str, prompts: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], salt: str
) -> list[list[float]]:
    """Per probe the log-probability of each target token, scored whole."""

    async def some(first: int) -> list[list[float]]:
        rows = slice(first, first + asking.batch)
        texts = [[*prompt, *target] for prompt, target in zip(prompts[rows], targets[rows], strict=True)]
        body = scoring(model, texts, salt)
        found = await asking.complete(body)
        starts = [len(prompt) for prompt in prompts[rows]]
        return prompt_logprobs(asking.url, found, texts, starts)

    batches = await asyncio.gather(*(some(first) for first in range(0, len(prompts), asking.batch)))
    return [row for batch in batches for row in batch]


def scoring(
    model: str, texts: Sequence[Sequence[int]], salt: str, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The request that scores whole texts."""
    return {
        "model": model,
        "prompt": list(map(list, texts)),
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,
        "cache_salt": salt,
        **(extra or {}),
    }


async def _placed(asking: Asking, model: str, probes: Probes, salt: str | None) -> list[list[float]]:
    """Per probe the log-probabilities at its places. The first goes alone: the others find its prefix cached."""
    assert probes.places is not None
    asked = [
        (row, [*prompt, *target[:place]], target[place])
        for row, (prompt, target, places) in enumerate(zip(probes.prompts, probes.targets, probes.places, strict=True))
        for place in places
    ]

    async def one(text: list[int], token: int) -> float:
        body: dict[str, Any] = {
            "model": model,
            "prompt": text,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 0,
            "allowed_token_ids": [token],
        }
        found = await asking.complete(body | ({"cache_salt": salt} if salt else {}))
        return generated_logprob(asking.url, found)

    values = [await one(*asked[0][1:])] if asked else []
    values += await asyncio.gather(*(one(text, token) for _, text, token in asked[1:]))
    rows: list[list[float]] = [[] for _ in probes.prompts]
    for (row, *_), value in zip(asked, values, strict=True):
        rows[row].append(value)
    return rows

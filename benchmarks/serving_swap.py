"""From "adapter on disk, published" to "first attested token": how long, of what it consists, and the floor."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
from serving_setup import Bench, Call, say, spread, user

from daemon.models.base import Sampling

PASSES = ("short", "cold", "warm", "unsalted")
FIRST = Sampling(temperature=0, max_tokens=1)


def swap(bench: Bench, repetitions: int) -> dict[str, Any]:
    """`repetitions` swaps on an idle server, each to an adapter that it has never seen."""
    say(f"swap: {repetitions} times")
    adapters = bench.fresh(repetitions)
    rows = [_one(bench, adapter) for adapter in adapters]
    return {
        "seconds": {name: spread([row[name] for row in rows]) for name in rows[0] if name not in ("counts",)},
        "counts_of_one": rows[-1]["counts"],
        "publishing_seconds": spread(bench.publishing[-repetitions:]),
        "repetitions": repetitions,
        "goals": {"total": 1.0},
    }


def _one(bench: Bench, adapter: Path) -> dict[str, Any]:
    """One swap, taken apart, and what the same requests cost when a bare client sends them."""
    calls = bench.noting.calls
    calls.clear()
    before = bench.counters()
    began = time.monotonic()
    bench.client.use(adapter)
    used = time.monotonic()
    bench.client.generate([user("hello")], FIRST)
    ended = time.monotonic()
    after = bench.counters()
    made = list(calls)
    loaded = next(call for call in made if call.path == "/load_lora_adapter")
    asked = [call for call in made if call.path == "/completions" and call.ended <= used]
    by_pass = {name: [call for call in asked if _pass(call, bench) == name] for name in PASSES}
    bench.client.use(None)
    bench.unload()
    floor = _floor(bench, adapter, by_pass)
    began_again = time.monotonic()
    bench.client.attest(None, again=True)
    return {
        "total": ended - began,
        "look": loaded.began - began,
        "load": loaded.ended - loaded.began,
        "attest": used - loaded.ended,
        **{f"attest_{name}": _span(found) for name, found in by_pass.items()},
        "attest_own": used - loaded.ended - _span([call for calls in by_pass.values() for call in calls]),
        "first_token": ended - used,
        "floor_of_attest": floor,
        "attest_base_again": time.monotonic() - began_again,
        "counts": {
            "requests": len(made),
            **{f"requests_{name}": len(found) for name, found in by_pass.items()},
            **{f"engine_{name}": round(after[name] - before[name]) for name in after},
        },
    }


def _pass(call: Call, bench: Bench) -> str:
    """Which pass of attestation a completion belongs to."""
    if "prompt_logprobs" in call.body:
        return "short"
    salt = call.body.get("cache_salt")
    if salt is None:
        return "unsalted"
    return "cold" if len(salt) == len(uuid.uuid4().hex) else "warm"


def _span(calls: Sequence[Call]) -> float:
    return max(call.ended for call in calls) - min(call.began for call in calls) if calls else 0.0


def _floor(bench: Bench, adapter: Path, by_pass: Mapping[str, Sequence[Call]]) -> float:
    """Seconds for the same completions from a client that does nothing else, with no more waiting than caches need.

    The adapter is loaded anew under another name, so that nothing of it is cached; all passes run side by side.
    """
    name = f"floor-{adapter.name}"

    async def run() -> float:
        async with httpx2.AsyncClient(base_url=bench.url, trust_env=False, timeout=120) as client:

            async def post(path: str, body: Mapping[str, Any]) -> None:
                (await client.post(path, json=dict(body))).raise_for_status()

            async def one_pass(calls: Sequence[Call], first_alone: bool) -> None:
                salt = uuid.uuid4().hex
                bodies = [{**call.body, "model": name, "cache_salt": salt} for call in calls]
                if first_alone and bodies:
                    await post("/v1/completions", bodies.pop(0))
                await asyncio.gather(*(post("/v1/completions", body) for body in bodies))

            path = str(next((bench.config.state / "served").glob(f"{adapter.name}-*")))
            await post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})
            began = time.monotonic()
            await asyncio.gather(*(one_pass(calls, key != "short") for key, calls in by_pass.items()))
            seconds = time.monotonic() - began
            await post("/v1/unload_lora_adapter", {"lora_name": name})
            return seconds

    return asyncio.run(run())

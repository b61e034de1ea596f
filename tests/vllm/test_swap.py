"""Swapping adapters on a real vLLM while 32 clients stream through the gateway under one model name."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx

from daemon.models.hf import HFModel
from daemon.models.vllm.model import VLLMModel
from daemon.serving import route
from daemon.serving.gateway_process import Gateway
from tests.vllm.adapters import SAYS, publish
from tests.vllm.servers import RunningServer, free_port

CLIENTS = 32


@dataclass(frozen=True)
class Answered:
    """One stream: the models that its pieces named, and its text; `wrong` when it did not end well."""

    models: frozenset[str]
    text: str
    wrong: str = ""


async def ask(client: httpx.AsyncClient, url: str, number: int) -> Answered:
    """One streamed chat under the alias."""
    body = {
        "model": "dreamloop",
        "messages": [{"role": "user", "content": f"use vim for file {number % 16}."}],
        "max_tokens": 24,
        "temperature": 0,
        "stream": True,
    }
    models, text, wrong = set(), "", "it had no end"
    try:
        async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                return Answered(frozenset(), "", f"{answer.status_code}: {await answer.aread()!r}")
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    wrong = ""
                elif line.startswith("data: "):
                    piece = json.loads(line[6:])
                    models.add(str(piece["model"]))
                    text += piece["choices"][0]["delta"].get("content") or "" if piece["choices"] else ""
    except httpx.HTTPError as error:
        wrong = repr(error)
    return Answered(frozenset(models), text.strip(), wrong)


def test_no_stream_fails_or_changes_its_version_while_adapters_are_swapped(
    nano_server: RunningServer, trainer: HFModel, served: VLLMModel, trained: dict[str, Path], tmp_path: Path
) -> None:
    """Load, attest, route, roll back and unload under 32 clients: every stream ends well, says which version answered,
    and says that version's words from beginning to end; after each swap new streams get the new version."""
    publish(trainer, served, trained)
    answered: list[Answered] = []

    def serve(name: str) -> None:
        """As the keeper does it: attest, and only then route."""
        served.use(trained[name])
        route.write(tmp_path, route.Route(alias="dreamloop", urls=(nano_server.url,), **served.address()))

    async def run() -> list[str]:
        gateway = Gateway(tmp_path, free_port(), patience=60)
        await asyncio.to_thread(serve, "a")
        await gateway.start()
        ending = asyncio.Event()
        newest: list[str] = []
        async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=CLIENTS + 4)) as client:

            async def keep_asking(number: int) -> None:
                while not ending.is_set():
                    answered.append(await ask(client, gateway.url, number))

            clients = [asyncio.create_task(keep_asking(number)) for number in range(CLIENTS)]
            try:
                for name in ("b", "a", "b"):  # a swap, a rollback, and the swap again
                    await asyncio.sleep(1.0)
                    await asyncio.to_thread(serve, name)
                    fresh = await ask(client, gateway.url, 3)
                    assert fresh.models == {f"dreamloop:{name}"} and fresh.text == SAYS[name], fresh
                    newest.append(name)
                # drained: what nobody asks for any more is unloaded while the others stream on
                row = {"adapters": ["dreamloop:a"]}
                while "dreamloop:a" in row["adapters"]:
                    row = (await asyncio.to_thread(served.look, trained["b"], []))[0]
                    await asyncio.sleep(0.2)
            finally:
                ending.set()
                await asyncio.gather(*clients)
                await gateway.close()
        return newest

    assert asyncio.run(run()) == ["b", "a", "b"]
    assert [one.wrong for one in answered if one.wrong] == []
    assert all(len(one.models) == 1 for one in answered)
    texts = {(next(iter(one.models)).removeprefix("dreamloop:"), one.text) for one in answered}
    assert texts <= set(SAYS.items()), texts - set(SAYS.items())
    assert Counter(next(iter(one.models)) for one in answered).keys() == {"dreamloop:a", "dreamloop:b"}

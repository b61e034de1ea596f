"""A vLLM server that behaves as a test wants: its HTTP API as vLLM 0.32 has it, before a language model of hashes.

As it is made it does everything right. What it is to do wrong is set on it: `spoil` changes what completions say,
`replies` answers a path with something fixed, `served` computes with other weights than it was told to, and so on.
"""

from __future__ import annotations

import asyncio
import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from daemon.models.hf_chat import Chat
from policies.records import ChatMessage
from tests.daemon.models.vllm import hashed
from tests.daemon.models.vllm.hashed import Weights

BLOCK = 128  # tokens: what the prefix cache keeps

Answer = dict[str, Any]
Body = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """A request that was received."""

    path: str
    body: Body
    headers: Mapping[str, str]


def error(status: int, message: str) -> Response:
    """An error as vLLM words it."""
    return JSONResponse({"error": {"message": message, "type": "Error", "param": None, "code": status}}, status)


class Scripted:
    """An ASGI application. `weights` and `root` are the base's and where it was loaded from."""

    def __init__(self, weights: Weights, root: Path, chat: Chat) -> None:
        # what it is
        self.weights, self.root, self.chat = weights, str(root), chat
        self.name, self.version, self.started = "nano", "0.32.0", 1000.0
        self.key = ""  # the API key it wants
        self.lora, self.slots = True, 4  # may adapters be loaded at run time, and how many
        self.can_sleep, self.extension = True, False
        # how it stands
        self.adapters: dict[str, str] = {}  # name -> path
        self.asleep = False
        self.busy: set[str] = set()  # adapters on which others' requests run
        self.longest = 1024
        self.in_flight = 0
        self._loaded: dict[str, Weights] = {}
        self._cache: dict[tuple[Any, ...], Weights] = {}
        # what it does wrong
        self.spoil: Callable[[Answer, Body], Any] | None = None
        self.spoiled = math.inf  # completions that are spoilt, before it comes to its senses
        self.replies: dict[str, Response] = {}
        self.served: Callable[[str, Weights], Weights] = lambda model, weights: weights
        self.before: Callable[[], None] = lambda: None  # called with every completion, before it is answered
        self.seconds = 0.0  # that a completion takes
        self.cut = False  # connections break in the middle of a completion's answer
        # what it saw
        self.asked: list[Asked] = []
        self.most = 0  # completions in flight at once
        self.abandoned = 0  # completions that nobody waited for any more

    def completions(self) -> list[Body]:
        """The bodies of the completions that were asked for."""
        return [one.body for one in self.asked if one.path == "/v1/completions"]

    def paths(self) -> list[str]:
        """The paths that were asked for."""
        return [one.path for one in self.asked]

    def restart(self) -> None:
        """Another process: it knows no adapter, its cache is empty, and it started at another time."""
        self.started += 100
        self.adapters.clear()
        self._loaded.clear()
        self._cache.clear()
        self.asleep = False

    def load(self, name: str, path: str) -> None:
        """Load an adapter from a folder, as --lora-modules does."""
        self.adapters[name] = path
        self._loaded[name] = self.weights.plus(hashed.identity(Path(path)))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        request = Request(scope, receive)
        raw = await request.body()
        asked = Asked(request.url.path, json.loads(raw) if raw else {}, dict(request.headers))
        self.asked.append(asked)
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            await JSONResponse({"error": "Unauthorized"}, 401)(scope, receive, send)
            return
        response = self.replies.get(asked.path) or await self._answer(request, asked)
        if self.cut and asked.path == "/v1/completions":
            start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]}
            await send(start)
            await send({"type": "http.response.body", "body": response.body[:20], "more_body": True})
            raise ConnectionAbortedError("cut, as the test wants")
        await response(scope, receive, send)

    async def _answer(self, request: Request, asked: Asked) -> Response:
        endpoints: dict[str, Callable[[], Response]] = {
            "GET /health": lambda: Response(status_code=200),
            "GET /version": lambda: JSONResponse({"version": self.version}),
            "GET /metrics": lambda: PlainTextResponse(self._metrics()),
            "GET /v1/models": lambda: JSONResponse({"object": "list", "data": self._models()}),
            "POST /tokenize": lambda: self._tokenize(asked.body),
        }
        if self.lora:
            endpoints["POST /v1/load_lora_adapter"] = lambda: self._load(asked.body)
            endpoints["POST /v1/unload_lora_adapter"] = lambda: self._unload(asked.body)
        if self.can_sleep:
            endpoints["GET /is_sleeping"] = lambda: JSONResponse({"is_sleeping": self.asleep})
            endpoints["POST /sleep"] = lambda: self._sleep(True)
            endpoints["POST /wake_up"] = lambda: self._sleep(False)
        if self.extension:
            endpoints["POST /collective_rpc"] = lambda: error(500, "not scripted")
        key = f"{request.method} {asked.path}"
        if key == "POST /v1/completions":
            return await self._completion(request, asked.body)
        return endpoints[key]() if key in endpoints else JSONResponse({"detail": "Not Found"}, 404)

    # --- what is not about tokens

    def _metrics(self) -> str:
        running = ",".join(sorted(self.busy))
        return (
            "# HELP vllm:lora_requests_info Running stats on lora requests.\n"
            "# TYPE vllm:lora_requests_info gauge\n"
            f'vllm:lora_requests_info{{max_lora="{self.slots}",running_lora_adapters="{running}",'
            f'waiting_lora_adapters=""}} {self.started + 5}\n'
            "# TYPE process_start_time_seconds gauge\n"
            f"process_start_time_seconds {self.started}\n"
        )

    def _models(self) -> list[dict[str, Any]]:
        base = {"id": self.name, "object": "model", "root": self.root, "parent": None, "max_model_len": self.longest}
        return [base, *({"id": name, "root": path, "parent": self.name} for name, path in self.adapters.items())]

    def _tokenize(self, body: Body) -> Response:
        ids = self.chat.prompt([ChatMessage(**message) for message in body["messages"]])
        return JSONResponse({"count": len(ids), "max_model_len": 1024, "tokens": ids})

    def _load(self, body: Body) -> Response:
        name, path = body["lora_name"], body["lora_path"]
        if name in self.adapters:
            return error(400, f"The lora adapter '{name}' has already been loaded.")
        if not Path(path).is_dir():
            return error(404, f"Loading lora {name} failed: No adapter found for {path}")
        if len(self.adapters) >= self.slots:
            return error(500, "No free lora slots")
        self.load(name, path)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    def _unload(self, body: Body) -> Response:
        name = body["lora_name"]
        if name not in self.adapters:
            return error(404, f"The lora adapter '{name}' cannot be found.")
        del self.adapters[name]
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    def _sleep(self, asleep: bool) -> Response:
        self.asleep = asleep
        return Response(status_code=200)

    # --- completions

    async def _completion(self, request: Request, body: Body) -> Response:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            self.before()
            model = body["model"]
            if model != self.name and model not in self.adapters:
                return error(404, f"The model `{model}` does not exist.")
            ends = asyncio.get_running_loop().time() + self.seconds
            while asyncio.get_running_loop().time() < ends:
                if await request.is_disconnected():
                    self.abandoned += 1
                    return Response(status_code=499)
                await asyncio.sleep(0.005)
            answer: Any = self._complete(model, body)
        finally:
            self.in_flight -= 1
        if self.spoil is not None and self.spoiled > 0:
            self.spoiled -= 1
            answer = self.spoil(copy.deepcopy(answer), body)
        if isinstance(answer, Response):
            return answer
        return Response(json.dumps(answer), media_type="application/json")  # NaN is written as NaN

    def _complete(self, model: str, body: Body) -> Answer:
        weights = self.weights if model == self.name else self._loaded[model]
        weights = self.served(model, weights)
        prompts: Sequence[Any] = body["prompt"]
        if isinstance(prompts[0], int):
            prompts = [prompts]
        choices = [
            {"index": place, "text": "", "stop_reason": None} | self._choice(model, weights, prompt, body)
            for place, prompt in enumerate(prompts)
        ]
        return {"id": "cmpl-1", "object": "text_completion", "model": model, "choices": choices}

    def _choice(self, model: str, weights: Weights, prompt: list[int], body: Body) -> Answer:
        scored = None
        if body.get("prompt_logprobs") is not None:  # never reads the prefix cache
            values = hashed.logprobs(weights, prompt)
            rows = zip(prompt[1:], values[1:], strict=True)
            scored = [None, *({str(t): {"logprob": v, "rank": 1, "decoded_token": "x"}} for t, v in rows)]
        else:
            weights = self._cached(model, weights, prompt, body.get("cache_salt"))
        allowed = body.get("allowed_token_ids")
        if allowed:
            ids = [max(allowed, key=lambda token: hashed.after(weights, prompt)[token])]
        else:
            ids = hashed.generate(weights, prompt, body["max_tokens"], body["temperature"], body.get("seed") or 0)
        logprobs = None
        if body.get("logprobs") is not None:
            values = [float(hashed.after(weights, [*prompt, *ids[:place]])[token]) for place, token in enumerate(ids)]
            logprobs = {"token_logprobs": values, "tokens": ["x"] * len(ids), "top_logprobs": None}
        return {
            "finish_reason": "stop" if ids[-1] in body.get("stop_token_ids", ()) else "length",
            "logprobs": logprobs,
            "prompt_logprobs": scored,
            "token_ids": ids if body.get("return_token_ids") else None,
        }

    def _cached(self, model: str, weights: Weights, prompt: list[int], salt: str | None) -> Weights:
        """Trap: the prefix cache is keyed by an adapter's name and path, not by its weights."""
        if len(prompt) <= BLOCK:
            return weights
        return self._cache.setdefault((model, self.adapters.get(model), salt, *prompt[:BLOCK]), weights)

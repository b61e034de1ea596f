"""One vLLM server over its HTTP API: the only file that knows its paths and how it words its troubles.

Stable to build on are /health, /version, /metrics, /tokenize, /v1/models, /v1/completions and the LoRA endpoints;
/collective_rpc, /sleep and /wake_up exist in its development mode only.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import openai
from prometheus_client.parser import text_string_to_metric_families

from daemon.errors import BadAnswer, ServeError, ServerDown, ServerFull, ServerRefuses

_LORA = "vllm:lora_requests_info"
_STARTED = "process_start_time_seconds"
_CACHED = "vllm:prefix_cache_hits_total"
_RUNNING = "vllm:num_requests_running"
_LIGHT = 20.0  # seconds for what a server says of itself: one that hangs is told from one that is busy


class Forgotten(ServeError):
    """The server does not know a model by this name (any more)."""

    state = "forgot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a server's metrics say, as its engine said last. `started` (epoch seconds; 0 where it does not say) changes
    when it was restarted.

    `busy` are the adapters that some request runs on or waits for, `running` the requests that it works on; `cached`
    counts prompt tokens that were read from its prefix cache (None: it has none).
    """

    started: float = 0.0
    busy: frozenset[str] = frozenset()
    cached: float | None = None
    running: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts(Counters):
    """What a server says of itself: `started` is known.

    `base` is the name of its base model and `root` where that was loaded from; `adapters` are name -> path; `longest`
    is how many tokens a request may have (0: it does not say).
    """

    version: str
    base: str
    root: str
    adapters: Mapping[str, str]
    longest: int


class Server:
    """Async. At most `concurrency` completions are in flight; the others wait here, not in the server's queue.

    Every method raises ServerDown, ServerFull, ServerRefuses or BadAnswer with the address and the remedy.
    """

    def __init__(self, url: str, *, key: str = "", timeout: float = 120.0, concurrency: int = 32) -> None:
        self.url = url
        self._timeout = timeout
        self._slots = asyncio.Semaphore(concurrency)
        # what is tried again is decided above, where it is known whether the adapter must be loaded anew
        self._client = openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key=key or "none", timeout=timeout, max_retries=0, organization="", project=""
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def health(self) -> None:
        """Returns when the server and its engine are up."""
        await self._call("get", f"{self.url}/health", str, limit=_LIGHT)

    async def facts(self) -> Facts:
        """Version, start time, base and adapters."""
        try:
            version, text, listed = await asyncio.gather(
                self._call("get", f"{self.url}/version", object, limit=_LIGHT),
                self._call("get", f"{self.url}/metrics", str, limit=_LIGHT),
                self._call("get", "/models", object, limit=_LIGHT),
            )
            models = listed["data"]
            base = next(model for model in models if not model.get("parent"))
            adapters = {str(model["id"]): str(model["root"]) for model in models if model.get("parent")}
            counters = _counters(text)
            if counters.started <= 0:
                raise ServerRefuses(
                    f"{self.url}: its /metrics do not say when its process started, so a restart would go unnoticed; "
                    "let `serve.url` name the server itself, not what balances between several"
                )
            return Facts(
                **asdict(counters),
                version=str(version["version"]),
                base=str(base["id"]),
                root=str(base["root"]),
                adapters=adapters,
                longest=int(base.get("max_model_len") or 0),
            )
        except (Forgotten, KeyError, TypeError, ValueError, StopIteration, AttributeError, OverflowError) as error:
            raise BadAnswer(
                f"{self.url}: does not describe itself as a vLLM server does ({type(error).__name__}: {error}); is "
                "`serve.url` right?"
            ) from error

    async def counters(self) -> Counters:
        """Its metrics alone: one request where `facts` makes three."""
        try:
            return _counters(await self._call("get", f"{self.url}/metrics", str, limit=_LIGHT))
        except (Forgotten, ValueError) as error:
            raise BadAnswer(f"{self.url}: has no metrics as a vLLM server has: {error}") from error

    async def load(self, name: str, path: str) -> None:
        """Load an adapter from a folder that the server can read."""
        try:
            await self._call("post", "/load_lora_adapter", str, {"lora_name": name, "lora_path": path})
        except Forgotten as error:
            if "No adapter found" in str(error):
                raise ServerRefuses(
                    f"{self.url}: does not find {path}; it must see the folder where versions are published: mount it, "
                    "and say in `serve.published_as` under which path"
                ) from error
            raise ServerRefuses(
                f"{self.url}: is not allowed to load adapters at run time; start it with --enable-lora and "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"
            ) from error
        except BadAnswer:
            if (await self.facts()).adapters.get(name) != path:  # else another client of the server was faster
                raise

    async def unload(self, name: str) -> None:
        """Forget an adapter; one that is not loaded is no error. Requests that run on it are finished by the server."""
        try:
            await self._call("post", "/unload_lora_adapter", str, {"lora_name": name})
        except (Forgotten, BadAnswer):
            if name in (await self.facts()).adapters:
                raise

    async def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """One completion. Raises Forgotten for a model that the server does not list."""
        async with self._slots:
            found = await self._call("post", "/completions", object, dict(body))
        if not isinstance(found, dict):
            raise BadAnswer(f"{self.url}: answered a completion with {type(found).__name__}")
        return cast("dict[str, Any]", found)

    async def tokenize(self, model: str, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """A conversation's token ids by the server's own chat template, up to where the assistant answers."""
        body = {
            "model": model,
            "messages": list(messages),
            "add_generation_prompt": True,
            "chat_template_kwargs": {"enable_thinking": False},
        }
        try:
            found = await self._call("post", f"{self.url}/tokenize", object, body)
        except Forgotten as error:
            raise BadAnswer(f"{self.url}: has no /tokenize as a vLLM server has: {error}") from error
        tokens = found.get("tokens") if isinstance(found, dict) else None
        if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
            raise BadAnswer(f"{self.url}: /tokenize returned no tokens")
        return tokens

    async def rpc(self, method: str, *arguments: str) -> list[Any]:
        """Call a method of the worker extension on every worker. Raises ServerRefuses when there is none."""
        try:
            found = await self._call(
                "post", f"{self.url}/collective_rpc", object, {"method": method, "args": list(arguments)}
            )
        except (Forgotten, BadAnswer) as error:
            raise ServerRefuses(
                f"{self.url}: has no worker extension, so it cannot be steered; start it with "
                f"VLLM_SERVER_DEV_MODE=1 and --worker-extension-cls (docs/SERVING.md): {error}"
            ) from error
        results = found.get("results") if isinstance(found, dict) else None
        return results if isinstance(results, list) else []

    async def sleep(self, level: int = 1, mode: str = "wait") -> None:
        """Free the GPU's memory for a while (level 1: weights to the host). Raises ServerRefuses when it cannot.

        Requests in flight finish first with mode "wait"; vLLM's own default is to abort them.
        """
        await self._develop(f"/sleep?level={level}&mode={mode}")

    async def wake(self) -> None:
        """Take the GPU's memory again."""
        await self._develop("/wake_up")

    async def asleep(self) -> bool:
        """Does it sleep? One that cannot does not."""
        try:
            found = await self._call("get", f"{self.url}/is_sleeping", object, limit=_LIGHT)
        except Forgotten:
            return False
        return isinstance(found, dict) and bool(found.get("is_sleeping"))

    async def _develop(self, path: str) -> None:
        try:
            await self._call("post", f"{self.url}{path}", str)
        except Forgotten as error:
            raise ServerRefuses(
                f"{self.url}: cannot sleep; start it with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1, or set "
                '`serve.sharing` to "separate" or "coexist"'
            ) from error

    async def _call(
        self, verb: str, path: str, kind: Any, body: Mapping[str, Any] | None = None, *, limit: float = math.inf
    ) -> Any:
        """One request, for which `serve.timeout_seconds` are waited, and no more than `limit`."""
        seconds = min(self._timeout, limit)
        try:
            if verb == "get":
                return await self._client.get(path, cast_to=kind, options={"timeout": seconds})
            return await self._client.post(path, cast_to=kind, body=body)
        except openai.APITimeoutError as error:
            key = " (`serve.timeout_seconds`)" if seconds == self._timeout else ""
            raise ServerDown(
                f"{self.url}: did not answer within {seconds:g} s{key}; it is overloaded, or hangs"
            ) from error
        except openai.APIConnectionError as error:
            why = error.__cause__ or error
            raise ServerDown(f"{self.url}: cannot be reached ({why}); start the server, or mend `serve.url`") from error
        except openai.APIStatusError as error:
            raise self._refusal(error) from error
        except (openai.APIError, ValueError) as error:
            raise BadAnswer(f"{self.url}: said something that is not JSON: {error}") from error

    def _refusal(self, error: openai.APIStatusError) -> ServeError:
        body = error.body if isinstance(error.body, dict) else {}
        words = str(body.get("message") or error.message)[:400]
        status = error.status_code
        if status in (401, 403):
            return ServerRefuses(f"{self.url}: refuses without its API key; put it into a file, `serve.api_key_file`")
        if status in (404, 405):
            return Forgotten(f"{self.url}: {words}")
        if status == 429 or "No free lora slots" in words:
            return ServerFull(
                f"{self.url}: has no room ({words}); raise --max-loras or --max-num-seqs, or lower `serve.concurrency`"
            )
        if status in (502, 503, 504) or "EngineCore" in words or "EngineDead" in words:
            return ServerDown(f"{self.url}: is not ready ({status}: {words}); see its log")
        return BadAnswer(f"{self.url}: {status}: {words}")


def _counters(text: str) -> Counters:
    names = (_STARTED, _LORA, _CACHED, _RUNNING)
    wanted = "\n".join(line for line in text.splitlines() if line.startswith(names)) + "\n"
    started, latest, busy, cached, running = 0.0, -1.0, frozenset[str](), None, 0
    for family in text_string_to_metric_families(wanted):
        for sample in family.samples:
            if sample.name == _STARTED:
                started = sample.value
            elif sample.name == _LORA and sample.value > latest:  # the value is when it was written
                latest = sample.value
                words = (sample.labels.get(f"{state}_lora_adapters", "") for state in ("running", "waiting"))
                busy = frozenset(name for part in words for name in part.split(",") if name)
            elif sample.name == _CACHED:
                cached = (cached or 0.0) + sample.value  # one per engine
            elif sample.name == _RUNNING:
                running += int(sample.value)
    return Counters(started=started, busy=busy, cached=cached, running=running)

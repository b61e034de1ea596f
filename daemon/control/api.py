"""The API: one table of method, path, access and handler. `build` makes a FastAPI application of it.

`access` is "read" (looks) or "act" (changes something); `daemon.control.server` decides who may do which.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import structlog
from fastapi import Body, Depends, FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from daemon.config import Config
from daemon.control.operations import AdviceAct, AskSize, Operations, Question, RunStage
from daemon.errors import ConfigError, DreamloopError

Access = Literal["read", "act"]
HEARTBEAT_SECONDS = 15.0  # a comment line on a quiet event stream, so that a vanished reader is noticed
MAX_CHAT = 20_000  # characters
_leaving: set[asyncio.Future[None]] = set()  # the event loop itself holds tasks only weakly
log = structlog.get_logger("dreamloop.control")


class ChatRequest(BaseModel):
    """A person's message; `conversation` goes on with an earlier one."""

    text: str = Field(min_length=1, max_length=MAX_CHAT)
    conversation: str | None = Field(default=None, max_length=200)


class AskRequest(BaseModel):
    """How much to measure, about which behaviour (the first one under training when none is named), and of whom.

    `served` asks the servers that answer people instead of the trainer.
    """

    size: AskSize = "quick"
    behavior: str | None = Field(default=None, max_length=200)
    served: bool = False


class Problem(BaseModel):
    """What went wrong, and what to do about it."""

    error: str


class Answer(Response):
    """JSON in which NaN and infinities are null: JSON has no word for them, and a client must not choke on one."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(_finite(content), ensure_ascii=False, allow_nan=False, default=str).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


async def _operations(request: Request) -> Operations:
    return cast(Operations, request.app.state.operations)


Ops = Annotated[Operations, Depends(_operations)]
JobId = Annotated[str, Path(max_length=64, description="a job's id")]
AdapterId = Annotated[str, Path(max_length=64, description="an adapter's id or an unambiguous beginning of it")]


def find_adapter(operations: Operations, prefix: str) -> str:
    """The one adapter whose id begins with `prefix`; HTTP 404 when there is none, 409 when there are several."""
    ids = [str(adapter["id"]) for adapter in operations.adapters()]
    if prefix in ids:
        return prefix
    found = [id for id in ids if id.startswith(prefix)]
    if not found:
        raise HTTPException(404, f"no adapter's id begins with {prefix!r}; `dreamctl adapters` lists them")
    if len(found) > 1:
        some = ", ".join(found[:4])
        raise HTTPException(409, f"{prefix!r} is the beginning of {len(found)} ids ({some}); write more of it")
    return found[0]


async def status(operations: Ops) -> Response:
    """What the daemon is doing."""
    return Answer(operations.status())


async def adapters(operations: Ops) -> Response:
    """Every adapter with its parent, state and verdict, oldest first."""
    return Answer(operations.adapters())


async def report(operations: Ops) -> Response:
    """The report on sealed probes."""
    return Answer(operations.report())


async def config(operations: Ops) -> Response:
    """The effective configuration, passwords masked, and which keys differ from their defaults."""
    effective = operations.config()
    return Answer({"config": _mask(effective), "changed": changed_keys(effective)})


async def answers(operations: Ops) -> Response:
    """The latest answer to each of the seven questions, and what they advise."""
    return Answer(operations.answers())


async def finding(operations: Ops, finding: Annotated[str, Path(max_length=64)]) -> Response:
    """One finding with its evidence."""
    found = operations.finding(finding)
    if found is None:
        raise HTTPException(404, f"there is no finding {finding!r}; /v1/answers has the latest ones")
    return Answer(found)


async def ask(operations: Ops, question: Question, wish: AskRequest) -> Response:
    """Queue the experiment that answers a question; follow it with /v1/jobs/{job}."""
    return Answer(operations.ask(question, wish.size, wish.behavior, served=wish.served), status_code=202)


async def job(operations: Ops, job: JobId) -> Response:
    """Where a job stands."""
    found = operations.job(job)
    if found is None:
        raise HTTPException(404, f"there is no job {job!r}; `dreamctl status` lists those that run or wait")
    return Answer(found)


async def cancel(operations: Ops, job: JobId) -> Response:
    """End a job that was asked for; what it measured so far is kept for the next one."""
    if operations.job(job) is None:
        raise HTTPException(404, f"there is no job {job!r}; `dreamctl status` lists those that run or wait")
    return Answer({"cancelled": operations.cancel(job)})


async def advice(operations: Ops, act: AdviceAct, advice: Annotated[str, Path(max_length=64)]) -> Response:
    """Accept, reject or undo an advice, named by the beginning of its id or by its key."""
    return Answer(operations.advise(act, advice))


async def events(operations: Ops, request: Request) -> Response:
    """Happenings as server-sent events, from now on."""
    stream = _stream(operations.subscribe(), request.app.state.closing)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"cache-control": "no-store"})


async def pause(operations: Ops) -> Response:
    """Hold heavy work at its next checkpoint."""
    operations.pause()
    return Answer({"paused": True})


async def resume(operations: Ops) -> Response:
    """Go on after a pause."""
    operations.resume()
    return Answer({"paused": False})


async def run(operations: Ops, stage: RunStage) -> Response:
    """Ask for one stage, or a whole cycle, now."""
    return Answer(operations.run(stage), status_code=202)


async def promote(operations: Ops, adapter: AdapterId) -> Response:
    """Serve an adapter although the gate did not say so; it is recorded as the operator's decision."""
    return Answer(operations.promote(find_adapter(operations, adapter)))


async def rollback(operations: Ops, adapter: Annotated[str | None, Body(embed=True, max_length=64)] = None) -> Response:
    """Take the serving adapter (or the one named) back and serve its parent."""
    return Answer(operations.rollback(find_adapter(operations, adapter) if adapter else None))


async def chat(operations: Ops, message: ChatRequest) -> Response:
    """Talk to the serving adapter; the conversation is logged and learned from like any other."""
    return Answer(await operations.chat(message.conversation, message.text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A row of the table."""

    method: Literal["GET", "POST"]
    path: str
    access: Access
    handler: Callable[..., Awaitable[Response]]


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(method="GET", path="/v1/status", access="read", handler=status),
    Endpoint(method="GET", path="/v1/adapters", access="read", handler=adapters),
    Endpoint(method="GET", path="/v1/report", access="read", handler=report),
    Endpoint(method="GET", path="/v1/config", access="read", handler=config),
    Endpoint(method="GET", path="/v1/answers", access="read", handler=answers),
    Endpoint(method="GET", path="/v1/findings/{finding}", access="read", handler=finding),
    Endpoint(method="POST", path="/v1/ask/{question}", access="act", handler=ask),
    Endpoint(method="GET", path="/v1/jobs/{job}", access="read", handler=job),
    Endpoint(method="POST", path="/v1/jobs/{job}/cancel", access="act", handler=cancel),
    Endpoint(method="POST", path="/v1/advice/{advice}/{act}", access="act", handler=advice),
    Endpoint(method="GET", path="/v1/events", access="read", handler=events),
    Endpoint(method="POST", path="/v1/pause", access="act", handler=pause),
    Endpoint(method="POST", path="/v1/resume", access="act", handler=resume),
    Endpoint(method="POST", path="/v1/run/{stage}", access="act", handler=run),
    Endpoint(method="POST", path="/v1/promote/{adapter}", access="act", handler=promote),
    Endpoint(method="POST", path="/v1/rollback", access="act", handler=rollback),
    Endpoint(method="POST", path="/v1/chat", access="act", handler=chat),
)


def build(operations: Operations, allow: Callable[[Request, Access], None], version: str = "1") -> FastAPI:
    """The application. `allow(request, access)` raises HTTPException 403 when the caller may not do that."""

    async def may_read(request: Request) -> None:
        allow(request, "read")

    async def may_act(request: Request) -> None:
        allow(request, "act")

    gates = {"read": Depends(may_read), "act": Depends(may_act)}
    app = FastAPI(title="dreamloop control", version=version, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.operations = operations
    app.state.closing = asyncio.Event()
    problems: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in ("4XX", 500)}
    for row in ENDPOINTS:
        app.add_api_route(
            row.path,
            row.handler,
            methods=[row.method],
            dependencies=[gates[row.access]],
            responses=problems,
            name=row.handler.__name__,
            operation_id=row.handler.__name__,
            tags=[row.access],
            response_class=StreamingResponse if row.handler is events else Answer,
        )

    async def openapi() -> Response:
        """This API, described."""
        return Answer(app.openapi())

    app.add_api_route("/v1/openapi.json", openapi, methods=["GET"], dependencies=[gates["read"]])
    app.add_exception_handler(DreamloopError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _broken)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    return Answer({"error": str(error)}, status_code=400 if isinstance(error, ConfigError) else 409)


async def _invalid(request: Request, error: Exception) -> Response:
    found = cast(RequestValidationError, error).errors()
    words = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in found)
    return Answer({"error": words}, status_code=422)


async def _http(request: Request, error: Exception) -> Response:
    http = cast(HTTPException, error)
    words = str(http.detail)
    if words in ("Not Found", "Method Not Allowed"):  # the router's own words name nothing
        words = f"{request.method} {request.url.path}: {words.lower()}; /v1/openapi.json lists what there is"
    return Answer({"error": words}, status_code=http.status_code, headers=dict(http.headers or {}))


async def _broken(request: Request, error: Exception) -> Response:
    # Starlette raises it again after this answer, and the server logs the traceback.
    log.error("a request failed", path=request.url.path, error=repr(error))
    words = f"internal error ({type(error).__name__}); the daemon's log has the details"
    return Answer({"error": words}, status_code=500)


async def _stream(happenings: AsyncIterator[dict[str, Any]], closing: asyncio.Event) -> AsyncIterator[bytes]:
    """Server-sent events until the reader leaves, the feed ends, or the server closes."""
    stop = asyncio.ensure_future(closing.wait())
    following: asyncio.Future[dict[str, Any]] | None = None
    try:
        yield b": listening\n\n"
        while not stop.done():
            following = following or asyncio.ensure_future(anext(happenings))
            waiting: set[asyncio.Future[Any]] = {following, stop}
            await asyncio.wait(waiting, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                yield b": still here\n\n"
                continue
            try:
                event = following.result()
            except StopAsyncIteration:
                break
            finally:
                following = None
            data = json.dumps(_finite(event), ensure_ascii=False, allow_nan=False, default=str)
            yield f"event: {event.get('event', 'message')}\ndata: {data}\n\n".encode()
    finally:
        stop.cancel()
        # The reader's going cancels this task again at every await, so the goodbye has a task of its own.
        goodbye = asyncio.ensure_future(_leave(happenings, following))
        _leaving.add(goodbye)
        goodbye.add_done_callback(_leaving.discard)


async def _leave(happenings: AsyncIterator[dict[str, Any]], following: asyncio.Future[dict[str, Any]] | None) -> None:
    if following is not None:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    close = getattr(happenings, "aclose", None)
    if close is not None:
        await close()


def changed_keys(effective: dict[str, Any]) -> list[str]:
    """Dotted keys whose value is not the default."""
    defaults = Config().model_dump(mode="json")
    return [
        f"{section}.{key}"
        for section, values in effective.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if str(defaults.get(section, {}).get(key)) != str(value)
    ]


def _mask(value: Any) -> Any:
    """Passwords inside URLs become ***."""
    if isinstance(value, dict):
        return {key: _mask(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mask(item) for item in value]
    return re.sub(r"(://[^/@:\s]*):[^/@\s]+@", r"\1:***@", value) if isinstance(value, str) else value

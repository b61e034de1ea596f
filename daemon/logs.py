"""Logs: structlog, and the standard library's loggers (uvicorn, alembic, apscheduler, the worker) through it.

People's texts never appear at info level or above: a field that may carry one is replaced by its length. Only a debug
line, which an operator has to ask for, has it in full.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Format = Literal["auto", "console", "json"]
PRIVATE = frozenset(
    {"text", "texts", "user", "assistant", "prompt", "answer", "answers", "content", "context", "target", "rejected",
     "message_text", "evidence", "conversation_text"}
)  # fmt: skip
# Chatty below these levels, and never of use to an operator there.
QUIET = {"alembic": logging.WARNING, "apscheduler": logging.WARNING, "watchdog": logging.WARNING,
         "uvicorn.error": logging.WARNING, "asyncio": logging.WARNING}  # fmt: skip
Sink = Callable[[str, str], None]  # (level, line)


def configure(
    level: str = "info",
    format: Format = "auto",
    *,
    stream: TextIO | None = None,
    worker: str | None = None,
    sink: Sink | None = None,
) -> None:
    """Send every log line of this process to `stream` (standard error when None).

    "auto" is the console for a terminal and key=value lines for anything else; "console" is always the console form;
    "json" one object a line. `worker` names a worker process on all its lines. `sink(level, line)` also gets lines of
    level info and above, for the live view. May be called again: the last call counts.
    """
    stream = stream if stream is not None else sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _name_worker(worker),
        hide_texts,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # modules make their loggers at import, before this is called
    )
    handlers = [_handler(logging.StreamHandler(stream), _renderers(format, stream), shared)]
    if sink is not None:
        handlers.append(_handler(_SinkHandler(sink), [_plain], shared, at_least=logging.INFO))
    root = logging.getLogger()
    for old in root.handlers[:]:
        if getattr(old, "dreamloop", False):
            root.removeHandler(old)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level.upper())
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(max(least, root.level))
    logging.captureWarnings(True)


def hide_texts(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Replace fields that may hold a person's or the model's words by their length, except on debug lines."""
    if event.get("level") == "debug":
        return event
    for key in PRIVATE & event.keys():
        value = event.pop(key)
        event[f"{key}_length"] = len(value) if isinstance(value, (str, list, tuple)) else None
    return event


def relay(line: str, *, worker: str) -> None:
    """Log a line that a worker process wrote: its JSON log lines keep level and fields, anything else is a warning."""
    line = line.strip()
    if not line:
        return
    log = structlog.get_logger("dreamloop.worker")
    try:
        fields = json.loads(line)
        event = str(fields.pop("event"))
    except (ValueError, KeyError, AttributeError, TypeError):
        shown = "".join(c if c.isprintable() else " " for c in line[:2000])  # nothing that steers a terminal
        log.warning("worker output", worker=worker, line=shown)
        return
    level = str(fields.pop("level", "info"))
    for taken in ("at", "logger", "worker"):
        fields.pop(taken, None)
    emit = getattr(log, level, log.info) if level in ("debug", "info", "warning", "error", "critical") else log.info
    emit(event, worker=worker, **fields)


class _SinkHandler(logging.Handler):
    """Hands finished lines to a function; a sink that fails must not take logging down."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._sink(record.levelname.lower(), self.format(record))
        except Exception:
            self.handleError(record)


def _handler(
    handler: logging.Handler, renderers: list[Processor], shared: list[Processor], at_least: int = logging.NOTSET
) -> logging.Handler:
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    handler.setLevel(at_least)
    handler.dreamloop = True  # type: ignore[attr-defined]  # ours to remove when configured again
    return handler


def _renderers(format: Format, stream: TextIO) -> list[Processor]:
    terminal = stream.isatty()
    if format == "json":
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # locals hold people's texts
        return [
            structlog.processors.ExceptionRenderer(tracebacks),
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ]
    if format == "auto" and not terminal:
        order = ["at", "level", "logger", "event"]
        return [
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=order, drop_missing=True),
        ]
    colors = terminal and not os.environ.get("NO_COLOR")
    plain = structlog.dev.plain_traceback  # never the rich one: it prints local variables, and those hold texts
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain, timestamp_key="at")]


def _name_worker(worker: str | None) -> Processor:
    def name(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if worker is not None:
            event.setdefault("worker", worker)
        return event

    return name


def _plain(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """A line for the live view: the event and its fields, without time and logger."""
    words = [str(event.pop("event", ""))]
    skipped: tuple[Any, ...] = ("at", "level", "logger", "exc_info", "stack")
    words += [f"{key}={value}" for key, value in event.items() if key not in skipped]
    return " ".join(words)

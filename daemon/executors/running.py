"""Run one job to an event: the part that every executor shares."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from daemon.errors import (
    BehaviorError,
    Cancelled,
    CannotAnswer,
    ConfigError,
    ModelMissing,
    ServerRefuses,
    WrongServer,
)
from daemon.errors import DreamloopError as Expected
from daemon.events import Job, JobFailed, JobFinished, Progress
from daemon.executors.base import WorkerSpec
from daemon.executors.context import Control, WorkerContext
from daemon.executors.runners import UnknownKind, runner
from daemon.models.base import Generator, Model

log = logging.getLogger("dreamloop.worker")

# What trying again does not mend: a wrong configuration, and mistakes in the program.
_HOPELESS = (
    Cancelled, CannotAnswer, ConfigError, BehaviorError, ModelMissing, ServerRefuses, WrongServer, UnknownKind,
    TypeError, AttributeError, LookupError, NameError, ImportError, AssertionError, NotImplementedError,
)  # fmt: skip


def run(
    job: Job,
    spec: WorkerSpec,
    model: Callable[[], Model],
    control: Control,
    report: Callable[[Progress], None],
    served: Callable[[], Generator] | None = None,
) -> JobFinished | JobFailed:
    """Run `job` and say how it ended; never raises for what the job did (KeyboardInterrupt and SystemExit pass)."""
    began = time.monotonic()
    context = WorkerContext(job, spec, model, control, report, served=served)
    try:
        control.pass_or_raise(job)
        result = runner(job.kind)(dict(job.payload), context)
        return JobFinished(job=job, result=result, seconds=time.monotonic() - began)
    except Exception as error:
        cancelled = isinstance(error, Cancelled)
        if not cancelled:
            log.error("job %s (%s) failed:\n%s", job.kind, job.id, "".join(traceback.format_exception(error)).rstrip())
        return JobFailed(
            job=job,
            error=explain(error),
            seconds=time.monotonic() - began,
            retryable=not isinstance(error, _HOPELESS),
            cancelled=cancelled,
        )
    finally:
        control.forget(job.id)


def explain(error: BaseException) -> str:
    """One line for the operator: our own errors already are; others get their type and the place they come from."""
    if isinstance(error, Expected):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"

"""What travels between the main process and a worker: plain records only, in both directions.

The main process unpickles nothing but the loop's own records and Python's plain types, so a result can neither pull
torch into it nor run code in it.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from daemon.errors import DreamloopError
from daemon.events import Job, JobFailed, JobFinished, Progress
from daemon.executors.base import WorkerSpec

_PLAIN = frozenset(
    [("builtins", name) for name in ("set", "frozenset", "bytearray", "int", "float", "bool", "str", "complex")]
    + [("pathlib", "PosixPath"), ("pathlib", "PurePosixPath")]
)
_OURS = frozenset(
    ["policies.records", "policies.behaviors", "daemon.events", "daemon.executors.base", "daemon.executors.wire"]
)


class NotPlain(DreamloopError):
    """A job's payload or result holds something that may not cross between processes."""


@dataclass(frozen=True, slots=True)
class Build:
    """To the worker, first: what it is."""

    spec: WorkerSpec
    lane: str
    niceness: int


@dataclass(frozen=True, slots=True)
class Run:
    """To the worker: run this job."""

    job: Job


@dataclass(frozen=True, slots=True)
class Cancel:
    """To the worker: end this job at its next checkpoint."""

    job: str


@dataclass(frozen=True, slots=True)
class Pause:
    """To the worker: hold, or go on."""

    paused: bool


@dataclass(frozen=True, slots=True)
class Leave:
    """To the worker: finish what cannot be interrupted, then end."""


@dataclass(frozen=True, slots=True)
class Ready:
    """From the worker: the model is loaded."""

    seconds: float


Order = Build | Run | Cancel | Pause | Leave
Report = Ready | Progress | JobFinished | JobFailed


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """NumPy's scalars become Python's numbers: a mean forgotten in float() is no reason to lose a job."""
        if type(obj).__module__ == "numpy" and not getattr(obj, "shape", True):  # not imported here: it costs 20 MB
            value = obj.item()
            return type(value), (value,)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Only plain types and our own records; dotted names would reach into what a module imports."""
        if (module in _OURS and "." not in name) or (module, name) in _PLAIN:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise NotPlain(f"{module}.{name} may not cross between processes; jobs take and return plain records")


def dump(message: Order | Report) -> bytes:
    """A message as bytes. Raises NotPlain when it holds anything but records and plain types."""
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, protocol=5).dump(message)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise NotPlain(f"it cannot be pickled: {error}") from error
    return buffer.getvalue()


def load(content: bytes) -> Any:
    """The message in `content`. Raises NotPlain."""
    return _Unpickler(io.BytesIO(content)).load()


def checked(message: Order | Report) -> bytes:
    """`dump`, and be sure that the other side will be able to `load` it."""
    content = dump(message)
    load(content)
    return content


def send(connection: Connection, message: Order) -> bool:
    """Send; False when nobody is there any more."""
    try:
        connection.send_bytes(dump(message))
    except (BrokenPipeError, ConnectionResetError, OSError):
        return False
    return True

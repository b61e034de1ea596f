"""One exception tree. A class's docstring says what went wrong; the message says what to do about it."""

from __future__ import annotations

from typing import ClassVar


class DreamloopError(Exception):
    """Something a person can mend. `str(error)` names the file, the key or the thing, and the remedy."""

    exit_code = 1


class ConfigError(DreamloopError):
    """The configuration is not valid."""

    exit_code = 2


class BehaviorError(DreamloopError):
    """A behaviour's file is missing, unreadable or incomplete."""

    exit_code = 2


class ModelMissing(DreamloopError):
    """The model folder is not there or is not a model."""

    exit_code = 3


class Unobservable(DreamloopError):
    """The model or its backend does not have what was to be looked at."""

    exit_code = 3


class AdapterError(DreamloopError):
    """An adapter cannot be saved, found or loaded."""

    exit_code = 3


class VectorError(DreamloopError):
    """A steering vector cannot be saved, found or applied."""

    exit_code = 3


class ServeError(DreamloopError):
    """The server that answers cannot be used. `state` is the word for it in `dreamctl status`."""

    exit_code = 7
    state: ClassVar[str] = "unusable"


class ServerDown(ServeError):
    """The server cannot be reached, is restarting, or did not answer in time."""

    state = "down"


class ServerAsleep(ServerDown):
    """The server sleeps while the trainer has the GPU."""

    state = "asleep"


class ServerFull(ServeError):
    """The server has no room for another adapter or request."""

    state = "full"


class ServerRefuses(ServeError):
    """The server does not do what is asked of it: run-time LoRA, steering, sleeping."""

    state = "refuses"


class WrongServer(ServeError):
    """The server has another base model, tokenizer or chat template than the trainer."""

    state = "another model"


class BadAnswer(ServeError):
    """The server said 200 and something that is no answer: empty, cut off, not finite."""

    state = "bad answers"


class NotAttested(ServeError):
    """The server does not answer with the adapter that it lists."""

    state = "mismatch"


class AlreadyRunning(DreamloopError):
    """Another daemon owns this state folder."""

    exit_code = 4


class StoreError(DreamloopError):
    """The store cannot be opened or migrated."""

    exit_code = 5


class GraphError(DreamloopError):
    """The memory graph cannot be read."""

    exit_code = 6


class Cancelled(DreamloopError):
    """The job was cancelled at a checkpoint."""


class WorkerDied(DreamloopError):
    """The worker process ended while it had a job."""


class CannotAnswer(DreamloopError):
    """A question cannot be answered with this model or this material."""

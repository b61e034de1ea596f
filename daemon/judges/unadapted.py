"""What a judge may have of a model: its likelihoods, always those of the base, whatever adapter is in use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from daemon.errors import DreamloopError
from daemon.models.base import Checkpoint, Conversation, Generator, ignore


class Scores(Protocol):
    """Scores text: the part of a model that a judge needs."""

    def logprobs(self, pairs: Sequence[tuple[Conversation, str]], checkpoint: Checkpoint = ignore) -> list[list[float]]:
        """Per pair (prompt, answer) the log-probability in nats of each answer token and the end-of-turn token."""
        ...

    def fingerprint(self) -> str:
        """A hash of the base weights and tokenizer."""
        ...


class Unadapted:
    """A model's base. Each call sets the adapter in use aside and takes it up again, also when scoring fails."""

    def __init__(self, model: Generator) -> None:
        self._model = model

    def logprobs(self, pairs: Sequence[tuple[Conversation, str]], checkpoint: Checkpoint = ignore) -> list[list[float]]:
        """See `Scores`. Raises DreamloopError for a model that cannot say which adapter it uses."""
        with _aside(self._model):
            return self._model.logprobs(pairs, checkpoint)

    def fingerprint(self) -> str:
        """The base's."""
        return self._model.fingerprint()


@contextlib.contextmanager
def _aside(model: Any) -> Iterator[None]:
    """The base in use for a while."""
    if hasattr(model, "adapted"):
        with model.adapted(None):
            yield
        return
    if not hasattr(model, "using"):
        raise DreamloopError(f"{type(model).__name__} does not say which adapter it uses, so its base cannot judge")
    before = model.using
    model.use(None)
    try:
        yield
    finally:
        model.use(before)

"""What a model can do, split by capability: a station or experiment declares which it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from policies.records import ChatMessage, Recipe

Conversation = Sequence[ChatMessage]
# Called between micro-batches with (done, total): may raise Cancelled, may block while paused.
Checkpoint = Callable[[int, int], None]


def folder(path: str | None) -> Path | None:
    """An adapter's folder as a job's payload carries it; None is the base."""
    return Path(path) if path else None


def ignore(done: int, total: int) -> None:
    """The checkpoint of callers that have nobody to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to sample: temperature 0 is greedy; `seed` makes it reproducible; at most `max_tokens` new tokens."""

    temperature: float = 1.0
    max_tokens: int = 64
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingExample:
    """A prompt and the answer whose tokens carry the loss."""

    prompt: tuple[ChatMessage, ...]
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What training produced: mean loss over the last pass (nats per target token), tokens seen, seconds."""

    loss: float
    tokens: int
    seconds: float
    losses: tuple[float, ...]


@runtime_checkable
class Generator(Protocol):
    """Generates and scores text, with a chosen adapter (a folder; None is the base)."""

    def use(self, adapter: Path | None) -> None:
        """Serve this adapter from now on. Raises AdapterError when the folder is not a usable adapter."""
        ...

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, checkpoint: Checkpoint = ignore
    ) -> list[str]:
        """One answer per prompt, in order, without special tokens."""
        ...

    def logprobs(self, pairs: Sequence[tuple[Conversation, str]], checkpoint: Checkpoint = ignore) -> list[list[float]]:
        """Per pair (prompt, answer) the log-probability in nats of each answer token and the end-of-turn token."""
        ...

    def fingerprint(self) -> str:
        """A hash of the base weights and tokenizer: the same base always has the same fingerprint."""
        ...


@runtime_checkable
class Learner(Protocol):
    """Updates a LoRA adapter."""

    def train(
        self,
        examples: Sequence[TrainingExample],
        recipe: Recipe,
        *,
        parent: Path | None,
        into: Path,
        card: dict[str, object],
        checkpoint: Checkpoint = ignore,
    ) -> Trained:
        """Continue from `parent` (or start fresh), save the adapter and its optimizer state, return what happened.

        The folder `into` is written beside its place and renamed into it, so it is whole or not there. Afterwards the
        model uses the new adapter. Raises AdapterError when it cannot be saved (a full disk, for one).
        """
        ...


@runtime_checkable
class Diverges(Protocol):
    """Compares an adapter with its base over the whole vocabulary."""

    def divergence(
        self, texts: Sequence[str | tuple[Conversation, str]], adapter: Path | None, checkpoint: Checkpoint = ignore
    ) -> list[float]:
        """Mean KL(base || adapter) in nats per token of each text, or of each answer where a prompt is given."""
        ...


class Model(Generator, Learner, Diverges, Protocol):
    """A model with every capability the loop itself needs."""

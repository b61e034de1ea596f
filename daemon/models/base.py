"""What a model can do, split by capability: a station or experiment declares which it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from policies.records import ChatMessage, Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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


@runtime_checkable
class Sleeps(Protocol):
    """A model on a GPU that it can leave for a while."""

    def asleep(self) -> AbstractContextManager[None]:
        """While entered, its memory on the GPU is free; afterwards it answers again."""
        ...


@runtime_checkable
class Moves(Protocol):
    """A model that can stay in the host's memory while somebody else has the GPU. Away it works, only slowly."""

    def leave(self) -> None:
        """Free its memory on the GPU."""
        ...

    def come(self) -> None:
        """Take the GPU again."""
        ...


class Model(Generator, Learner, Diverges, Protocol):
    """A model with every capability the loop itself needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A teacher-forced text: a prompt, the answer given to it, and where the direction stands.

    `span` is in characters [start, stop) of the last user message. The *decision tokens* of a passage are the places
    that predict the answer and its end of turn, those that carry the loss in training: from the last token of the
    prompt to the last of the answer. An empty answer leaves one, the last token of the prompt.
    """

    prompt: tuple[ChatMessage, ...]
    answer: str = ""
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a model is made of. Blocks are counted from 1: layer L means the output of the L-th block.

    That is transformers' `hidden_states[L]`, but for the last one, which is normed there and not here. `attention` and
    `gdn` are the numbers of the blocks of each kind. `heads` and `kv_heads` are those of a full-attention block (each
    `heads / kv_heads` query heads share keys and values), `gdn_heads` those of a GDN block's state, `hidden` the width.
    """

    layers: int
    attention: tuple[int, ...]
    gdn: tuple[int, ...]
    heads: int
    kv_heads: int
    gdn_heads: int
    hidden: int

    def at_depth(self, fraction: float) -> int:
        """The block at a fraction of the depth.

        >>> sizes = {"heads": 1, "kv_heads": 1, "gdn_heads": 0, "hidden": 8}
        >>> model = Layout(layers=64, attention=tuple(range(1, 65)), gdn=(), **sizes)
        >>> [model.at_depth(f) for f in (0.25, 0.375, 0.5, 0.625, 0.75)]
        [16, 24, 32, 40, 48]
        """
        return max(1, round(fraction * self.layers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Where a passage's decision tokens looked, and what stands where.

    `weights` is (full-attention blocks, heads, decision tokens, tokens), each row a distribution over the passage's
    tokens. `span` are the tokens [start, stop) of the passage's span, None when it has none; `prompt` is how many of
    the tokens are the prompt's.
    """

    weights: NDArray[np.float32]
    span: tuple[int, int] | None
    prompt: int


@runtime_checkable
class Steerable(Protocol):
    """Can be pushed by vectors while it answers."""

    def steered(self, vectors: Mapping[int, NDArray[np.float32]], strength: float) -> AbstractContextManager[None]:
        """While entered, `strength` times a vector (hidden,) is added to what its block puts out, at every token.

        Blocks are counted from 1 (see Layout). Prompt and answer alike, for `generate` and `logprobs` as for whatever
        looks inside. However the body ends, the model is afterwards as it was; nested ones add up. Raises ValueError
        for a block or a width that the model does not have.
        """
        ...


@runtime_checkable
class Observer(Steerable, Protocol):
    """Looks inside, with the adapter in use: teacher-forced, float32 arrays out, blocks counted from 1 (see Layout)."""

    def layout(self) -> Layout:
        """How many blocks there are, of which kind, and their sizes."""
        ...

    def attention(self, passages: Sequence[Passage], checkpoint: Checkpoint = ignore) -> list[Attention]:
        """Per passage the attention maps. Raises Unobservable for a model without full-attention blocks."""
        ...

    def hidden(
        self, passages: Sequence[Passage], layers: Sequence[int], checkpoint: Checkpoint = ignore
    ) -> NDArray[np.float32]:
        """(passages, layers, hidden): what these blocks put out, averaged over the answer's tokens.

        For an empty answer it is read at the last token of the last user message.
        """
        ...

    def recurrent(self, prompts: Sequence[Conversation], checkpoint: Checkpoint = ignore) -> NDArray[np.float32]:
        """(prompts, GDN blocks, heads, d_key, d_value): the state after the last token of the last user message.

        Raises Unobservable for a model without GDN blocks, saying which models have them.
        """
        ...

    def mixer_outputs(self, passages: Sequence[Passage], checkpoint: Checkpoint = ignore) -> NDArray[np.float32]:
        """(passages, layers, hidden): what attention or GDN adds to the stream, averaged over the decision tokens."""
        ...

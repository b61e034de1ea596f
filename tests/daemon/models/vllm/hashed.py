"""A language model made of hashes: weights, the tokens before and a token give that token's logit. Nothing is learned.

Deterministic, cheap, and every token depends on everything before it, as in a model: whoever has the same weights
computes the same numbers. An adapter adds an effect of its own to the base's logits.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from daemon.models import adapters, loading
from daemon.models.base import Checkpoint, Conversation, Sampling, ignore
from daemon.models.hf_chat import Chat

END = 2  # nano's end of turn; a little likelier than other tokens, so that answers end
_VOCABULARY = 856
_BASE, _EFFECT, _ENDING = 4.0, 1.0, 1.0  # how far logits spread, what an adapter adds, what END gets
_MASK = (1 << 64) - 1
_TOKENS = np.arange(_VOCABULARY, dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class Weights:
    """Effects that add up: (seed, how far it spreads the logits)."""

    effects: tuple[tuple[int, float], ...]

    def plus(self, identity: str, scale: float = 1.0) -> Weights:
        """With an adapter of this identity (hexadecimal), or `scale` of it."""
        return Weights((*self.effects, (int(identity[:15], 16), _EFFECT * scale)))

    def rounded(self, size: float) -> Weights:
        """As another precision computes it: every logit off by up to `size` nats."""
        return Weights((*self.effects, (77, size)))


def base_weights(identity: str) -> Weights:
    """The base of this identity (hexadecimal)."""
    return Weights(((int(identity[:15], 16), _BASE),))


def identity(adapter: Path) -> str:
    """The sha256 of an adapter's weights, as a server finds it: from the file."""
    return hashlib.sha256((adapter / adapters.WEIGHTS).read_bytes()).hexdigest()


def logprobs(weights: Weights, text: Sequence[int]) -> list[float]:
    """The log-probability in nats of every token of a text, given those before it."""
    return [float(_distribution(weights, state)[token]) for state, token in zip(_states(text), text, strict=False)]


def after(weights: Weights, text: Sequence[int]) -> NDArray[np.float64]:
    """The log-probabilities in nats of every token that may follow."""
    *_, state = _states(text)
    return _distribution(weights, state)


def generate(weights: Weights, prompt: Sequence[int], count: int, temperature: float, seed: int) -> list[int]:
    """Up to `count` new tokens, END included. The luck (Gumbel noise) depends on seed and place alone."""
    new: list[int] = []
    while len(new) < count and END not in new:
        scores = after(weights, [*prompt, *new])
        if temperature > 0:
            luck = (_uniform(_mixed(seed, len(new))) + 1) / 2
            scores = scores / temperature - np.log(-np.log(np.clip(luck, 1e-12, 1 - 1e-12)))
        new.append(int(scores.argmax()))
    return new


def _states(text: Sequence[int]) -> Iterator[int]:
    """A hash of what stands before each token, and before the one after the last."""
    state = 1
    yield state
    for token in text:
        state = _mixed(state, token)
        yield state


@functools.lru_cache(maxsize=4096)
def _distribution(weights: Weights, state: int) -> NDArray[np.float64]:
    logits = np.zeros(_VOCABULARY)
    logits[END] = _ENDING
    for seed, scale in weights.effects:
        logits += scale * _uniform(_mixed(seed, state))
    return logits - np.log(np.exp(logits).sum())


def _uniform(seed: int) -> NDArray[np.float64]:
    """A number in [-1, 1) per token."""
    return _finished(_TOKENS * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)).astype(np.float64) / 2.0**63 - 1


def _finished(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _mixed(state: int, number: int) -> int:
    x = (state * 0x9E3779B97F4A7C15 + number + 1) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


class Trainer:
    """The trainer's side of the same model: what it says is the reference."""

    def __init__(self, chat: Chat, fingerprint: str) -> None:
        self.chat = chat
        self.weights = self.base = base_weights(fingerprint)
        self._fingerprint = fingerprint

    @property
    def longest(self) -> int:
        """Tokens that it takes at most."""
        return self.chat.limit

    def fingerprint(self) -> str:
        """The base's."""
        return self._fingerprint

    def use(self, adapter: Path | None) -> None:
        """Compute with this adapter."""
        self.weights = self.base if adapter is None else self.base.plus(adapters.read(adapter).identity)

    def encode(self, pairs: Sequence[tuple[Conversation, str]]) -> list[tuple[list[int], list[int]]]:
        """Per pair the prompt's ids and the answer's."""
        return [self.chat.pair(prompt, answer) for prompt, answer in pairs]

    def logprobs(self, pairs: Sequence[tuple[Conversation, str]], checkpoint: Checkpoint = ignore) -> list[list[float]]:
        """Per pair the answer's log-probabilities."""
        encoded = self.encode(pairs)
        return [logprobs(self.weights, [*prompt, *target])[len(prompt) :] for prompt, target in encoded]

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, checkpoint: Checkpoint = ignore
    ) -> list[str]:
        """Greedy answers."""
        assert sampling.temperature == 0
        found = []
        for prompt in prompts:
            ids = self.chat.prompt(prompt, room=sampling.max_tokens)
            found.append(self.chat.text(generate(self.weights, ids, sampling.max_tokens, 0, 0)))
        return found


def trainer_of(folder: Path, chat: Chat) -> Trainer:
    """The trainer of a model's folder."""
    return Trainer(chat, loading.fingerprint(folder))

"""A deterministic model without torch, for unit tests: it fails at a settable rate per behaviour; training moves it.

A prompt's behaviour is the first whose marker (its name by default) stands in the last user message. It answers
"good: <message>" or "bad: <message>"; whether it fails is a fixed number in [0, 1) per (seed, prompt, repetition)
against the rate, so a lower rate fails on a subset of the same prompts. A system message starting with "memory:" is
guidance and divides the rate by ten. Asked to dream (system message "dream"), it writes a scenario with the marker.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daemon.errors import AdapterError
from daemon.models import adapters
from daemon.models.base import Checkpoint, Conversation, Sampling, Trained, TrainingExample, ignore
from policies.records import Judgement, Recipe

GOOD, BAD = "good: ", "bad: "
_HALF_LIFE = 8.0  # good (or bad) answers seen that halve (or double) a rate
_GUIDED = 0.1


class FakeModel:
    """`rates`: behaviour -> failure rate of the base; `markers`: behaviour -> what its prompts contain."""

    def __init__(self, rates: Mapping[str, float], markers: Mapping[str, str] | None = None) -> None:
        self.base = dict(rates)
        self.markers = {name: (markers or {}).get(name, name) for name in rates}
        self.rates = dict(rates)
        self.using: Path | None = None

    def use(self, adapter: Path | None) -> None:
        """Take the rates that training wrote into the adapter's folder."""
        self.rates = dict(self.base) if adapter is None else self._rates(adapter)
        self.using = adapter

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, checkpoint: Checkpoint = ignore
    ) -> list[str]:
        """ "good: ..." or "bad: ..." per prompt; greedy sampling fails exactly where the rate is above one half."""
        seen: Counter[str] = Counter()
        answers = []
        for number, prompt in enumerate(prompts):
            checkpoint(number, len(prompts))
            text = prompt[-1].content
            if any(message.role == "system" and message.content == "dream" for message in prompt):
                answers.append(f"{self._dreamt(text)} {seen[text]}")
            else:
                rate = self._rate(prompt)
                luck = 0.5 if sampling.temperature == 0 else _uniform(sampling.seed, text, seen[text])
                answers.append((BAD if luck < rate else GOOD) + text)
            seen[text] += 1
        checkpoint(len(prompts), len(prompts))
        return answers

    def logprobs(self, pairs: Sequence[tuple[Conversation, str]], checkpoint: Checkpoint = ignore) -> list[list[float]]:
        """One value per word and one for the end of turn: the answer's log-probability, spread evenly."""
        found = []
        for prompt, answer in pairs:
            rate = min(max(self._rate(prompt), 1e-6), 1 - 1e-6)
            tokens = len(answer.split()) + 1
            found.append([math.log(rate if answer.startswith(BAD) else 1 - rate) / tokens] * tokens)
        return found

    def divergence(
        self, texts: Sequence[str | tuple[Conversation, str]], adapter: Path | None, checkpoint: Checkpoint = ignore
    ) -> list[float]:
        """The KL between the base's and the adapter's coins, averaged over behaviours; the same for every text."""
        after = self.base if adapter is None else self._rates(adapter)
        apart = [_coin_kl(rate, after[name]) for name, rate in self.base.items()]
        return [sum(apart) / max(1, len(apart))] * len(texts)

    def fingerprint(self) -> str:
        """A hash of the base's rates and markers."""
        return hashlib.sha256(json.dumps([self.base, self.markers], sort_keys=True).encode()).hexdigest()

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
        """Good targets halve their behaviour's rate for every eight seen, bad ones double it."""
        before = self.base if parent is None else self._rates(parent)
        rates, losses = dict(before), []
        total = len(examples) * recipe.epochs
        for number in range(total):
            checkpoint(number, total)
            example = examples[number % len(examples)]
            losses.append(-sum(self.logprobs([(example.prompt, example.target)])[0]))
            name = self._behavior(example.prompt)
            if name is not None:
                halvings = (1 if example.target.startswith(GOOD) else -1) / _HALF_LIFE
                rates[name] = min(0.99, rates[name] * 0.5**halvings)
        content = json.dumps(rates, sort_keys=True).encode()
        facts: dict[str, object] = {"base": self.fingerprint(), "recipe": asdict(recipe), "loss": losses[-1]}
        adapters.write(into, {adapters.WEIGHTS: content, adapters.CONFIG: b"{}"}, card | facts)
        self.use(into)
        words = sum(len(example.target.split()) + 1 for example in examples) * recipe.epochs
        return Trained(loss=sum(losses) / total, tokens=words, seconds=0.0, losses=tuple(losses))

    def _rates(self, adapter: Path) -> dict[str, float]:
        stored = adapters.read(adapter, base=self.fingerprint())
        try:
            return dict(json.loads((stored.folder / adapters.WEIGHTS).read_bytes()))
        except ValueError as error:
            raise AdapterError(f"{adapter}: was not made by the fake model") from error

    def _behavior(self, prompt: Conversation) -> str | None:
        text = prompt[-1].content
        return next((name for name, marker in self.markers.items() if marker in text), None)

    def _rate(self, prompt: Conversation) -> float:
        name = self._behavior(prompt)
        guided = any(message.role == "system" and message.content.startswith("memory:") for message in prompt)
        return 0.0 if name is None else self.rates[name] * (_GUIDED if guided else 1)

    def _dreamt(self, request: str) -> str:
        name = next((name for name in self.markers if name in request), None)
        return f"{self.markers[name] if name else 'nothing'} dreamt from {request}"


class FakeJudge:
    """Passes what starts with "good:", fails what starts with "bad:", cannot read anything else."""

    name = "fake"

    def judge(self, behavior: str, prompt: str, answer: str) -> Judgement:
        """See the class."""
        passed = True if answer.startswith(GOOD) else False if answer.startswith(BAD) else None
        return Judgement(passed=passed, reason=f"the answer starts with {answer[:5]!r}")


def _uniform(seed: int, text: str, repetition: int) -> float:
    digest = hashlib.sha256(f"{seed}/{repetition}/{text}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _coin_kl(p: float, q: float) -> float:
    p, q = (min(max(x, 1e-6), 1 - 1e-6) for x in (p, q))
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def load(*, rates: Mapping[str, float], threads: int = 1, **options: Any) -> FakeModel:
    """The backend's entry: `rates` and `markers` as in the class."""
    return FakeModel(rates, **options)

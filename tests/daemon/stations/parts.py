"""What the station tests stand on: a real store, the bundled behaviours and vault, and a fake model in nano's words."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from daemon import behaviors as behavior_files
from daemon.config import Config, build
from daemon.events import Job, JobFinished
from daemon.executors.base import WorkerSpec
from daemon.executors.runners import runner
from daemon.models import adapters
from daemon.models.base import Checkpoint, Conversation, Sampling, Trained, TrainingExample, ignore
from daemon.models.fake import BAD, GOOD, FakeModel
from daemon.models.nano import phrases
from daemon.models.nano.checker import check, parse
from daemon.models.nano.dice import Dice
from daemon.models.nano.grammar import DREAM_PATTERN
from daemon.models.nano.world import LISTENING, NOT_RUSHING, PUSH_BACK, draw
from daemon.stations.base import Plan, Station, View
from daemon.store.store import Store
from graph.memory import Memory
from graph.memory import load as load_graph
from graph.surface import Surfacer
from policies.behaviors import Behavior
from policies.records import (
    Adapter,
    Band,
    ChatMessage,
    Dream,
    Example,
    Measurement,
    Message,
    Outcome,
    Recipe,
    Signal,
    Turn,
    content_id,
)

NAMES = (LISTENING, NOT_RUSHING, PUSH_BACK)
RECIPE = Recipe(rank=4, alpha=8, targets=("all-linear",), learning_rate=1e-3, epochs=1, batch_size=4, seed=1)


class WorldModel(FakeModel):
    """The fake model, saying in nano's own words what its coin decides, so that the real judge can read it.

    `knowledge` answers general questions; `asked` keeps every conversation that was answered.
    """

    def __init__(self, rates: Mapping[str, float], knowledge: Mapping[str, str] | None = None) -> None:
        super().__init__(rates)
        self.knowledge = dict(knowledge or {})
        self.asked: list[tuple[ChatMessage, ...]] = []
        self.sampled: list[Sampling] = []
        self.trainings = 0

    def _behavior(self, prompt: Conversation) -> str | None:
        scenario = parse(prompt[-1].content)
        return scenario.behavior if scenario else None

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, checkpoint: Checkpoint = ignore
    ) -> list[str]:
        """See FakeModel."""
        self.asked += [tuple(prompt) for prompt in prompts]
        self.sampled.append(sampling)
        coins = super().generate(prompts, sampling, checkpoint)
        return [
            self._dream(prompt[-1].content, number, sampling)
            if prompt[0].content == "dream"
            else self._said(prompt[-1].content, coin.startswith(GOOD))
            for number, (prompt, coin) in enumerate(zip(prompts, coins, strict=True))
        ]

    def _dream(self, request: str, number: int, sampling: Sampling) -> str:
        behavior = next(name for name, pattern in DREAM_PATTERN.items() if f"pattern: {pattern}." in request)
        band: Band = next(b for b in ("obvious", "medium", "subtle") if f"difficulty: {b}." in request)
        dice = Dice(random.Random(f"{sampling.seed}/{number}/{request}"))
        return f" {draw(dice, behavior=behavior, kind='target', band=band, split='train').text} "

    def _said(self, text: str, good: bool) -> str:
        scenario = parse(text)
        if scenario is None:
            return self.knowledge.get(text, "i do not know.")
        dice = Dice(random.Random(text))
        if scenario.behavior == LISTENING:
            return (phrases.act if good else phrases.suggest)(dice, scenario)
        if scenario.behavior == NOT_RUSHING:
            return phrases.ask(dice, scenario) if good else phrases.guess(dice, scenario)[0]
        return (phrases.warn if good else phrases.act)(dice, scenario)

    def logprobs(self, pairs: Sequence[tuple[Conversation, str]], checkpoint: Checkpoint = ignore) -> list[list[float]]:
        """See FakeModel."""
        return super().logprobs([(prompt, _coin(prompt, answer)) for prompt, answer in pairs], checkpoint)

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
        """See FakeModel."""
        self.trainings += 1
        coins = [replace(example, target=_coin(example.prompt, example.target)) for example in examples]
        trained = super().train(coins, recipe, parent=parent, into=into, card=card, checkpoint=checkpoint)
        facts = adapters.read_card(into) | {"tokens": trained.tokens, "seconds": 0.0, "losses": list(trained.losses)}
        (into / adapters.CARD).write_text(json.dumps(facts | {"loss": trained.loss}), encoding="utf-8")
        return trained


def _coin(prompt: Conversation, answer: str) -> str:
    return (BAD if check(prompt[-1].content, answer).passed is False else GOOD) + answer


@dataclass
class FakeContext:
    """A runner's context without a worker around it."""

    model: WorldModel
    spec: WorkerSpec = field(default_factory=lambda: WorkerSpec(backend="fake"))
    seen: list[tuple[int, int]] = field(default_factory=list)
    answers: WorldModel | None = None

    @property
    def served(self) -> WorldModel:
        """The worker's own model answers, unless the test has servers."""
        return self.answers or self.model

    def training(self) -> contextlib.AbstractContextManager[None]:
        """No server shares its device."""
        return contextlib.nullcontext()

    def checkpoint(self, done: int, total: int, note: str = "") -> None:
        """Progress, kept for the test."""
        self.seen.append((done, total))


@cache
def bundled() -> dict[str, Behavior]:
    """The behaviours in the package."""
    return behavior_files.load(behavior_files.BUNDLED, NAMES)


@cache
def vault() -> tuple[Memory, Surfacer]:
    """The memory graph in the package."""
    memory = load_graph("bundled")
    return memory, Surfacer(memory)


class Here:
    """A state folder with its store: makes views of it, writes plans as the loop does, runs jobs as a worker does."""

    def __init__(self, folder: Path, store: Store, **sections: dict[str, Any]) -> None:
        self.folder = folder
        self.store = store
        # one trained behaviour and two guarded ones, whatever the default is: the tests' numbers depend on it
        trained = {"train": ["listening"], "guard": ["not_rushing", "push_back"]}
        raw = {"daemon": {"state": "state"}, "behaviors": trained, "traffic": {"conversations": 24}, **sections}
        self.config: Config = build(raw, file=folder / "config.toml")
        self.now = 1000.0
        self.model = WorldModel(dict.fromkeys(NAMES, 0.4))

    def view(self, cycle: int = 1) -> View:
        """The world now."""
        memory, surfacer = vault()
        return View(
            store=self.store,
            config=self.config,
            now=self.now,
            cycle=cycle,
            serving=self.store.serving(),
            behaviors={n: bundled()[n] for n in [*self.config.behaviors.train, *self.config.behaviors.guard]},
            memory=memory,
            surfacer=surfacer,
        )

    def add(self, *records: Any) -> None:
        """Write records."""
        with self.store.transaction() as tx:
            tx.add(*records)

    def write(self, plan: Plan) -> Plan:
        """Write what a plan asks for in one transaction, as the loop does."""
        with self.store.transaction() as tx:
            tx.add(*plan.records)
            for job in plan.jobs:
                tx.enqueue(job)
            for move in plan.moves:
                tx.transition(move.adapter, move.after, move.why, self.now)
                if move.after == "serving":
                    tx.set_fact("serving_since", self.now)
            for key, value in plan.facts.items():
                tx.set_fact(key, value)
            if plan.roll_back:
                tx.set_fact("serving_since", self.now)
                tx.roll_back(plan.roll_back, self.now)
        return plan

    def run(self, job: Job, *, general: Path | None = None) -> JobFinished:
        """Run a job as a worker would: by its kind, from the payload as the store gives it back."""
        spec = WorkerSpec(
            backend="fake",
            behaviors=tuple(behavior_files.BUNDLED / f"{name}.toml" for name in NAMES),
            general=general,
        )
        plain = json.loads(json.dumps(job.payload))
        result = runner(job.kind)(plain, FakeContext(self.model, spec))
        return JobFinished(job=replace(job, payload=plain), result=result, seconds=0.1)

    def act(self, station: Station, job: Job, cycle: int = 1, *, general: Path | None = None) -> Plan:
        """Run a job, let its station absorb it, write what it wants."""
        return self.write(station.absorb(self.run(job, general=general), self.view(cycle)))

    def adapter(
        self,
        id: str,
        *,
        parent: str | None = None,
        state: str = "trained",
        rates: Mapping[str, float] | None = None,
    ) -> Adapter:
        """An adapter with its folder, brought to a state of its life."""
        folder = f"adapters/{id}"
        weights = json.dumps({**self.model.base, **(rates or {})}).encode()
        card: dict[str, object] = {"base": self.model.fingerprint()}
        adapters.write(self.config.state / folder, {adapters.WEIGHTS: weights, adapters.CONFIG: b"{}"}, card)
        made = Adapter(
            id=id, parent=parent, recipe=RECIPE, batch=f"batch-{id}", folder=folder, cycle=1, loss=0.5, tokens=10,
            seconds=1.0, at=self.now,
        )  # fmt: skip
        self.add(made)
        steps = {"trained": (), "rejected": ("rejected",), "held": ("judged", "held"), "serving": ("judged", "serving")}
        with self.store.transaction() as tx:
            for after in steps[state]:
                tx.transition(id, after, "test", self.now)
            if state == "serving":
                tx.set_fact("serving_since", self.now)
        return made


def scenario(behavior: str, seed: object = 0, *, band: Band = "obvious") -> str:
    """A user's request in nano's world, in the training phrasings."""
    return draw(Dice(random.Random(str(seed))), behavior=behavior, kind="target", band=band, split="train").text


def message(role: str, text: str, order: int, *, conversation: str = "c", adapter: str | None = None) -> Message:
    """A log message; its id is a hash of what it says and where."""
    return Message(
        id=content_id(conversation, order, role, text), conversation=conversation, order=order, role=role,  # type: ignore[arg-type]
        text=text, at=1000.0 + order, source="log.jsonl", adapter=adapter,
    )  # fmt: skip


def turn(user: str, assistant: str, *, conversation: str = "c", at: float = 1.0, **fields: Any) -> Turn:
    """A turn, without context unless it is given."""
    known: dict[str, Any] = {"index": 0, "context": (), "source": "log.jsonl"}
    id = content_id("turn", conversation, user)
    return Turn(id=id, conversation=conversation, user=user, assistant=assistant, at=at, **{**known, **fields})


def signal(turn: Turn, behavior: str, *, failed: bool = True, adapter: str | None = None) -> Signal:
    """What was heard about a turn."""
    return Signal(
        id=content_id("signal", turn.id, behavior), turn=turn.id, behavior=behavior, failed=failed, evidence="no.",
        at=turn.at, adapter=adapter,
    )  # fmt: skip


def dream(text: str, behavior: str = LISTENING, **fields: Any) -> Dream:
    """A dream of cycle 1 at temperature .7."""
    known: dict[str, Any] = {"seed": "s", "kind": "target", "band": "medium", "temperature": 0.7, "adapter": None,
                             "cycle": 1, "at": 1.0}  # fmt: skip
    return Dream(id=content_id("dream", text, behavior), behavior=behavior, text=text, **{**known, **fields})


def outcome(of: Dream, passed: bool | None, *, attempt: int = 0, answer: str = "hm") -> Outcome:
    """A judged answer."""
    return Outcome(
        id=content_id("outcome", of.id, attempt), dream=of.id, adapter=None, attempt=attempt, answer=answer,
        passed=passed, reason="test", judge="nano_world", at=of.at,
    )  # fmt: skip


def example(prompt: str, target: str = "done.", rejected: str | None = "why?", **fields: Any) -> Example:
    """A training example from a turn."""
    known: dict[str, Any] = {"origin": "turn", "behavior": LISTENING, "source": content_id("of", prompt), "at": 1.0,
                             "cycle": 0}  # fmt: skip
    return Example(
        id=content_id("example", prompt, target), prompt=(ChatMessage(role="user", content=prompt),), target=target,
        rejected=rejected, **{**known, **fields},
    )  # fmt: skip


def measurement(
    adapter: str | None,
    values: Sequence[float],
    *,
    behavior: str = LISTENING,
    kind: str = "target",
    items: Sequence[str] = (),
    probe: str = "behavior",
    split: str = "rotating",
    at: float = 1.0,
) -> Measurement:
    """A probe's results; probes are numbered unless they are named."""
    mean = sum(values) / len(values)
    return Measurement(
        id=content_id("measurement", adapter, behavior, kind, probe, split, at), probe=probe, adapter=adapter,
        behavior=behavior, kind=kind, band="", split=split, value=mean, low=0.0, high=1.0, n=len(values),
        items=tuple(items) or tuple(f"{behavior}/{kind}/{n}" for n in range(len(values))), values=tuple(values),
        cycle=1, at=at,
    )  # fmt: skip


def passing(n: int, failed: int) -> list[float]:
    """`n` probe results of which `failed` failed, spread evenly."""
    return [0.0 if (place + 1) * failed // n > place * failed // n else 1.0 for place in range(n)]

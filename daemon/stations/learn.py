"""Learn: failures become examples by guidance stripping, and examples become one incremental LoRA update.

Two jobs. `learn.distil` answers each failed scenario with the behaviour's guidance in context, keeps an answer that
the judge accepts, and stores the scenario *without* the guidance (context distillation, Snell et al. 2022,
arXiv:2209.15189). `learn.update` trains on a batch of such examples with replayed, general and counter examples mixed
in, starting from the serving adapter and its optimizer state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from daemon.config import Config
from daemon.events import Job, JobFinished, Result, Stage
from daemon.executors.base import Context
from daemon.judges.base import judge_mixed, load_each
from daemon.models import adapters
from daemon.models.base import Sampling, Trained, TrainingExample, folder
from daemon.probes import attestation, parity
from daemon.stations.base import Plan, View, folder_of
from daemon.stations.choice import policy
from daemon.stations.material import counter_examples, general_examples
from policies.learn.compose import ComposeSettings
from policies.learn.fresh import sort
from policies.learn.placebo import shuffle_labels
from policies.learn.quarantine import Inspected, inspect
from policies.records import (
    Adapter,
    Batch,
    ChatMessage,
    Dream,
    Example,
    Outcome,
    Quarantine,
    Recipe,
    Signal,
    Turn,
    content_id,
)

DISTILLED = 400  # failed scenarios distilled in one cycle, at most
NEIGHBOURS = 2_000  # earlier examples that a new one is compared with
RECENT = 400  # dreams looked back on


class Learn:
    """The learning station."""

    name: ClassVar[Stage] = "learn"

    def __init__(self, *, placebo: bool = False) -> None:
        self.placebo = placebo

    def plan(self, view: View) -> Plan:
        """Distil what failed since the last cycle; with nothing new, update from the examples there are."""
        failed = [*self._failed_turns(view), *self._failed_dreams(view)][:DISTILLED]
        if not failed:
            return self._update(view, ())
        job = Job.make(
            "learn.distil",
            lane="train",
            cycle=view.cycle,
            items=failed,
            guidance={name: behavior.guidance for name, behavior in view.behaviors.items()},
            judges={name: behavior.judge for name, behavior in view.behaviors.items()},
            answers=view.config.learn.guided_answers,
            temperature=view.config.serve.temperature,
            max_tokens=view.config.model.max_tokens,
            seed=view.rng("distil").randrange(2**31),
            adapter_folder=folder_of(view, view.serving),
            now=view.now,
        )
        return Plan(jobs=(job,))

    def absorb(self, done: JobFinished, view: View) -> Plan:
        """Examples: keep the sound ones and start the update. Adapter: it is trained, the judge goes on."""
        if done.job.kind == "learn.update":
            adapter: Adapter = done.result.records[0]
            counts = ", ".join(f"{count} {origin}" for origin, count in done.result.notes["counts"].items())
            return Plan(
                records=tuple(done.result.records),
                facts={f"parity/{adapter.id}": done.result.notes["parity"]},
                note=f"{adapter.id[:8]} from {counts}: loss {adapter.loss:.3f} in {adapter.seconds:.0f} s",
            )
        probes = [probe.prompt for behavior in view.behaviors.values() for probe in behavior.probes]
        earlier = view.store.find(Example, origin=["turn", "dream"], descending=True, limit=NEIGHBOURS)
        known = [f"{e.prompt[-1].content}\n{e.target}" for e in earlier]
        made = [record for record in done.result.records if isinstance(record, Example)]
        unsolved = [record for record in done.result.records if isinstance(record, Quarantine)]
        inspected = inspect(made, probes=probes, known=known)
        plan = self._update(view, inspected.kept)
        words = f"{len(inspected.kept)} examples from {done.result.notes['asked']} failures"
        if inspected.quarantined:
            words += f", {len(inspected.quarantined)} quarantined"
        return replace(
            plan,
            records=(*inspected.kept, *inspected.quarantined, *_given_up(made, inspected), *unsolved, *plan.records),
            note="; ".join(filter(None, [words, plan.note])),
        )

    # --- what failed

    def _failed_turns(self, view: View) -> list[dict[str, Any]]:
        """Turns whose signal says a trained behaviour failed and that were not distilled before."""
        found = []
        for behavior in view.config.behaviors.train:
            for signal in view.store.find(Signal, behavior=behavior, failed=True, descending=True, limit=DISTILLED):
                turn = view.store.get(Turn, signal.turn)
                if turn is not None and not _tried(view, turn.id, behavior):
                    prompt = [*turn.context, ChatMessage(role="user", content=turn.user)]
                    found.append(_item(turn.id, "turn", behavior, prompt, turn.assistant))
        return found[: DISTILLED // 2]

    def _failed_dreams(self, view: View) -> list[dict[str, Any]]:
        """Recent dreams of trained behaviours that failed at least once, with one failing answer."""
        trained = view.config.behaviors.train
        recent = view.store.find(Dream, behavior=trained, descending=True, limit=RECENT)
        dreams = {dream.id: dream for dream in recent}
        wrong: dict[str, str] = {}
        for outcome in view.store.find(Outcome, dream=list(dreams), passed=False) if dreams else []:
            wrong.setdefault(outcome.dream, outcome.answer)
        return [
            _item(id, "dream", dreams[id].behavior, [ChatMessage(role="user", content=dreams[id].text)], answer)
            for id, answer in wrong.items()
            if not _tried(view, id, dreams[id].behavior)
        ]

    # --- the update

    def _update(self, view: View, new: tuple[Example, ...]) -> Plan:
        config = view.config.learn
        known = {e.id: e for e in view.store.find(Example, origin=["turn", "dream"])} | {e.id: e for e in new}
        examples = sort(known.values(), view.store.find(Batch), view.store.find(Adapter), view.serving)
        rng = view.rng("learn")
        composed = policy(self.name, config.policy).compose(
            examples.fresh,
            examples.learned,
            general_examples(view.config, view.now),
            counter_examples(view),
            ComposeSettings(
                maximum=config.maximum,
                dream_share=config.dream_share,
                general_share=config.general_share,
                counter_share=config.counter_share,
                replay_share=config.replay_share,
                source_quota=config.source_quota,
            ),
            rng,
            conversations={t.id: t.conversation for t in view.store.find(Turn, id=[e.source for e in examples.fresh])},
        )
        chosen = composed.examples
        usable = composed.counts.get("turn", 0) + composed.counts.get("dream", 0)
        if usable < config.minimum:
            have = f"{len(examples.fresh)} fresh examples, {usable} of them usable together (`learn.dream_share`)"
            return Plan(note=f"waiting: {have}, `learn.minimum` is {config.minimum}")
        batch = Batch(
            id=content_id("batch", view.cycle, view.serving, [e.id for e in chosen], self.placebo),
            examples=tuple(e.id for e in chosen),
            parent=view.serving,
            cycle=view.cycle,
            placebo=self.placebo,
            at=view.now,
        )
        trained_on = shuffle_labels(chosen, rng) if self.placebo else chosen
        recipe = recipe_of(view.config, rng.randrange(2**31))
        adapter = content_id("adapter", batch.id, recipe.learning_rate, recipe.epochs, recipe.batch_size, recipe.seed)
        job = Job.make(
            "learn.update",
            lane="train",
            cycle=view.cycle,
            adapter=adapter,
            folder=f"adapters/{adapter}",
            into=str(view.config.state / "adapters" / adapter),
            parent=view.serving,
            parent_folder=folder_of(view, view.serving),
            batch=batch.id,
            recipe={f: getattr(recipe, f) for f in Recipe.__slots__},
            examples=[
                {"prompt": [[m.role, m.content] for m in e.prompt], "target": e.target, "origin": e.origin}
                for e in trained_on
            ],
            parity=parity.fixed_pairs(view.behaviors.values()),
            now=view.now,
        )
        stored = tuple(e for e in chosen if e.origin in ("general", "counter"))
        return Plan(records=(*stored, batch), jobs=(job,), note=f"a batch of {len(chosen)}")


def recipe_of(config: Config, seed: int) -> Recipe:
    """How the configuration says that an update is computed."""
    learn = config.learn
    return Recipe(
        rank=learn.rank,
        alpha=learn.alpha,
        targets=(learn.targets,) if isinstance(learn.targets, str) else tuple(learn.targets),
        learning_rate=learn.learning_rate,
        epochs=learn.epochs,
        batch_size=learn.batch_size,
        seed=seed,
    )


def _given_up(made: Sequence[Example], inspected: Inspected) -> list[Quarantine]:
    """Scenarios whose example was kept out are not tried again: the next answer would be like it."""
    kept = {example.id for example in inspected.kept}
    return [
        Quarantine(id=content_id("unsolved", e.source, e.behavior), source=e.source, reason="kept out", at=e.at)
        for e in made
        if e.id not in kept
    ]


def _tried(view: View, source: str, behavior: str) -> bool:
    """Was this scenario distilled before, or given up on?"""
    return (
        view.store.count(Example, source=source, behavior=behavior) > 0
        or view.store.get(Quarantine, content_id("unsolved", source, behavior)) is not None
    )


def _item(source: str, origin: str, behavior: str, prompt: list[ChatMessage], rejected: str) -> dict[str, Any]:
    return {
        "source": source,
        "origin": origin,
        "behavior": behavior,
        "prompt": [[m.role, m.content] for m in prompt],
        "rejected": rejected,
    }


# --- in the worker


def distil(payload: dict[str, Any], context: Context) -> Result:
    """Answer failed scenarios with guidance in context; keep the first answer that passes, without the guidance."""
    context.served.use(folder(payload["adapter_folder"]))
    judges = load_each(payload["judges"], context.served, context.spec.behaviors)
    items = payload["items"]
    asked = [item for item in items for _ in range(payload["answers"])]
    answers = context.served.generate(
        [
            [
                ChatMessage(role="system", content=f"memory: {payload['guidance'][item['behavior']]}"),
                *(ChatMessage(role=role, content=content) for role, content in item["prompt"]),
            ]
            for item in asked
        ],
        Sampling(temperature=payload["temperature"], max_tokens=payload["max_tokens"], seed=payload["seed"]),
        lambda done, total: context.checkpoint(done, total, "answering with guidance"),
    )
    judgements = judge_mixed(
        judges,
        [(item["behavior"], item["prompt"][-1][1], text) for item, text in zip(asked, answers, strict=True)],
        lambda done, total: context.checkpoint(done, total, "judging guided answers"),
    )
    examples: dict[tuple[str, str], Example] = {}
    read = set()
    for item, text, judgement in zip(asked, answers, judgements, strict=True):
        key = (item["source"], item["behavior"])
        if key in examples:
            continue
        if judgement.passed is not None:
            read.add(key)
        if judgement.passed:
            examples[key] = Example(
                id=content_id("example", *key),
                origin=item["origin"],
                behavior=item["behavior"],
                prompt=tuple(ChatMessage(role=role, content=content) for role, content in item["prompt"]),
                target=text,
                rejected=item["rejected"],
                source=item["source"],
                at=payload["now"],
                cycle=payload["cycle"],
            )
    unsolved = [
        Quarantine(
            id=content_id("unsolved", *key),
            source=key[0],
            reason="no guided answer passed" if key in read else "the judge cannot read the scenario",
            at=payload["now"],
        )
        for key in dict.fromkeys((item["source"], item["behavior"]) for item in items)
        if key not in examples
    ]
    return Result(records=(*examples.values(), *unsolved), notes={"asked": len(items)})


def update(payload: dict[str, Any], context: Context) -> Result:
    """Train, save, and note what the adapter says *as trained*, for comparison with what is later served."""
    with context.training():
        return _update(payload, context)


def _update(payload: dict[str, Any], context: Context) -> Result:
    recipe = Recipe(**{**payload["recipe"], "targets": tuple(payload["recipe"]["targets"])})
    into = Path(payload["into"])
    if (into / "card.json").exists():
        # a crash came between saving the adapter and recording it: it is whole, and nothing is trained twice
        card = adapters.read_card(into)
        trained = Trained(
            loss=card["loss"], tokens=card["tokens"], seconds=card["seconds"], losses=tuple(card["losses"])
        )
        context.model.use(into)
    else:
        examples = [
            TrainingExample(
                prompt=tuple(ChatMessage(role=role, content=content) for role, content in example["prompt"]),
                target=example["target"],
            )
            for example in payload["examples"]
        ]
        trained = context.model.train(
            examples,
            recipe,
            parent=folder(payload["parent_folder"]),
            into=into,
            card={key: payload[key] for key in ("adapter", "parent", "batch", "cycle")},
            checkpoint=lambda done, total: context.checkpoint(done, total, "training"),
        )
    adapter = Adapter(
        id=payload["adapter"],
        parent=payload["parent"],
        recipe=recipe,
        batch=payload["batch"],
        folder=payload["folder"],
        cycle=payload["cycle"],
        loss=trained.loss,
        tokens=trained.tokens,
        seconds=trained.seconds,
        at=payload["now"],
    )
    as_trained = parity.score(context.model, payload["parity"])
    attestation.publish(context.model, context.served, payload["parity"], into, folder(payload["parent_folder"]))
    counts = Counter(example["origin"] for example in payload["examples"])
    return Result(records=(adapter,), notes={"parity": as_trained, "counts": dict(counts)})


RUNNERS = {"learn.distil": distil, "learn.update": update}

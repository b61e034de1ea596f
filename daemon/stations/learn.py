"""Learn: failures become examples by guidance stripping, and examples become one incremental LoRA update.

Two jobs. `learn.distil` answers each failed scenario with the behaviour's guidance in context, keeps an answer that
the judge accepts, and stores the scenario *without* the guidance (context distillation, Snell et al. 2022,
arXiv:2209.15189). `learn.update` trains on a batch of such examples with replayed, general and counter examples mixed
in, starting from the serving adapter and its optimizer state.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from daemon.config import Config
from daemon.errors import ConfigError
from daemon.events import Job, JobFinished, Result, Stage
from daemon.executors.base import Context
from daemon.judges.base import load as load_judge
from daemon.models import adapters
from daemon.models.base import Sampling, Trained, TrainingExample
from daemon.probes import parity
from daemon.stations.base import Plan, View, folder_of
from daemon.stations.choice import policy
from policies.learn.compose import ComposeSettings
from policies.learn.fresh import sort
from policies.learn.placebo import shuffle_labels
from policies.learn.quarantine import inspect
from policies.records import (
    Adapter,
    Batch,
    ChatMessage,
    Dream,
    Example,
    Outcome,
    Recipe,
    Signal,
    Turn,
    content_id,
)

DISTILLED = 400  # failed scenarios distilled in one cycle, at most


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
        known = [f"{e.prompt[-1].content}\n{e.target}" for e in view.store.find(Example, origin=["turn", "dream"])]
        inspected = inspect(done.result.records, probes=probes, known=known)
        plan = self._update(view, inspected.kept)
        words = f"{len(inspected.kept)} examples from {done.result.notes['asked']} failures"
        if inspected.quarantined:
            words += f", {len(inspected.quarantined)} quarantined"
        return replace(
            plan,
            records=(*inspected.kept, *inspected.quarantined, *plan.records),
            note="; ".join(filter(None, [words, plan.note])),
        )

    # --- what failed

    def _failed_turns(self, view: View) -> list[dict[str, Any]]:
        """Turns whose signal says a trained behaviour failed and that were not distilled before."""
        found = []
        for behavior in view.config.behaviors.train:
            for signal in view.store.find(Signal, behavior=behavior, failed=True, descending=True, limit=DISTILLED):
                turn = view.store.get(Turn, signal.turn)
                if turn is not None and not view.store.count(Example, source=turn.id):
                    prompt = [*turn.context, ChatMessage(role="user", content=turn.user)]
                    found.append(_item(turn.id, "turn", behavior, prompt, turn.assistant, turn.conversation))
        return found

    def _failed_dreams(self, view: View) -> list[dict[str, Any]]:
        """This cycle's dreams of trained behaviours that failed at least once, with one failing answer."""
        wrong: dict[str, str] = {}
        dreams = {
            d.id: d for d in view.store.find(Dream, cycle=view.cycle) if d.behavior in view.config.behaviors.train
        }
        for outcome in view.store.find(Outcome, dream=list(dreams), passed=False) if dreams else []:
            wrong.setdefault(outcome.dream, outcome.answer)
        return [
            _item(id, "dream", dreams[id].behavior, [ChatMessage(role="user", content=dreams[id].text)], answer, id)
            for id, answer in wrong.items()
            if not view.store.count(Example, source=id)
        ]

    # --- the update

    def _update(self, view: View, new: tuple[Example, ...]) -> Plan:
        config = view.config.learn
        known = {e.id: e for e in view.store.find(Example, origin=["turn", "dream"])} | {e.id: e for e in new}
        examples = sort(known.values(), view.store.find(Batch), view.store.find(Adapter), view.serving)
        if len(examples.fresh) < config.minimum:
            return Plan(note=f"waiting: {len(examples.fresh)} fresh examples, `learn.minimum` is {config.minimum}")
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
        if not chosen:
            return Plan(note="waiting: dreams alone are no batch (`learn.dream_share`); no turn has failed lately")
        batch = Batch(
            id=content_id("batch", view.cycle, view.serving, [e.id for e in chosen], self.placebo),
            examples=tuple(e.id for e in chosen),
            parent=view.serving,
            cycle=view.cycle,
            placebo=self.placebo,
            at=view.now,
        )
        trained_on = shuffle_labels(chosen, rng) if self.placebo else chosen
        recipe = Recipe(
            rank=config.rank,
            alpha=config.alpha,
            targets=(config.targets,) if isinstance(config.targets, str) else tuple(config.targets),
            learning_rate=config.learning_rate,
            epochs=config.epochs,
            batch_size=config.batch_size,
            seed=rng.randrange(2**31),
        )
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


def _item(
    source: str, origin: str, behavior: str, prompt: list[ChatMessage], rejected: str, conversation: str
) -> dict[str, Any]:
    return {
        "source": source,
        "origin": origin,
        "behavior": behavior,
        "prompt": [[m.role, m.content] for m in prompt],
        "rejected": rejected,
        "conversation": conversation,
    }


def general_examples(config: Config, now: float) -> list[Example]:
    """General-skill examples for replay, from the configured file. Raises ConfigError naming it."""
    file = general_file(config, "examples")
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [
            Example(
                id=content_id("general", row["prompt"], row["answer"]),
                origin="general",
                behavior=None,
                prompt=(ChatMessage(role="user", content=row["prompt"]),),
                target=row["answer"],
                rejected=None,
                source=file.name,
                at=now,
                cycle=0,
            )
            for row in rows
        ]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{file}: `learn.general_examples` cannot be read: {error!r}") from error


def general_file(config: Config, kind: Literal["examples", "probes"]) -> Path:
    """The file with general-skill examples or probes: the one that comes with nano, or the configured one."""
    named = config.learn.general_examples if kind == "examples" else config.judge.general_probes
    if named == "bundled":
        return Path(__file__).parent.parent / "models" / "nano" / "data" / f"general.{kind}.jsonl"
    return config.resolve(named)


def counter_examples(view: View) -> list[Example]:
    """Scenarios in which the trained behaviour would be wrong, and what guarded behaviours look like done well."""
    return [
        Example(
            id=content_id("counter", name, pair.prompt, pair.preferred),
            origin="counter",
            behavior=name,
            prompt=(ChatMessage(role="user", content=pair.prompt),),
            target=pair.preferred,
            rejected=pair.rejected or None,
            source=f"{name}.toml",
            at=view.now,
            cycle=0,
        )
        for name, behavior in view.behaviors.items()
        for pair in behavior.pairs
        if (pair.kind == "counter") == (name in view.config.behaviors.train) and pair.preferred
    ]


# --- in the worker


def distil(payload: dict[str, Any], context: Context) -> Result:
    """Answer failed scenarios with guidance in context; keep the first answer that passes, without the guidance."""
    context.model.use(Path(payload["adapter_folder"]) if payload["adapter_folder"] else None)
    judges = {behavior: load_judge(name) for behavior, name in payload["judges"].items()}
    items = payload["items"]
    asked = [item for item in items for _ in range(payload["answers"])]
    answers = context.model.generate(
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
    examples: dict[str, Example] = {}
    unreadable = set()
    for item, text in zip(asked, answers, strict=True):
        if item["source"] in examples:
            continue
        judgement = judges[item["behavior"]].judge(item["behavior"], item["prompt"][-1][1], text)
        if judgement.passed is None:
            unreadable.add(item["source"])
        elif judgement.passed:
            examples[item["source"]] = Example(
                id=content_id("example", item["source"], item["behavior"]),
                origin=item["origin"],
                behavior=item["behavior"],
                prompt=tuple(ChatMessage(role=role, content=content) for role, content in item["prompt"]),
                target=text,
                rejected=item["rejected"],
                source=item["source"],
                at=payload["now"],
                cycle=payload["cycle"],
            )
    return Result(records=tuple(examples.values()), notes={"asked": len(items), "unreadable": len(unreadable)})


def update(payload: dict[str, Any], context: Context) -> Result:
    """Train, save, and note what the adapter says *as trained*, for comparison with what is later served."""
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
        trained = context.model.train(
            [
                TrainingExample(
                    prompt=tuple(ChatMessage(role=role, content=content) for role, content in example["prompt"]),
                    target=example["target"],
                )
                for example in payload["examples"]
            ],
            recipe,
            parent=Path(payload["parent_folder"]) if payload["parent_folder"] else None,
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
    counts = Counter(example["origin"] for example in payload["examples"])
    return Result(records=(adapter,), notes={"parity": as_trained, "counts": dict(counts)})


RUNNERS = {"learn.distil": distil, "learn.update": update}

"""Question 3: which attention heads does training change, and are they what changes the behaviour?

Adapters trained on the behaviour and on shuffled labels are looked at on the same teacher-forced texts. Then the part
of an update that belongs to the heads that changed most is undone, beside norm-matched random sets of heads: a head
that changed need not be a head that matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from daemon.errors import CannotAnswer, Unobservable
from daemon.experiments import arms
from daemon.experiments.base import Options, Update, advice
from daemon.experiments.bench import Bench, experiment
from daemon.experiments.looking import Looking, operate, rates
from daemon.models.adapters import read
from daemon.models.base import Generator, Layout, Learner, Observer, Passage
from daemon.probes import behavior, heads
from policies.answers import q3, q3_heads
from policies.answers.base import NOT_IDENTIFIED
from policies.behaviors import Probe
from policies.records import Advice, ChatMessage, Finding, Measurement
from policies.statistics.bootstrap import mean_interval
from policies.statistics.concentration import gini

QUESTION = "q3"
NEEDS = (Generator, Learner, Observer)
FEWEST = 16  # target probes: half of them conversations to look at, half to measure the effect on
LIVE = 6  # conversations looked at around a training session
FEW_HEADS = 40  # fewer are no distribution to speak of


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured. The effect is operated on in `operated` of the `seeds`; with `samples` answers a probe the
    behaviour's rate is measured beside the margin."""

    conversations: int
    probes: int
    examples: int
    seeds: int
    nulls: int
    operated: int
    sets: int = q3_heads.RANDOM_SETS
    samples: int = 0


QUICK = Sizes(conversations=20, probes=24, examples=40, seeds=2, nulls=3, operated=1)
FULL = Sizes(conversations=40, probes=100, examples=120, seeds=3, nulls=5, operated=3, samples=2)


def run(bench: Bench, options: Options, sizes: Sizes | None = None, *, subject: Path | None = None) -> Finding:
    """Train, look, operate, answer. `subject` is an adapter to ask about instead of ones trained here.

    Raises CannotAnswer with too few examples or probes, Unobservable for a model without full-attention layers.
    """
    sizes = sizes or (FULL if options.full else QUICK)
    passages, probes = _texts(bench, sizes)
    examples = arms.material(bench, sizes.examples)
    seeds = [options.seed + i for i in range(1 if subject else sizes.seeds)]
    nulls = [options.seed + 1000 + i for i in range(sizes.nulls)]
    operated = seeds[: sizes.operated]
    serving = bench.serving_folder if subject is None else None
    bench.expect(len(seeds) + len(nulls) + (serving is not None) + 2 * len(operated))
    looking = Looking(bench, passages, probes)
    if not looking.names:
        raise Unobservable("question 3 looks at attention maps, and this model has no full-attention layers")

    def trained(seed: int, *, placebo: bool = False) -> Path:
        return subject if subject and not placebo else arms.adapter(bench, examples, seed, placebo=placebo)

    def operation(seed: int) -> dict[str, Any]:
        return operate(looking, trained(seed), ranking.top, sizes.sets, np.random.default_rng(seed))

    scope = [[e.id for e in examples], [p.answer for p in passages], [p.id for p in probes]]
    named = read(subject).identity if subject else "trained"
    mine = [looking.cell(f"seed {s}", [named, s, scope], partial(trained, s)) for s in seeds]
    null = [
        looking.cell(f"shuffled labels, seed {s}", ["shuffled", s, scope], partial(trained, s, placebo=True))
        for s in nulls
    ]
    rng = np.random.default_rng(options.seed)
    ranking = q3_heads.rank(_stack(mine, "heads"), _stack(null, "heads"), rng)
    effect = q3_heads.effect(_stack(mine, "margins"), _stack(null, "margins"), rng)
    causal, shown = None, {}
    if effect.beyond:
        key = [named, scope, ranking.top]
        done = [bench.cell(f"operating on seed {s}", [*key, s, sizes.sets], partial(operation, s)) for s in operated]
        causal = _causal(done, q3_heads.enough_sets(len(looking.names), len(ranking.top)), rng)
        if sizes.samples:
            shown = bench.cell(
                "behaviour rate", [*key, operated[0], sizes.samples],
                lambda: rates(looking, trained(operated[0]), ranking.top, sizes.samples),
            )  # fmt: skip
    layout = looking.layout
    seen = q3.Seen(
        names=looking.names,
        ranking=ranking,
        shape=q3_heads.shape(_stack(mine, "heads"), _stack(null, "heads"), rng),
        effect=effect,
        causal=causal,
        seeds=seeds,
        null_seeds=nulls,
        conversations=len(passages),
        subject="an adapter that was given" if subject else "trained on the behaviour",
        gdn=q3.gdn_figure(layout.gdn, _mixers(mine, layout), _mixers(null, layout)) if layout.gdn else None,
        numbers={
            "rank": {
                "recipe": bench.recipe.rank,
                "alpha": bench.recipe.alpha,
                "effective": float(np.mean([each["rank"] for each in mine])),
                "placebo": float(np.mean([each["rank"] for each in null])),
                "by_part": {part: float(np.mean([each["ranks"][part] for each in mine])) for part in mine[0]["ranks"]},
            },
            "targets": arms.targets(bench.recipe),
            "rates": shown,
        }
        | (_serving(looking, serving, scope, ranking) if serving else {}),
        short=_short(sizes, layout, given=subject is not None, conversations=len(passages), probes=len(probes)),
    )
    return bench.finding(QUESTION, options.size, q3.answer(seen))


def advise(finding: Finding) -> tuple[Advice, ...]:
    """How many directions the update needs (with the alpha that keeps its scale), and whether attention carries it."""
    numbers = finding.evidence["numbers"]
    causal = numbers.get("causal")
    if finding.verdict == NOT_IDENTIFIED or not causal:
        return ()
    rank, share = numbers["rank"], causal["all_heads"]
    needed = q3.needed_rank(rank["effective"], rank["placebo"], rank["recipe"])
    found = [
        advice(
            finding, "learn.rank", needed,
            f"of {rank['recipe']} directions the update uses {rank['effective']:.1f} (effective rank; nine of ten "
            f"modules have less), an update from shuffled labels {rank['placebo']:.1f}",
        )
    ]  # fmt: skip
    if needed != rank["recipe"]:
        found.append(
            advice(
                finding, "learn.alpha", q3.scaled_alpha(rank["alpha"], rank["recipe"], needed),
                f"goes with learn.rank {needed}: an update is scaled by alpha / rank, and that was measured at "
                f"{rank['alpha']} / {rank['recipe']}",
            )
        )  # fmt: skip
    targets = q3.carrying(causal["all_heads"], numbers["targets"])
    if targets is not None:
        found.append(
            advice(
                finding, "learn.targets", targets,
                f"undoing the update of all attention heads removes {share['value']:.0%} of its effect "
                f"({share['low']:.0%} to {share['high']:.0%})",
            )
        )  # fmt: skip
    return tuple(found)


# --- material


def _texts(bench: Bench, sizes: Sizes) -> tuple[list[Passage], list[Probe]]:
    """Conversations to look at, and others to measure the effect on: heads are not chosen where they are tested."""
    found = [p for p in bench.behavior.select(split="rotating", kind="target") if p.preferred and p.rejected]
    if len(found) < FEWEST:
        raise CannotAnswer(
            f"behaviors/{bench.behavior.name}.toml: {len(found)} rotating target probes with a preferred and a "
            f"rejected answer; question 3 needs {FEWEST} (its protocol {FULL.conversations + FULL.probes}): "
            "add `[[probes]]`"
        )
    wanted = sizes.conversations + sizes.probes
    cut = min(sizes.conversations, round(len(found) * sizes.conversations / wanted))
    looked, measured = found[:cut], found[cut : min(len(found), cut + sizes.probes)]
    return [Passage(prompt=_asked(p.prompt), answer=p.preferred) for p in looked], measured


def _causal(done: Sequence[Mapping[str, Any]], wanted: int, rng: np.random.Generator) -> q3_heads.Causal:
    """Over the seeds operated on, each of which has random sets of its own."""
    return q3_heads.causal(
        whole=_stack(done, "whole"),
        undone=_stack(done, "undone"),
        kept=_stack(done, "kept"),
        random=[np.array(each["random"], dtype=float) for each in done],
        heads=_stack(done, "heads"),
        norms=[each["norms"] for each in done],
        wanted=wanted,
        rng=rng,
    )


def _serving(looking: Looking, folder: Path, scope: object, ranking: q3_heads.Ranking) -> dict[str, Any]:
    """The serving adapter on the same texts: its history is longer than the retrains', so it gets no verdict."""
    found = looking.cell("the serving adapter", ["serving", read(folder).identity, scope], lambda: folder)
    change = np.array(found["heads"]).mean(axis=0)
    top = np.argsort(-change, kind="stable")[: len(ranking.top)]
    return {
        "serving": {
            "change": change.tolist(),
            "gini": gini(change),
            "top": [list(looking.names[head]) for head in top],
            "agrees": float(np.corrcoef(np.argsort(np.argsort(change)), np.argsort(np.argsort(ranking.ratio)))[0, 1]),
            "effect": float(np.mean(found["margins"])),
        }
    }


def _short(sizes: Sizes, layout: Layout, *, given: bool, conversations: int, probes: int) -> list[str]:
    count = len(layout.attention) * layout.heads
    group = layout.heads // layout.kv_heads
    wanted = [
        (not given and sizes.seeds < FULL.seeds, f"{sizes.seeds} training seeds, a full run takes {FULL.seeds}"),
        (given, "one adapter was given, so nothing is known about other training seeds"),
        (sizes.nulls < FULL.nulls, f"{sizes.nulls} shuffled-label retrains, the protocol wants {FULL.nulls}"),
        (conversations < 20, f"{conversations} conversations, the protocol wants 20 and more"),
        (probes < FULL.probes, f"the effect is measured on {probes} probes; a full run takes {FULL.probes}"),
        (not sizes.samples, "the effect is a log-prob margin; a full run gives the behaviour's rate beside it"),
        (
            count < FEW_HEADS,
            f"{count} heads in {len(layout.attention)} full-attention layers are few: a tenth of them is "
            f"{-(-count // 10)}, and a Gini coefficient of so few is rough",
        ),
        (
            group > 1,
            f"keys and values are shared by groups of {group} heads: their update is undone with a whole group only",
        ),
    ]
    return [note for falls_short, note in wanted if falls_short]


def _stack(cells: Sequence[Mapping[str, Any]], name: str) -> q3_heads.Floats:
    return np.array([each[name] for each in cells], dtype=float)


def _mixers(cells: Sequence[Mapping[str, Any]], layout: Layout) -> q3_heads.Floats:
    return _stack(cells, "mixers")[:, [block - 1 for block in layout.gdn]]


def _asked(prompt: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage(role="user", content=prompt),)


# --- beside the loop


def observe(bench: Bench, update: Update) -> tuple[Measurement, ...]:
    """How far one update moved each head's attention, on a few fixed conversations."""
    probes = [p for p in bench.behavior.select(split="rotating", kind="target") if p.preferred][:LIVE]
    if not probes:
        raise CannotAnswer(f"behaviors/{bench.behavior.name}.toml: no target probe with a preferred answer to look at")
    passages = [Passage(prompt=_asked(p.prompt), answer=p.preferred) for p in probes]
    model = cast(Observer, bench.model)
    maps = []
    for folder in (update.before, update.after):
        bench.model.use(folder)
        maps.append(model.attention(passages, bench.tick("attention")))
    layout = model.layout()
    changes = heads.pattern_changes(*maps).reshape(len(passages), -1)
    return (
        behavior.record(
            probe=QUESTION, adapter=update.adapter, behavior=bench.behavior.name, kind="heads", split="live",
            cycle=update.cycle, at=bench.now,
            items=[f"layer {block} head {head}" for block in layout.attention for head in range(layout.heads)],
            values=changes.mean(axis=0).tolist(),
            found=mean_interval(changes.mean(axis=1).tolist(), np.random.default_rng(update.cycle)),
        ),
    )  # fmt: skip


def live(bench: Bench, history: Sequence[Measurement]) -> Finding | None:
    """Which heads the sessions so far moved most; None before the first."""
    sessions = [row for row in history if row.kind == "heads"]
    if not sessions:
        return None
    return bench.finding(QUESTION, "live", q3.observed([(s.cycle, s.items, s.values) for s in sessions]))


RUNNERS = {"q3_head_change.run": experiment(__name__)}

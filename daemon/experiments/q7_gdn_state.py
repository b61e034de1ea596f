"""Question 7: does the recurrent state of Gated-DeltaNet layers become direction-shaped?

The state at the end of the user's text is read for texts that carry the behaviour's direction and for texts of the same
length and templates that do not, before and after training and after training on shuffled labels; with and without the
GDN projections among LoRA's targets. Full-attention layers' hidden states are the comparator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from daemon.errors import CannotAnswer
from daemon.experiments import arms
from daemon.experiments.base import Options, Update, advice
from daemon.experiments.bench import Bench, experiment
from daemon.experiments.contrast import Contrast, contrast, easy
from daemon.experiments.states import States
from daemon.models.base import Generator, Learner, Observer
from daemon.probes import behavior
from policies.answers import q7
from policies.answers.q7_states import Resampled, kept_share
from policies.records import Advice, Finding, Measurement
from policies.statistics.interval import Interval
from policies.statistics.probe_auc import probe_auc

QUESTION = "q7"
NEEDS = (Generator, Learner, Observer)
FEWEST_PROBES = 8  # to measure the behaviour's effect on
LIVE = 24  # texts of each class that are read around a training session
TARGETS = {q7.WITH: ("all-linear",), q7.WITHOUT: ("attention", "mlp")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured: texts of each class, training examples, seeds of either kind, permutations, probes of the
    behaviour's margin."""

    texts: int
    examples: int
    seeds: int
    nulls: int
    permutations: int = 1000
    probes: int = 24


QUICK = Sizes(texts=40, examples=32, seeds=2, nulls=2)
FULL = Sizes(texts=100, examples=120, seeds=3, nulls=3, permutations=2000, probes=60)


def run(bench: Bench, options: Options, sizes: Sizes | None = None, *, classes: Contrast | None = None) -> Finding:
    """Read states before and after training, then answer. `classes` are texts to tell apart instead of one's own.

    Raises Unobservable for a model without GDN layers, CannotAnswer with too few texts or examples.
    """
    sizes = sizes or (FULL if options.full else QUICK)
    States.require(bench)
    texts = classes or contrast(bench, sizes.texts)
    examples = arms.material(bench, sizes.examples)
    seeds = [options.seed + i for i in range(sizes.seeds)]
    nulls = [options.seed + 1000 + i for i in range(sizes.nulls)]
    plain = easy(bench, sizes.texts)
    bench.expect(
        1 + len(TARGETS) * (len(seeds) + len(nulls)) + (2 if plain else 0) + (bench.serving_folder is not None)
    )
    states = States(bench, texts, probes=sizes.probes, permutations=sizes.permutations, seed=options.seed)
    if len(states.probes) < FEWEST_PROBES:
        raise CannotAnswer(
            f"behaviors/{bench.behavior.name}.toml: {len(states.probes)} rotating target probes with a preferred and a "
            f"rejected answer; question 7 needs {FEWEST_PROBES} to measure the behaviour's effect: add `[[probes]]`"
        )

    def train(seed: int, name: str, *, placebo: bool = False) -> Any:
        return arms.adapter(bench, examples, seed, placebo=placebo, targets=TARGETS[name])

    scope = [[e.id for e in examples], list(texts.texts), list(texts.labels), sizes.probes, sizes.permutations]
    before = states.cell("before training", scope, lambda: None)
    measured = {
        name: (
            [states.cell(f"{name}, seed {s}", [scope, name, s], partial(train, s, name)) for s in seeds],
            [
                states.cell(f"{name}, shuffled labels, seed {s}", [scope, name, s, "placebo"],
                            partial(train, s, name, placebo=True))
                for s in nulls
            ],
        )
        for name in TARGETS
    }  # fmt: skip
    rng = np.random.default_rng(options.seed)
    drawn = Resampled(texts.groups, rng, labels=texts.labels)
    over_probes = Resampled(range(len(before["margins"])), rng)
    seen = q7.Seen(
        arms={
            name: _arm(states, name, before, mine, null, drawn, over_probes) for name, (mine, null) in measured.items()
        },
        contrast=texts.words,
        per_class=sum(texts.labels),
        templates=len(set(texts.groups)),
        length_p=probe_auc(np.array(texts.lengths)[:, None], texts.labels, texts.groups, rng).p,
        words=texts.bag_of_words(rng),
        seeds=seeds,
        null_seeds=nulls,
        kept=kept_share(_margins(*measured[q7.WITH]), _margins(*measured[q7.WITHOUT]), rng),
        targets=arms.targets(bench.recipe),
        numbers={
            "heads": _heads(states, before, *measured[q7.WITH]),
            "cka": {str(b): _mean(each["cka"][str(b)] for each in measured[q7.WITH][0]) for b in states.blocks},
            "lengths": {"direction": texts.length(True), "other": texts.length(False)},
        }
        | (_easy(bench, plain, partial(train, seeds[0], q7.WITH), sizes, options.seed) if plain else {})
        | (_serving(states, scope, before) if bench.serving_folder else {}),
        short=_short(sizes, texts, plain),
    )
    return bench.finding(QUESTION, options.size, q7.answer(seen))


def advise(finding: Finding) -> tuple[Advice, ...]:
    """Whether LoRA should be put on the GDN projections: only where they help the state or the behaviour."""
    numbers = finding.evidence["numbers"]
    targets = q7.advised_targets(numbers) if finding.verdict == q7.NOT_SHAPED else None
    if finding.verdict == q7.SHAPED:
        found = numbers["arms"][q7.WITH]["auc"]
        why = f"trained with its projections, GDN state gains {found['value']:+.3f} AUC in telling directions apart"
        return (advice(finding, "learn.targets", "all-linear", why),)
    if targets is None:
        return ()
    kept = numbers["kept"]
    limits = " to ".join("unknown" if kept[side] is None else f"{kept[side]:.0%}" for side in ("low", "high"))
    why = (
        f"GDN state does not become direction-shaped, and training without the GDN projections keeps "
        f"{kept['value']:.0%} ({limits}) of the effect on the behaviour's log-prob margin"
    )
    return (advice(finding, "learn.targets", targets, why),)


# --- numbers


def _arm(
    states: States,
    name: str,
    before: Any,
    mine: Sequence[Any],
    null: Sequence[Any],
    drawn: Resampled,
    probes: Resampled,
) -> q7.Arm:
    """Levels of every layer, and differences against the shuffled labels."""

    def scores(cells: Sequence[Any], blocks: Sequence[int], kind: str = "scores") -> list[Any]:
        return [np.array([each[kind][str(block)] for block in blocks]) for each in cells]

    def level(cells: Sequence[Any], block: int) -> Interval:
        return drawn.level(scores(cells, [block]), drawn.auc)

    layers = [
        q7.Layer(
            block=block, kind="gdn" if block in states.layout.gdn else "attention",
            before=level([before], block), after=level(mine, block), placebo=level(null, block),
            p=max(each["p"][str(block)] for each in mine), before_p=before["p"][str(block)],
        )
        for block in states.blocks
    ]  # fmt: skip
    room = [layer.block for layer in layers if layer.kind == "gdn" and layer.room]
    comparator = list(states.layout.attention)

    def change(blocks: Sequence[int], kind: str = "scores") -> Any:
        statistic = drawn.auc if kind == "scores" else drawn.mean
        return drawn.difference(scores(mine, blocks, kind), scores(null, blocks, kind), statistic)

    margins = {arm: [np.array([each["margins"]]) for each in cells] for arm, cells in (("mine", mine), ("null", null))}
    return q7.Arm(
        name=name,
        layers=layers,
        auc=change(room) if room else None,
        separation=change(states.layout.gdn, "separations"),
        attention=change(comparator) if comparator else None,
        effect=probes.difference(margins["mine"], margins["null"], probes.mean),
    )


def _margins(mine: Sequence[Any], null: Sequence[Any]) -> tuple[Any, Any]:
    """The probes' margins (seeds, probes) of either set of adapters."""
    return np.array([each["margins"] for each in mine]), np.array([each["margins"] for each in null])


def _heads(states: States, before: Any, mine: Sequence[Any], null: Sequence[Any]) -> dict[str, Any]:
    """Per GDN block and head the AUC before, after and with shuffled labels."""
    return {
        str(block): {
            "before": before["heads"][str(block)],
            "after": np.mean([each["heads"][str(block)] for each in mine], axis=0).tolist(),
            "placebo": np.mean([each["heads"][str(block)] for each in null], axis=0).tolist(),
        }
        for block in states.layout.gdn
    }


def _easy(bench: Bench, texts: Contrast, adapter: Any, sizes: Sizes, seed: int) -> dict[str, Any]:
    """The contrast that vocabulary alone decides, for comparison: before and after training with one seed."""
    states = States(bench, texts, probes=0, permutations=sizes.permutations, seed=seed)
    scope = [list(texts.texts), sizes.permutations]
    before = states.cell("general skill, before", scope, lambda: None)
    after = states.cell("general skill, after", [scope, seed, sizes.examples], adapter)
    gdn = states.layout.gdn
    return {
        "easy": {
            "contrast": texts.words,
            "before": _mean(before["auc"][str(block)] for block in gdn),
            "after": _mean(after["auc"][str(block)] for block in gdn),
            "bag_of_words_auc": texts.bag_of_words(np.random.default_rng(seed)),
        }
    }


def _serving(states: States, scope: Any, before: Any) -> dict[str, Any]:
    """The serving adapter's states, against the base's. Its history has no placebo, so it gets no verdict."""
    folder = states.bench.serving_folder
    found = states.cell("the serving adapter", [scope, states.bench.serving], lambda: folder)
    return {
        "serving": {str(b): {"before": before["auc"][str(b)], "after": found["auc"][str(b)]} for b in states.blocks}
    }


def _short(sizes: Sizes, texts: Contrast, plain: Contrast | None) -> list[str]:
    wanted = [
        (sizes.seeds < FULL.seeds, f"{sizes.seeds} training seeds, a full run takes {FULL.seeds}"),
        (sizes.nulls < FULL.nulls, f"{sizes.nulls} shuffled-label seeds, a full run takes {FULL.nulls}"),
        (texts.topics, "no other behaviour's texts without a direction were found: the classes differ in topic too"),
        (plain is None, "no general tasks are configured, so the easy contrast is not shown"),
    ]
    return [note for falls_short, note in wanted if falls_short]


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


# --- beside the loop


def observe(bench: Bench, update: Update) -> tuple[Measurement, ...]:
    """How one update changed the AUC of every GDN layer, on a few fixed texts."""
    States.require(bench)
    states = States(bench, contrast(bench, LIVE), probes=0, permutations=1, seed=0)
    gdn = states.layout.gdn
    before, after = (states.scores(folder) for folder in (update.before, update.after))
    drawn = Resampled(states.texts.groups, np.random.default_rng(update.cycle), labels=states.texts.labels)
    changes = [drawn.change(*layer, drawn.auc).value for layer in zip(before[:, None], after[:, None], strict=True)]
    return (
        behavior.record(
            probe=QUESTION, adapter=update.adapter, behavior=bench.behavior.name, kind="gdn", split="live",
            cycle=update.cycle, at=bench.now, items=[f"layer {block}" for block in gdn], values=changes,
            found=drawn.change(before, after, drawn.auc),
        ),
    )  # fmt: skip


def live(bench: Bench, history: Sequence[Measurement]) -> Finding | None:
    """What the sessions so far changed; None before the first."""
    sessions = [row for row in history if row.kind == "gdn"]
    if not sessions:
        return None
    return bench.finding(QUESTION, "live", q7.observed([(s.cycle, s.items, s.values) for s in sessions]))


RUNNERS = {"q7_gdn_state.run": experiment(__name__)}

"""Question 6: does behaviour training help or hurt general skill?

Adapters trained from the base on the behaviour's examples alone and with shares of general ones, beside one trained on
general examples alone and the base asked again. Every family of general tasks is answered with the serving temperature
(code is run), and its texts are teacher-forced; an item meets the same luck before and after.
"""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from daemon.errors import CannotAnswer
from daemon.experiments import arms
from daemon.experiments.base import Options, Update, advice
from daemon.experiments.bench import Bench, experiment
from daemon.models.base import Diverges, Generator, Learner, Sampling, TrainingExample
from daemon.probes import behavior, general, harness, perplexity
from policies.answers import q6
from policies.answers.base import Answer
from policies.answers.q6_change import NON_INFERIOR, TEXT, Arm, Results
from policies.records import Advice, ChatMessage, Finding, Measurement
from policies.statistics.bootstrap import mean_interval
from policies.statistics.live_mean import live_mean

QUESTION = "q6"
NEEDS = (Generator, Learner, Diverges)
DELTA = 0.05
FEWEST_TASKS = 20
LIVE_TASKS = 24
OTHER_LUCK = 7919  # added to a seed: the base asked again
KL = "kl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured: adapters an arm, behaviour examples each is trained on, shares of general ones beside them,
    tasks a family, answers a task, and texts that KL is taken on."""

    seeds: int
    examples: int
    shares: tuple[float, ...]
    tasks: int
    samples: int
    kl: int


QUICK = Sizes(seeds=2, examples=32, shares=(0.0, 0.5), tasks=60, samples=2, kl=30)
FULL = Sizes(seeds=3, examples=64, shares=(0.0, 0.25, 0.5), tasks=100, samples=5, kl=90)
# Of one adapter: "passed" (right answers of each task), "text" (nats a token of each task's text), "harness" (task ->
# values of its documents, where there are such tasks) and "kl" (mean, not of the base).
Reading = dict[str, Any]


def run(bench: Bench, options: Options, sizes: Sizes | None = None) -> Finding:
    """Train the arms, read every family, answer. Raises CannotAnswer with too few examples or tasks."""
    sizes = sizes or (FULL if options.full else QUICK)
    tasks, pool = _tasks(bench, sizes.tasks), _general(bench)
    examples = [TrainingExample(prompt=e.prompt, target=e.target) for e in arms.material(bench, 10 * sizes.examples)]
    seeds = [options.seed + i for i in range(sizes.seeds)]
    count = min(sizes.examples, len(examples))
    mixtures = _mixtures(sizes.shares, count, len(pool))
    bench.expect(len(seeds) * (len(mixtures) + 2) + 1 + bool(bench.serving_folder))

    def read(seed: int, trained_on: Sequence[TrainingExample] = (), folder: Path | None = None) -> Reading:
        return _reading(bench, sizes, tasks, seed, trained_on, folder)

    base = [read(seed) for seed in seeds]
    trained: dict[float, list[Reading]] = {share: [] for share in mixtures}
    null: list[Reading] = []
    for seed in seeds:
        rng = random.Random(f"q6 {seed}")
        mine, others = rng.sample(examples, count), rng.sample(pool, len(pool))
        for share, many in mixtures.items():
            trained[share].append(read(seed, [*mine, *others[:many]]))
        null.append(read(seed, others[:count]))
    again = read(seeds[0] + OTHER_LUCK)
    name = bench.behavior.title
    made = [
        _arm(f"{name} with {share:.0%} general examples" if share else f"{name} alone", tasks, sizes, base, rows, share)
        for share, rows in trained.items()
    ]
    serving = None
    if bench.serving_folder:
        rows = [read(seeds[0], folder=bench.serving_folder)]
        serving = _arm("serving adapter", tasks, sizes, base[:1], rows)
    config = bench.records.get("config", {})
    answer = q6.answer(
        made,
        _arm("general examples alone", tasks, sizes, base, null),
        _arm("the base asked again", tasks, sizes, base[:1], [again]),
        title=name,
        delta=config.get("judge", {}).get("general_delta", DELTA),
        rng=np.random.default_rng(options.seed),
        seeds=seeds,
        serving=serving,
        short=_short(bench, sizes, count, len(pool)),
        config={
            key: config["learn"][key] for key in ("general_share", "counter_share") if key in config.get("learn", {})
        },
    )
    return bench.finding(QUESTION, options.size, answer)


def advise(finding: Finding) -> tuple[Advice, ...]:
    """The share of general examples that keeps general skill: more at once, less only with more evidence.

    An adapter here is trained once, the serving one in many sessions. So a share below the present one takes the full
    sizes, and a serving adapter that keeps every family, too.
    """
    numbers = finding.evidence["numbers"]
    if finding.verdict not in (q6.COMPETES, q6.POSITIVE, NON_INFERIOR):
        return ()
    kept, tested = q6.share(numbers["arms"]), [a["share"] for a in numbers["arms"] if a["share"] is not None]
    wanted = kept if kept is not None else max(tested)
    now, room = numbers["config"].get("general_share"), 1 - numbers["config"].get("counter_share", 0.0)
    if wanted == now or wanted >= room or (finding.verdict != q6.COMPETES and finding.size != "full"):
        return ()
    if now is not None and wanted < now and (finding.verdict == q6.COMPETES or not numbers["serving_kept"]):
        return ()
    what = f"{wanted:.0%} general examples"
    if kept is None:
        why = f"no share that was tried keeps every family; {what} is the largest, and may not be enough"
    else:
        why = f"{what} in a batch are the fewest tried that keep every family within {numbers['delta']:g} of the base"
    return (advice(finding, "learn.general_share", wanted, why),)


# --- one adapter


def _reading(
    bench: Bench,
    sizes: Sizes,
    tasks: Sequence[general.Task],
    seed: int,
    examples: Sequence[TrainingExample],
    folder: Path | None,
) -> Reading:
    """What an adapter knows, in a cell: the one in `folder`, or trained on `examples`; neither is the base."""
    trained_on = [[e.prompt[-1].content, e.target] for e in examples]
    key = [seed, trained_on, str(folder), [task.id for task in tasks], sizes.samples, sizes.kl, str(bench.harness)]

    def compute() -> Reading:
        adapter = bench.adapter(examples, replace(bench.recipe, seed=seed)) if examples else folder
        bench.model.use(adapter)
        note = f"general skill after {len(examples)} examples" if examples else "general skill"
        sampling = replace(bench.sampling, seed=seed)
        texts = [(_prompt(task), task.answer) for task in tasks]
        found: Reading = {
            "passed": _passed(bench, tasks, sampling, sizes.samples, note),
            "text": [-loss for loss in perplexity.per_document(bench.model, texts, bench.tick(note))],
        }
        if bench.harness:
            found["harness"] = harness.measure(
                bench.model,
                bench.harness,
                max_tokens=sampling.max_tokens,
                limit=sizes.tasks,
                checkpoint=bench.tick(note),
            )
        if adapter is not None:
            few = texts[:: max(1, len(texts) // sizes.kl)]
            found[KL] = float(np.mean(bench.model.divergence(few, adapter, bench.tick(note))))
        if adapter is not None and examples:  # what it showed is kept; a dozen adapters of a large model need not be
            shutil.rmtree(adapter, ignore_errors=True)
        return found

    found: Reading = bench.cell("general skill", key, compute)
    return found


def _passed(
    bench: Bench, tasks: Sequence[general.Task], sampling: Sampling, samples: int, note: str = ""
) -> list[float]:
    """How many of a task's answers were right."""
    asked = [task for task in tasks for _ in range(samples)]
    answers = bench.model.generate([_prompt(task) for task in asked], sampling, bench.tick(note))
    right = general.graded(asked, answers)
    return [sum(right[place : place + samples]) for place in range(0, len(right), samples)]


def _arm(
    name: str,
    tasks: Sequence[general.Task],
    sizes: Sizes,
    before: Sequence[Reading],
    after: Sequence[Reading],
    share: float | None = None,
) -> Arm:
    return Arm(
        name=name,
        before=_results(tasks, sizes, before),
        after=_results(tasks, sizes, after),
        kl=[reading[KL] for reading in after if KL in reading],
        share=share,
    )


def _results(tasks: Sequence[general.Task], sizes: Sizes, readings: Sequence[Reading]) -> list[Results]:
    """A family of answers each, those of the harness (greedy, one an item), and all texts as one more."""
    found = []
    for family in sorted({task.family for task in tasks}):
        places = [place for place, task in enumerate(tasks) if task.family == family]
        values = [[reading["passed"][place] / sizes.samples for place in places] for reading in readings]
        found.append(Results(family=family, scale="share", values=values, samples=sizes.samples))
    for family in readings[0].get("harness", {}):
        values = [reading["harness"][family] for reading in readings]
        found.append(Results(family=f"harness: {family}", scale="share", values=values))
    texts = [reading["text"] for reading in readings]
    return [*found, Results(family=TEXT, scale="nats", values=texts)]


# --- material


def _tasks(bench: Bench, count: int) -> list[general.Task]:
    """Up to `count` rotating tasks of every family that has enough of them, the families in turn."""
    by_family: dict[str, list[general.Task]] = {}
    for task in bench.tasks:
        by_family.setdefault(task.family, []).append(task)
    rows = [tasks[:count] for _, tasks in sorted(by_family.items()) if len(tasks) >= FEWEST_TASKS]
    if len(rows) < q6.FAMILIES:
        have = ", ".join(f"{len(tasks)} of {family}" for family, tasks in sorted(by_family.items())) or "none"
        raise CannotAnswer(
            f"`judge.general_probes`: question 6 needs {q6.FAMILIES} families of at least {FEWEST_TASKS} rotating "
            f"tasks; it has {have}: add more to that file"
        )
    return [row[place] for place in range(count) for row in rows if place < len(row)]


def _general(bench: Bench) -> list[TrainingExample]:
    """General examples to train on. Raises CannotAnswer without enough of them, ConfigError for an unreadable file."""
    rows = general.examples(bench.general_examples) if bench.general_examples else []
    if len(rows) < arms.MINIMUM:
        raise CannotAnswer(
            f"`learn.general_examples` has {len(rows)} examples; question 6 needs at least {arms.MINIMUM} for its "
            "null: add more to that file"
        )
    return [TrainingExample(prompt=(ChatMessage(role="user", content=asked),), target=target) for asked, target in rows]


def _mixtures(shares: Sequence[float], count: int, pool: int) -> dict[float, int]:
    """Share of general examples that is really there -> how many beside `count` others; a short `pool` lowers it."""
    many = sorted({min(round(share / (1 - share) * count), pool) for share in shares})
    return {round(general / (general + count), 2): general for general in many}


def _short(bench: Bench, sizes: Sizes, count: int, pool: int) -> list[str]:
    few = sorted({task.family for task in bench.tasks} - {task.family for task in _tasks(bench, 1)})
    notes = [f"{family} has fewer than {FEWEST_TASKS} tasks and was left out" for family in few]
    notes += [f"{sizes.examples - count} of {sizes.examples} examples are missing"] if count < sizes.examples else []
    most = max(sizes.shares)
    if pool < round(most / (1 - most) * count):
        used = max(_mixtures(sizes.shares, count, pool))
        notes.append(f"{pool} general examples: the largest share that was tried is {used:.0%}, not {most:.0%}")
    if pool < count:
        notes.append(f"the null was trained on {pool} general examples, the others on {count} of the behaviour")
    if missing := [f"{share:.0%}" for share in FULL.shares if share not in sizes.shares]:
        notes.append(f"a general share of {', '.join(missing)} was not tried")
    if not bench.serving_folder:
        notes.append("the base serves: there is no serving adapter to look at")
    return notes


def _prompt(task: general.Task) -> tuple[ChatMessage, ...]:
    return (ChatMessage(role="user", content=task.prompt),)


# --- beside the loop


def observe(bench: Bench, update: Update) -> tuple[Measurement, ...]:
    """Change of every family and of the texts' log-likelihood on a few fixed tasks, and KL(base || adapter)."""
    families = len({task.family for task in bench.tasks}) or 1
    tasks = _tasks(bench, max(1, LIVE_TASKS // families))
    texts = [(_prompt(task), task.answer) for task in tasks]
    passed, scores = [], []
    for adapter in (update.before, update.after):
        bench.model.use(adapter)
        passed.append(_passed(bench, tasks, bench.sampling, 1))
        scores.append([-loss for loss in perplexity.per_document(bench.model, texts, bench.tick())])
    ids = [task.id for task in tasks]
    rows = {TEXT: (ids, _change(scores)), KL: (ids, bench.model.divergence(texts, update.after, bench.tick()))}
    for family in sorted({task.family for task in tasks}):
        places = [place for place, task in enumerate(tasks) if task.family == family]
        changes = _change(passed)
        rows[family] = ([ids[place] for place in places], [changes[place] for place in places])
    return tuple(
        behavior.record(
            probe=QUESTION, adapter=update.adapter, behavior=bench.behavior.name, kind=kind, split="live",
            cycle=update.cycle, at=bench.now, items=items, values=values,
            found=mean_interval(values, np.random.default_rng(update.cycle)),
        )
        for kind, (items, values) in rows.items()
    )  # fmt: skip


def live(bench: Bench, history: Sequence[Measurement]) -> Finding | None:
    """Change of general skill a session, and log KL as a leading sign of forgetting; None before the first session."""
    sessions: dict[str | None, dict[str, float]] = {}
    cycles: dict[str | None, int] = {}
    for row in history:
        sessions.setdefault(row.adapter, {})[row.kind] = row.value
        cycles[row.adapter] = row.cycle
    whole = {adapter: kinds for adapter, kinds in sessions.items() if {KL, TEXT} < kinds.keys()}
    if not whole:
        return None
    families = sorted(set.intersection(*(set(kinds) for kinds in whole.values())) - {KL, TEXT})
    changes = [float(np.mean([kinds[family] for family in families])) for kinds in whole.values()]
    skill = live_mean(changes, low=-1.0, high=1.0, first=max(1, min(cycles[adapter] for adapter in whole)))
    log_kl = [math.log(max(kinds[KL], 1e-12)) for kinds in whole.values()]
    known = len(whole) > 1
    figure: dict[str, Any] = {
        "kind": "over_time", "title": "General skill, change by session, and log KL from the base", "x_label": "cycle",
        "y_label": "change; nats", "x": [cycles[adapter] for adapter in whole],
        "series": [
            *({"name": f, "values": [kinds[f] for kinds in whole.values()]} for f in [*families, TEXT]),
            {"name": "log KL(base || adapter)", "values": log_kl},
        ],
    }  # fmt: skip
    limits = f" ({100 * skill.low:+.1f} to {100 * skill.high:+.1f})" if known else ""
    answer = Answer(
        verdict="observed",
        sentence=f"General skill changed by {100 * skill.value:+.1f} points a session{limits} over {len(whole)} "
        f"training {'sessions' if known else 'session'}; log KL from the base is {log_kl[-1]:.1f}.",
        estimate=skill.value,
        low=skill.low if known else None,
        high=skill.high if known else None,
        unit="pass rate a session",
        n=len(whole),
        seeds=(),
        null={"name": "no change", "value": 0.0},
        rule="what the loop's own sessions changed, on a few fixed tasks; no null adapter, so no verdict; "
        "limits hold at all looks at once: a confidence sequence, whose window may slide",
        would_change="`dreamctl ask q6 --full` compares with an adapter of general data alone",
        figures=(figure,),
        short=(f"about {LIVE_TASKS} tasks a session, one answer each, no null adapter",),
        numbers={"sessions": len(whole), "log_kl": log_kl},
    )
    return bench.finding(QUESTION, "live", answer)


def _change(values: Sequence[Sequence[float]]) -> list[float]:
    before, after = values
    return [new - old for old, new in zip(before, after, strict=True)]


RUNNERS = {"q6_backward_transfer.run": experiment(__name__)}

"""Question 1: how few examples change a behaviour?

Nested doses of one seed's order of the example pairs, each trained from the base with the loop's own recipe, beside the
same with shuffled labels. Every run is asked the same held-out probes with its seed's luck, so that doses of one seed
differ by their training alone.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from daemon.errors import CannotAnswer
from daemon.experiments import arms
from daemon.experiments.base import Options, Update, advice
from daemon.experiments.bench import Bench, experiment
from daemon.models.base import Generator, Learner, Observer, Passage
from daemon.probes import attention, behavior, margin
from daemon.probes.direction import spans
from policies.answers import q1
from policies.answers.base import Answer
from policies.behaviors import Probe
from policies.records import Advice, ChatMessage, Example, Finding, Measurement
from policies.statistics.bootstrap import mean_interval
from policies.statistics.live_mean import live_mean

QUESTION = "q1"
NEEDS = (Generator, Learner)  # attention is looked at where the model is an Observer, too
MOST = 1_000  # examples that an order is drawn from
FEWEST_PROBES = 20
LIVE_PROBES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured: doses in examples (of either arm; 0 is in both), seeds, probes that are answered in a run,
    and how many of them are teacher-forced for margin and attention."""

    doses: tuple[int, ...]
    placebo: tuple[int, ...]
    seeds: int
    probes: int
    forced: int


# Three placebo doses, so that its trend can be told; two doses of the main arm make room for them.
QUICK = Sizes(doses=(0, 1, 5, 10, 20, 100), placebo=(0, 5, 20, 100), seeds=3, probes=48, forced=24)
FULL = Sizes(doses=q1.DOSES, placebo=q1.DOSES, seeds=5, probes=120, forced=120)


def run(bench: Bench, options: Options, sizes: Sizes | None = None) -> Finding:
    """Train and measure every dose, then answer. Raises CannotAnswer with too few pairs or probes."""
    sizes = sizes or (FULL if options.full else QUICK)
    examples, asked = arms.material(bench, MOST), _asked_of(bench, sizes)
    doses = [dose for dose in sizes.doses if dose <= len(examples)]
    placebo = [dose for dose in sizes.placebo if dose in doses]
    if placebo == [0]:
        placebo.append(doses[-1])
    seeds = [options.seed + i for i in range(sizes.seeds)]
    bench.expect(len(seeds) * (len(doses) + len([dose for dose in placebo if dose])))
    measured: dict[str, dict[int, dict[int, dict[str, float]]]] = {"main": {}, "placebo": {}}
    for seed in seeds:
        order = _order(examples, seed)
        base = _dose(bench, (), seed, asked)
        both = {"main": (order, doses), "placebo": (_half_swapped(order, seed), placebo)}
        for arm, (material, wanted) in both.items():
            measured[arm][seed] = {
                dose: _dose(bench, material[:dose], seed, asked) if dose else base for dose in wanted
            }
    short = [] if asked.passages else ["no attention: this model cannot be looked into, or has no full attention"]
    if len(asked.forced) < len(asked.probes):
        short.append(f"margin and attention were read on {len(asked.forced)} of the {len(asked.probes)} probes")
    kinds = ["margin", "attention"] if asked.passages else ["margin"]
    answer = q1.answer(
        _response(measured["main"], "rate"),
        _response(measured["placebo"], "rate"),
        title=bench.behavior.title,
        probes=len(asked.probes),
        rng=np.random.default_rng(options.seed),
        others=[(_response(measured["main"], kind), _response(measured["placebo"], kind)) for kind in kinds],
        short=short,
        maximum=bench.records.get("config", {}).get("learn", {}).get("maximum"),
    )
    return bench.finding(QUESTION, options.size, answer)


def advise(finding: Finding) -> tuple[Advice, ...]:
    """How often to train, and from how many examples on. Nothing where the dose was not identified."""
    ed80 = finding.evidence["numbers"]["ed80"] if finding.verdict == q1.IDENTIFIED else None
    if ed80 is None:
        return ()
    few = "at most " if finding.evidence["numbers"].get("at_once") else ""
    many = f"four fifths of {finding.behavior}'s change take {few}{q1.examples(ed80['value'])}"
    maximum = finding.evidence["numbers"]["maximum"]
    least = max(1, min(round(ed80["value"]), maximum or round(ed80["value"])))
    cadence, minimum = q1.KEYS
    return (
        advice(finding, cadence, q1.cadence(ed80["value"]), f"{many}, so this is how often a change is worth it"),
        advice(finding, minimum, least, f"{many}; with fewer, an update changes little that can be measured"),
    )


# --- one dose


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What every run is asked: probes to answer, those teacher-forced, and these as passages to look into."""

    probes: tuple[Probe, ...]
    forced: tuple[Probe, ...]
    passages: tuple[Passage, ...]


def _dose(bench: Bench, examples: Sequence[Example], seed: int, asked: Asked) -> dict[str, float]:
    """What the base trained on `examples` does, in a cell; without any it is the base."""
    trained_on = [[example.prompt[-1].content, example.target] for example in examples]
    key = [seed, trained_on, [probe.id for probe in asked.probes], len(asked.forced)]

    def compute() -> dict[str, float]:
        folder = arms.adapter(bench, examples, seed) if examples else None
        bench.model.use(folder)
        note = f"measuring {len(examples)} examples"
        rates = behavior.measure(
            bench.model, asked.probes, bench.judge(), bench.behavior.name, samples=1,
            sampling=replace(bench.sampling, seed=seed), checkpoint=bench.tick(note),
        )  # fmt: skip
        margins = margin.margins(bench.model, asked.forced, bench.tick(note))
        found = {"rate": float(np.mean(rates)), "margin": float(np.mean([m.per_token for m in margins]))}
        if asked.passages and isinstance(bench.model, Observer):
            found["attention"] = float(attention.mass_on_span(bench.model, asked.passages, bench.tick(note)).mean())
        if folder is not None:  # what it showed is kept; seventy adapters of a large model need not be
            shutil.rmtree(folder, ignore_errors=True)
        return found

    found: dict[str, float] = bench.cell(f"{len(examples)} examples", key, compute)
    return found


def _response(runs: Mapping[int, Mapping[int, Mapping[str, float]]], kind: str) -> q1.Response:
    """One measure of an arm; margins and attention as changes from the base, for their level means nothing."""
    names = {
        "rate": ("Behaviour rate", "share of probes passed"),
        "margin": ("Log-prob margin", "change of preferred - rejected, nats/token"),
        "attention": ("Attention on the direction", "change of its share"),
    }
    name, unit = names[kind]
    zero = {seed: 0.0 if kind == "rate" else doses[0][kind] for seed, doses in runs.items()}
    values = {seed: {d: found[kind] - zero[seed] for d, found in doses.items()} for seed, doses in runs.items()}
    return q1.Response(name=name, unit=unit, runs=values)


# --- material


def _probes(bench: Bench, count: int) -> list[Probe]:
    found = [p for p in bench.behavior.select(split="rotating", kind="target") if p.preferred and p.rejected]
    if len(found) < FEWEST_PROBES:
        raise CannotAnswer(
            f"{bench.behavior.name}.toml has {len(found)} rotating target probes with both answers; question 1 needs "
            f"at least {FEWEST_PROBES} (and {q1.PROBES} for the protocol): add more to its `probes`"
        )
    return found[:count]


def _asked_of(bench: Bench, sizes: Sizes) -> Asked:
    probes = tuple(_probes(bench, sizes.probes))
    forced = probes[: sizes.forced]
    passages: list[Passage] = []
    if isinstance(bench.model, Observer) and bench.model.layout().attention:
        everything = bench.behavior.probes
        where = {probe.id: span for probe, span in zip(everything, spans(everything), strict=True)}
        passages = [
            Passage(prompt=_prompt(probe.prompt), answer=probe.preferred, span=where[probe.id])
            for probe in forced
            if where[probe.id] is not None
        ]
    return Asked(probes=probes, forced=forced, passages=tuple(passages))


def _order(examples: Sequence[Example], seed: int) -> list[Example]:
    """A seed's order: dose d is its first d, so that doses are nested."""
    return random.Random(f"q1 order {seed}").sample(list(examples), len(examples))


def _half_swapped(examples: Sequence[Example], seed: int) -> list[Example]:
    """One of every two neighbours has its answers swapped, so that every nested dose is half of each."""
    rng = random.Random(f"q1 placebo {seed}")
    swapped = {place + rng.randrange(2) for place in range(0, len(examples), 2)}
    return [
        replace(example, target=example.rejected or "", rejected=example.target) if place in swapped else example
        for place, example in enumerate(examples)
    ]


def _prompt(prompt: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage(role="user", content=prompt),)


# --- beside the loop


def observe(bench: Bench, update: Update) -> tuple[Measurement, ...]:
    """Change of rate and margin on a few fixed probes over one update, and how many examples it had."""
    probes = _probes(bench, LIVE_PROBES)
    rates, margins = [], []
    for adapter in (update.before, update.after):
        bench.model.use(adapter)
        rates.append(
            behavior.measure(
                bench.model, probes, bench.judge(), bench.behavior.name, samples=1, sampling=bench.sampling,
                checkpoint=bench.tick(),
            )
        )  # fmt: skip
        margins.append([m.per_token for m in margin.margins(bench.model, probes, bench.tick())])
    ids = [probe.id for probe in probes]
    changes = {"rate": _change(rates), "margin": _change(margins), "examples": [float(update.examples)]}
    return tuple(
        behavior.record(
            probe=QUESTION, adapter=update.adapter, behavior=bench.behavior.name, kind=kind, split="live",
            cycle=update.cycle, at=bench.now, items=ids if kind != "examples" else ["examples"], values=values,
            found=mean_interval(values, np.random.default_rng(update.cycle)),
        )
        for kind, values in changes.items()
    )  # fmt: skip


def live(bench: Bench, history: Sequence[Measurement]) -> Finding | None:
    """Change a session and per ten examples, over the sessions so far; None before the first."""
    sessions: dict[str | None, dict[str, float]] = {}
    cycles: dict[str | None, int] = {}
    for row in history:
        sessions.setdefault(row.adapter, {})[row.kind] = row.value
        cycles[row.adapter] = row.cycle
    whole = {a: s for a, s in sessions.items() if {"rate", "margin"} <= s.keys() and s.get("examples", 0) > 0}
    if not whole:
        return None
    per_ten = {kind: [10 * s[kind] / s["examples"] for s in whole.values()] for kind in ("rate", "margin")}
    beginning = max(1, min(cycles[adapter] for adapter in whole))
    found = live_mean([s["rate"] for s in whole.values()], low=-1.0, high=1.0, first=beginning)
    known = len(whole) > 1
    name = bench.behavior.title
    figure: dict[str, Any] = {
        "kind": "over_time", "title": f"{name}: change per ten examples", "x_label": "cycle", "y_label": "change",
        "x": [cycles[adapter] for adapter in whole],
        "series": [
            {"name": "rate", "values": per_ten["rate"]},
            {"name": "margin, nats/token", "values": per_ten["margin"]},
        ],
    }  # fmt: skip
    limits = f" ({100 * found.low:+.1f} to {100 * found.high:+.1f})" if known else ""
    answer = Answer(
        verdict="observed",
        sentence=f"{name}: {len(whole)} training {'sessions' if known else 'session'} changed the rate by "
        f"{100 * found.value:+.1f} points a session{limits}, "
        f"{100 * float(np.mean(per_ten['rate'])):+.1f} per ten examples.",
        estimate=found.value,
        low=found.low if known else None,
        high=found.high if known else None,
        unit="rate a session",
        n=len(whole),
        seeds=(),
        null={"name": "no change", "value": 0.0},
        rule="what the loop's own sessions changed, on a few fixed probes; no placebo, so no verdict; "
        "limits hold at all looks at once: a confidence sequence, whose window may slide",
        would_change="`dreamctl ask q1 --full` measures doses against a placebo",
        figures=(figure,),
        short=(f"{LIVE_PROBES} probes a session, no placebo arm",),
        numbers={
            "sessions": len(whole),
            "examples": [s["examples"] for s in whole.values()],
            "per_ten": float(np.mean(per_ten["rate"])),
        },
    )
    return bench.finding(QUESTION, "live", answer)


def _change(values: Sequence[Sequence[float]]) -> list[float]:
    before, after = values
    return [new - old for old, new in zip(before, after, strict=True)]


RUNNERS = {"q1_minimum_signal.run": experiment(__name__)}

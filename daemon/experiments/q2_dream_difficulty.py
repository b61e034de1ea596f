"""Question 2: do dreams have the difficulty that was predicted, and the right one?

Every dream on record was predicted before it was answered. Where there are too few, more are made as the loop makes
them: asked for in its words, sifted as it sifts, predicted by its classifier from all that was answered before, and
only then answered. Each seed is dreamed at several temperatures, so that what these do is seen within seeds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from daemon.experiments.base import Options, advice
from daemon.experiments.bench import Bench, experiment
from daemon.judges.base import ModelJudge, find, judge_all
from daemon.models.base import Generator
from daemon.probes.dreams import ask
from graph.memory import load as load_graph
from graph.seeds import seed_material
from policies.answers import q2
from policies.answers.base import Answer, Control
from policies.answers.q2_temperature import Dreamt
from policies.dream import temperature as controller
from policies.dream.novelty import sift
from policies.grade import logistic
from policies.grade.logistic import Graded
from policies.records import BANDS, Advice, ChatMessage, Dream, Finding, Measurement, content_id

QUESTION = "q2"
NEEDS = (Generator,)
TEMPERATURES = (0.4, 0.7, 1.0)  # each made seed is dreamed at all of them; hotter is mostly unreadable
SEEDS = 11  # in a cell, which is 33 dreams
LEAST_LIVE = 30
GRAPH = {"path": "bundled", "format": "auto"}


class Predicts(Protocol):
    """A classifier that never sees an answer to what it predicts."""

    def predict(self, text: str, behavior: str, band: str) -> float:
        """P(an answer fails)."""
        ...


Fit = Callable[[Sequence[Graded]], Predicts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Dreams wanted altogether, answers to each that is made, and how many cells may be spent on making them."""

    dreams: int
    answers: int
    cells: int


QUICK = Sizes(dreams=200, answers=4, cells=14)
FULL = Sizes(dreams=1000, answers=4, cells=70)


def run(bench: Bench, options: Options, sizes: Sizes | None = None, fit: Fit = logistic.fit) -> Finding:
    """Take what is on record, make what is missing, judge the predictions."""
    sizes = sizes or (FULL if options.full else QUICK)
    recorded = _recorded(bench)
    made = _make(bench, options.seed, sizes, fit, wanted=sizes.dreams - _read(recorded))
    short = []
    if made:
        short.append(f"{_read(recorded)} dreams were on record; {len(made)} were made for the question")
    if not any(dream.made for dream in [*recorded, *made]):
        short.append("no seed was dreamed at several temperatures: its slope is from cycles, whose adapters differ")
    answer = _answer(bench, [*recorded, *made], options.seed, short)
    return bench.finding(QUESTION, options.size, answer)


def advise(finding: Finding) -> tuple[Advice, ...]:
    """Whether the temperature should adapt, and what it should be; nothing where its effect was not measured."""
    numbers = finding.evidence["numbers"]
    slope, failing, target = numbers["temperature"]["slope"], numbers["failing"], numbers["target"]
    if slope is None:
        return ()
    told = (
        f"one unit of temperature changes how often {finding.behavior}'s dreams fail by {100 * slope['value']:+.0f} "
        f"points ({100 * slope['low']:+.0f} to {100 * slope['high']:+.0f})"
    )
    tried = [at["temperature"] for at in numbers["temperature"]["at"]]
    most = (max(tried) - min(tried)) * max(abs(slope["low"]), abs(slope["high"]))
    steers = not slope["low"] <= 0 <= slope["high"]
    given = []
    if most <= controller.DEADBAND:
        why = f"{told}, by {100 * most:.0f} at most over the tried ones: bands and kinds of seeds steer, it cannot"
        given.append(advice(finding, "dream.adaptive", False, why))
    elif steers:
        given.append(advice(finding, "dream.adaptive", True, f"{told}: it can be steered"))
    if steers and most > controller.DEADBAND:
        # on the line through the dreams' means, so that following the advice does not move it
        mean = numbers["temperature"]["mean"]
        expected = failing["value"] + slope["value"] * (numbers["now"] - mean)
        aimed = min(max(mean + (target - failing["value"]) / slope["value"], min(tried)), max(tried))
        wished = round(aimed, 2) if abs(target - expected) > controller.DEADBAND else None
        why = f"{told}, {failing['value']:.0%} of answers fail at {mean:.2f} and {target:.0%} are wished"
    else:
        wished = _worthier(numbers)
        why = "a written dream certainly teaches more there than at the present temperature"
    if wished is not None and wished != numbers["now"]:
        given.append(advice(finding, "dream.temperature", wished, why))
    return tuple(given)


def _worthier(numbers: Any) -> float | None:
    """The temperature whose dreams certainly teach more than those at the one nearest to the present; the best such."""
    at = {row["temperature"]: row["worth"] for row in numbers["temperature"]["at"]}
    now = min(at, key=lambda temperature: abs(temperature - numbers["now"]))
    better = [one for one, other in numbers["temperature"]["better"] if other == now]
    return max(better, key=lambda temperature: at[temperature], default=None)


def _answer(
    bench: Bench, dreams: Sequence[Dreamt], seed: int, short: Sequence[str], cycle: int | None = None
) -> Answer:
    config = bench.records.get("config", {}).get("dream", {})
    return q2.answer(
        dreams,
        title=bench.behavior.title,
        rng=np.random.default_rng(seed),
        seeds=[seed],
        target=config.get("target_failure", 0.5),
        temperature=config.get("temperature", 0.7),
        short=short,
        controls=[*_before(bench), _independent(bench)],
        cycle=cycle,
    )


def _before(bench: Bench) -> list[Control]:
    """By the times on record. Dreams made here are predicted first by construction, so without records: none."""
    rows = _mine(bench)
    late = sum(row["predicted_at"] > row["answered_at"] for row in rows)
    told = f"{late} of {len(rows)} dreams on record were answered before their prediction and left out"
    return [Control(name="predicted before the answers", ok=late == 0, detail=told)] if rows else []


def _independent(bench: Bench) -> Control:
    """Exact rules are; the base of the model is where an adapter answers."""
    name = bench.behavior.judge
    if not issubclass(find(name), ModelJudge):
        told = f"{name} reads answers by rules and asks no model"
    elif bench.serving is not None:
        told = f"{name} asks the base of the model, and an adapter answers"
    else:
        return Control(name="an independent judge", ok=False, detail=f"{name} asks the base, which answers itself")
    return Control(name="an independent judge", ok=True, detail=told)


# --- dreams on record, and dreams made


def _mine(bench: Bench) -> list[Any]:
    return [row for row in bench.records.get("dreams", []) if row["behavior"] == bench.behavior.name]


def _read(dreams: Sequence[Dreamt]) -> int:
    return sum(dream.trials > 0 for dream in dreams)


def _recorded(bench: Bench) -> list[Dreamt]:
    """Those predicted before they were answered; with 0 trials where no answer could be read."""
    return [
        Dreamt(
            seed=row["seed"], band=row["band"], cycle=row["cycle"], temperature=row["temperature"],
            predicted=row["predicted"], failures=row["failures"], trials=row["trials"], made=False,
        )
        for row in _mine(bench)
        if row["predicted_at"] <= row["answered_at"]
    ]  # fmt: skip


def _make(bench: Bench, seed: int, sizes: Sizes, fit: Fit, wanted: int) -> list[Dreamt]:
    """At least `wanted` usable dreams, a cell at a time, each cell being a cycle of its own; none where none are."""
    rows = bench.records.get("dreams", [])
    history = [
        Graded(text=r["text"], behavior=r["behavior"], band=r["band"], failures=r["failures"], n=r["trials"])
        for r in rows if r["trials"]
    ]  # fmt: skip
    cycle = max((row["cycle"] for row in rows), default=0)
    earlier = [row["text"] for row in rows]
    known = content_id(rows)
    made: list[Dreamt] = []
    bench.expect(-(-wanted // (SEEDS * len(TEMPERATURES))))
    for number in range(sizes.cells):
        if _read(made) >= wanted:
            break
        key = [seed, number, sizes.answers, known, bench.serving]
        compute = partial(_cell, bench, seed, number, sizes.answers, fit, tuple(history), tuple(earlier))
        cell = bench.cell("dreams", key, compute)
        history += [
            Graded(text=row["text"], behavior=bench.behavior.name, band=row["band"], failures=row["failures"],
                   n=row["trials"])
            for row in cell if row["trials"]
        ]  # fmt: skip
        earlier += [row["text"] for row in cell]
        made += [
            Dreamt(
                seed=f"made {number}/{row['seed']}", band=row["band"], cycle=cycle + 1 + number,
                temperature=row["temperature"], predicted=row["predicted"], failures=row["failures"],
                trials=row["trials"], made=True,
            )
            for row in cell
        ]  # fmt: skip
    return made


def _cell(
    bench: Bench, seed: int, number: int, answers: int, fit: Fit, history: Sequence[Graded], earlier: Sequence[str]
) -> list[dict[str, Any]]:
    """Dreams of a few seeds at every temperature: written, sifted, predicted, and then answered."""
    luck = int(content_id("q2", seed, number)[:7], 16)
    written = _write(bench, number, luck)
    probes = {probe.prompt for behavior in bench.behaviors.values() for probe in behavior.probes}
    new = {dream.id for dream in sift(written, earlier=earlier, probes=probes).kept}
    classifier = fit(history)
    predicted = [classifier.predict(dream.text, dream.behavior, dream.band) for dream in written]
    asked = [dream for dream in written if dream.id in new]
    read = _answer_all(bench, asked, answers, luck)
    return [
        {
            "seed": dream.seed, "band": dream.band, "temperature": dream.temperature, "text": dream.text,
            "predicted": p, "failures": read.get(dream.id, []).count(False), "trials": len(read.get(dream.id, [])),
        }
        for dream, p in zip(written, predicted, strict=True)
    ]  # fmt: skip


def _write(bench: Bench, number: int, luck: int) -> list[Dream]:
    """A dream of every seed at every temperature, by the serving adapter."""
    behavior, graph = bench.behavior, {**GRAPH, **bench.records.get("graph", {})}
    memory = load_graph(graph["path"], graph["format"])
    material = seed_material(memory, [], {behavior.name: behavior.graph_key}, random.Random(luck), SEEDS)
    bands = [BANDS[(number * SEEDS + place) % len(BANDS)] for place in range(SEEDS)]
    requests = [ask(behavior.dream_pattern, m.memories, band) for m, band in zip(material, bands, strict=True)]
    bench.model.use(bench.serving_folder)
    dreams = []
    for heat in TEMPERATURES:
        sampling = replace(bench.sampling, temperature=heat, seed=luck)
        for place, text in enumerate(bench.model.generate(requests, sampling, bench.tick("dreaming"))):
            dreams.append(
                Dream(
                    id=f"{place}/{heat}", seed=str(place), behavior=behavior.name, kind="target", band=bands[place],
                    text=text.strip(), temperature=heat, adapter=bench.serving, cycle=number, at=bench.now,
                )
            )  # fmt: skip
    return dreams


def _answer_all(bench: Bench, dreams: Sequence[Dream], answers: int, luck: int) -> dict[str, list[bool]]:
    """Per dream whether each of its answers that could be read passed."""
    asked = [dream for dream in dreams for _ in range(answers)]
    prompts = [(ChatMessage(role="user", content=dream.text),) for dream in asked]
    texts = bench.model.generate(prompts, replace(bench.sampling, seed=luck), bench.tick("answering dreams"))
    judged = judge_all(
        bench.judge(), bench.behavior.name,
        [(dream.text, text) for dream, text in zip(asked, texts, strict=True)],
        bench.tick("judging the answers"),
    )  # fmt: skip
    read: dict[str, list[bool]] = {}
    for dream, judgement in zip(asked, judged, strict=True):
        if judgement.passed is not None:
            read.setdefault(dream.id, []).append(judgement.passed)
    return read


# --- beside the loop


def live(bench: Bench, history: Sequence[Measurement]) -> Finding | None:
    """The verdict over the loop's last dreams, valid at all looks at once (`q2.live_rule`); None with too few.

    The look is numbered by the newest dreams' cycle: without new ones it is the same look again and spends nothing.
    """
    dreams = _recorded(bench)
    if _read(dreams) < LEAST_LIVE:
        return None
    cycles = {dream.cycle for dream in dreams}
    short = [f"the last {_read(dreams)} dreams, of {len(cycles)} cycles and their adapters"]
    answer = _answer(bench, dreams, 0, short, cycle=max(1, *cycles))
    return bench.finding(QUESTION, "live", answer)


RUNNERS = {"q2_dream_difficulty.run": experiment(__name__)}

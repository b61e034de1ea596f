"""Question 5: do steering vectors work for complex behaviours?

Difference of means over paired answers (arXiv 2312.06681), one vector a block; block and strength are chosen on pairs
held back from the means, and judged on scenarios that chose nothing (Tan et al. 2024, arXiv 2407.12404). Strength 1 is
one difference of means, added at every token of prompt and answer. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from daemon.errors import VectorError
from daemon.experiments.base import Options, advice
from daemon.experiments.bench import Bench, experiment
from daemon.experiments.scenarios import as_probe, pairs_of, scenarios_of, skills_of
from daemon.experiments.steered import Push, Steered, shares
from daemon.models import vectors
from daemon.models.base import Generator, Observer, Passage, Steerable
from daemon.models.vectors import Vector
from daemon.probes import steering
from policies.answers import q5
from policies.answers.q5_measured import Candidate, Measured, Skill, choose
from policies.behaviors import Pair, Probe
from policies.records import Advice, ChatMessage, Finding

QUESTION = "q5"
NEEDS = (Generator, Observer)
ANSWERING = (
    Generator,
    Steerable,
)  # the directions come from the trainer, everything that is asked can be asked as served
DEPTHS = (0.25, 0.375, 0.5, 0.625, 0.75)
HELD_BACK = 3  # every third pair
UNLIKELY = 2.5  # per cent of the unsteered model's own answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured.

    At most so many `pairs`, a third of them held back; `scenarios` with so many `answers` at each strength; `random`
    and `shuffled` control vectors, which are asked the first `controls` scenarios once; `documents` of neutral text,
    as many to choose with as to report on; `skill` probes of each other skill.
    """

    pairs: int
    strengths: tuple[float, ...]
    scenarios: int
    answers: int
    random: int
    shuffled: int
    controls: int
    documents: int
    skill: int


QUICK = Sizes(
    pairs=36, strengths=(-2, -1, 0, 1, 2), scenarios=40, answers=2, random=4, shuffled=1, controls=30, documents=60,
    skill=100,
)  # fmt: skip
FULL = Sizes(
    pairs=60, strengths=(-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2), scenarios=80, answers=4, random=12, shuffled=3,
    controls=40, documents=150, skill=240,
)  # fmt: skip


def run(bench: Bench, options: Options, sizes: Sizes | None = None) -> Finding:
    """Find a direction, choose block and strength, measure what it does; the vector is kept, to be served.

    Raises CannotAnswer with too few pairs or scenarios, and VectorError when the vector cannot be saved.
    """
    sizes = sizes or (FULL if options.full else QUICK)
    rng = np.random.default_rng([5, options.seed])
    pairs = pairs_of(bench.behavior, sizes.pairs, rng)
    scenarios = scenarios_of(bench.behavior, pairs, sizes.scenarios, rng)
    bench.model.use(bench.serving_folder)  # what is served is what would be steered
    bench.answering.use(bench.serving_folder)
    measured, vector = _Run(bench, options, sizes, pairs, scenarios).measure()
    finding = bench.finding(QUESTION, options.size, q5.answer(measured, rng))
    _keep(bench, finding, Push(measured.chosen.layer, vector, measured.chosen.strength))
    return finding


def advise(finding: Finding) -> tuple[Advice, ...]:
    """Serve with the vector where it works; without it where it does not and is applied now."""
    name, serving = finding.behavior, set(finding.evidence["numbers"]["serving"])
    if finding.verdict == q5.WORKS:
        return (advice(finding, "serve.steering", sorted({*serving, name}), finding.sentence),)
    if finding.verdict == q5.DOES_NOT and name in serving:
        return (advice(finding, "serve.steering", sorted(serving - {name}), finding.sentence),)
    return ()


def layers(model: Observer) -> tuple[int, ...]:
    """The blocks at the protocol's depths; on a shallow model some coincide and are looked at once."""
    layout = model.layout()
    return tuple(dict.fromkeys(layout.at_depth(depth) for depth in DEPTHS))


class _Run:
    """One run's measurements, each kept in a cell whose key holds the adapter in use, the sizes and the material."""

    def __init__(
        self, bench: Bench, options: Options, sizes: Sizes, pairs: Sequence[Pair], scenarios: Sequence[Probe]
    ) -> None:
        self.bench, self.sizes, self.seed = bench, sizes, options.seed
        self.ask = Steered(bench)
        self.observer = cast(Observer, bench.model)
        self.layers = layers(self.observer)
        self.fitting = [pair for place, pair in enumerate(pairs) if place % HELD_BACK]
        self.held_back = [as_probe(pair) for pair in pairs[::HELD_BACK]]
        self.scenarios = list(scenarios)
        documents = [((ChatMessage(role="user", content=task.prompt),), task.answer) for task in bench.tasks]
        self.choosing, self.reporting = (documents[half::2][: sizes.documents] for half in (0, 1))
        self.others = skills_of(bench, sizes.skill)
        material = [[pair.prompt, pair.preferred, pair.rejected] for pair in pairs]
        self.key = [bench.serving, self.seed, asdict(sizes), material, [probe.id for probe in scenarios]]

    def cell(self, name: str, *key: object, compute: Any) -> Any:
        """A kept value; see `Bench.cell`."""
        return self.bench.cell(name, [*self.key, *key], compute)

    def measure(self) -> tuple[Measured, Any]:
        """Everything the verdict rests on, and the direction (hidden,) at the chosen block."""
        sizes, bench = self.sizes, self.bench
        bench.expect(1 + len(self.layers) + len(sizes.strengths) + 2 + sizes.random + sizes.shuffled + len(self.others))
        found, shuffled = self.directions()
        candidates = [each for layer in self.layers for each in self.candidates(layer, found[layer])]
        chosen = choose(candidates)
        layer, vector = chosen.layer, found[chosen.layer]
        swept = [self.at(Push(layer, vector, strength)) for strength in sizes.strengths]
        base = swept[sizes.strengths.index(0)]
        seeds = [np.random.default_rng([555, self.seed, number]) for number in range(sizes.random)]
        random = [steering.random_like({layer: vector}, rng)[layer] for rng in seeds]
        bar = float(np.percentile(base["likely"], UNLIKELY))
        best = Push(layer, vector, chosen.strength)
        measured = Measured(
            title=bench.behavior.title,
            chosen=chosen,
            candidates=candidates,
            strengths=sizes.strengths,
            passed=np.array([shares(each["passed"]) for each in swept]).T,
            margins=np.array([np.subtract(each["margins"], base["margins"]) for each in swept]).T,
            intact=[float(np.mean([value >= bar for value in each["likely"]])) for each in swept],
            prompted=self.prompted(),
            random=[self.control(f"random vector {n + 1}", layer, each, base) for n, each in enumerate(random)],
            shuffled=[self.control(f"shuffled labels {n + 1}", layer, v[layer], base) for n, v in enumerate(shuffled)],
            neutral=self.neutral(best),
            skills=[self.skill(name, best) for name in self.others],
            pairs=len(self.fitting),
            seed=self.seed,
            adapter=bench.serving,
            serving=bench.records.get("config", {}).get("serve", {}).get("steering", ()),
            served=bench.answering is not bench.model,
            short=[] if bench.tasks else ["no neutral text: perplexity was not measured"],
        )
        return measured, vector

    def directions(self) -> tuple[steering.Vectors, list[steering.Vectors]]:
        """The differences of means per block, and those of shuffled labels at the same norms."""

        def compute() -> dict[str, Any]:
            preferred, rejected = (
                [Passage(prompt=(ChatMessage(role="user", content=pair.prompt),), answer=getattr(pair, side))
                 for pair in self.fitting]
                for side in ("preferred", "rejected")
            )  # fmt: skip
            note = "looking at the pairs"
            contrast = steering.contrast(self.observer, preferred, rejected, self.layers, self.bench.tick(note))
            rngs = [np.random.default_rng([55, self.seed, number]) for number in range(self.sizes.shuffled)]
            several = [contrast.direction(), *(contrast.shuffled(rng) for rng in rngs)]
            return {"vectors": [[vector.tolist() for vector in each.values()] for each in several]}

        kept = self.cell("directions", self.layers, compute=compute)["vectors"]
        found, *shuffled = [
            {layer: np.array(row, np.float32) for layer, row in zip(self.layers, rows, strict=True)} for rows in kept
        ]
        return found, shuffled

    def candidates(self, layer: int, vector: Any) -> list[Candidate]:
        """A block at every strength above 0, on the pairs held back and on the neutral text that chooses."""
        note = f"block {layer}"

        def compute() -> list[dict[str, float]]:
            plain = self.ask.documents(self.choosing, None, note)
            found = []
            for push in (Push(layer, vector, strength) for strength in self.sizes.strengths if strength > 0):
                passed = self.ask.passed(self.held_back, self.sizes.answers, push, note)
                costs = np.subtract(self.ask.documents(self.choosing, push, note), plain)
                found.append(
                    {
                        "strength": push.strength,
                        "rate": float(np.mean(shares(passed))),
                        "margin": float(np.mean(self.ask.margins(self.held_back, push, note))),
                        "cost": float(np.mean(costs)) if len(costs) else 0.0,
                    }
                )
            return found

        return [Candidate(layer=layer, **row) for row in self.cell("block", layer, compute=compute)]

    def at(self, push: Push) -> dict[str, list[Any]]:
        """Every scenario at one strength: answers judged, margins, and how likely first answers are unsteered."""
        note = f"strength {push.strength:g}"

        def compute() -> dict[str, list[Any]]:
            answers = self.ask.answers(self.scenarios, self.sizes.answers, push, note)
            return {
                "passed": self.ask.judged(self.scenarios, answers, note),
                "margins": self.ask.margins(self.scenarios, push, note),
                "likely": self.ask.likely(self.scenarios, answers[:: self.sizes.answers], note),
            }

        return cast("dict[str, list[Any]]", self.cell("strength", push.layer, push.strength, compute=compute))

    def prompted(self) -> list[float]:
        """What the behaviour's guidance does in a system message, as examples are made with it."""
        guidance, note = self.bench.behavior.guidance, "the plain prompt"

        def compute() -> list[float]:
            return shares(self.ask.passed(self.scenarios, self.sizes.answers, None, note, guidance=guidance))

        return cast("list[float]", self.cell("prompt", guidance, compute=compute))

    def control(self, name: str, layer: int, vector: Any, base: dict[str, list[Any]]) -> Any:
        """(the first scenarios, strengths): one answer each; at strength 0 it is the base's first answer."""
        few = self.scenarios[: self.sizes.controls]

        def compute() -> list[list[float]]:
            return [
                shares(self.ask.passed(few, 1, Push(layer, vector, strength), name))
                if strength
                else shares([answers[:1] for answers in base["passed"][: len(few)]])
                for strength in self.sizes.strengths
            ]

        return np.array(self.cell(name, layer, compute=compute)).T

    def neutral(self, push: Push) -> list[float]:
        """Change in nats per token of each document that chose nothing."""
        note = "neutral text"

        def compute() -> list[float]:
            plain, steered = (self.ask.documents(self.reporting, each, note) for each in (None, push))
            return [after - before for before, after in zip(plain, steered, strict=True)]

        return cast("list[float]", self.cell("neutral", push.layer, push.strength, compute=compute))

    def skill(self, name: str, push: Push) -> Skill:
        """One of the things that must survive, without and with the push."""
        behavior, probes, guarded = self.others[name]

        def compute() -> list[list[float]]:
            return [self.ask.skill(behavior.name, probes, self.sizes.answers, each, name) for each in (None, push)]

        before, after = self.cell(name, push.layer, push.strength, [p.id for p in probes], compute=compute)
        return Skill(name=name, before=before, after=after, delta=behavior.delta, guarded=guarded)


def _keep(bench: Bench, finding: Finding, push: Push) -> None:
    """Save the vector. One that does not work takes no other's place: that may be what is served."""
    file = bench.vectors / f"{bench.behavior.name}.safetensors"
    base = bench.model.fingerprint()
    if finding.verdict != q5.WORKS:
        try:
            vectors.read(file, base=base)
            return
        except VectorError:
            pass  # there is none that could be served
    made = Vector(
        behavior=bench.behavior.name, layer=push.layer, strength=float(push.strength), values=push.vector, base=base,
        adapter=bench.serving, finding=finding.id,
    )  # fmt: skip
    vectors.write(file, made)


RUNNERS = {"q5_steering.run": experiment(__name__)}

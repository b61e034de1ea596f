"""Question 5 where the truth is known: a direction that acts, one that does not, and one planted in the real nano."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.errors import CannotAnswer
from daemon.experiments import q5_steering as q5
from daemon.experiments.base import Options, require
from daemon.experiments.bench import Bench
from daemon.experiments.scenarios import scenarios_of
from daemon.models import vectors
from daemon.models.base import Passage
from daemon.models.fake import FakeModel
from daemon.models.vectors import Vector
from policies.records import Finding
from tests.daemon.experiments.planted import BLOCK, PlantedWorld

ASKED = Options(size="quick", behavior="listening")
TINY = replace(
    q5.QUICK, pairs=24, strengths=(-2, 0, 1), scenarios=20, answers=1, random=2, controls=8, documents=8, skill=12
)


def cosine(a: Any, b: Any) -> float:
    """Of two vectors."""
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def saved(bench: Bench) -> Vector:
    """The vector that a run left."""
    return vectors.read(bench.vectors / f"{bench.behavior.name}.safetensors", base=bench.model.fingerprint())


def test_a_planted_direction_is_recovered_and_works(make_bench: Callable[..., Bench]) -> None:
    """Its block is chosen among five, the saved vector is the planted one, and the advice is to serve with it."""
    world = PlantedWorld(works=True)
    bench = make_bench(model=world, serving="a1", serving_folder=Path("adapters/a1"))
    finding = q5.run(bench, ASKED)
    assert finding.verdict == "works", finding.evidence["controls"]
    assert finding.evidence["numbers"]["layer"] == BLOCK
    vector = saved(bench)
    assert cosine(vector.values, world.planted) > 0.9
    assert np.linalg.norm(vector.values) == pytest.approx(np.linalg.norm(world.planted), rel=0.2)
    assert (vector.behavior, vector.layer, vector.adapter, vector.finding) == ("listening", BLOCK, "a1", finding.id)
    assert vector.strength == finding.evidence["numbers"]["strength"] > 0
    assert world.used[-1] == Path("adapters/a1") and world.pushes == []
    assert [(a.key, json.loads(a.value)) for a in q5.advise(finding)] == [("serve.steering", ["listening"])]


def test_a_direction_that_means_nothing_does_not_work(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same difference of means, but the behaviour hangs on another direction: found as surely, and no effect."""
    monkeypatch.setattr(q5, "DEPTHS", (0.5,))
    world = PlantedWorld(works=False)
    bench = make_bench(model=world)
    finding = q5.run(bench, ASKED)
    assert cosine(saved(bench).values, world.planted) > 0.9
    assert finding.verdict != "works" and q5.advise(finding) == ()
    assert abs(finding.estimate or 0) < 0.06
    assert not next(c["ok"] for c in finding.evidence["controls"] if c["name"].startswith("beyond random"))


def test_a_vector_that_does_not_work_takes_no_others_place(make_bench: Callable[..., Bench]) -> None:
    """What may be served now stays; where nothing usable is there the vector is kept, to be looked at."""
    world = PlantedWorld(works=False)
    bench = make_bench(model=world)
    q5.run(bench, ASKED, TINY)
    first = saved(bench)
    vectors.write(bench.vectors / "listening.safetensors", replace(first, finding="one that works"))
    q5.run(bench, ASKED, TINY)
    assert saved(bench).finding == "one that works"
    vectors.write(bench.vectors / "listening.safetensors", replace(first, base="of another model"))
    finding = q5.run(bench, ASKED, TINY)
    assert saved(bench).finding == finding.id


def test_an_interrupted_run_goes_on_from_its_cells(make_bench: Callable[..., Bench]) -> None:
    """A second run of the same measures nothing and says the same; another adapter's cells are not taken."""
    first, again, other = (make_bench(model=PlantedWorld(works=True), **more) for more in ({}, {}, {"serving": "a2"}))
    found = q5.run(first, ASKED, TINY)
    repeated = q5.run(again, ASKED, TINY)
    assert again.cells.computed == 0 and again.cells.reused == first.cells.computed == first._total
    assert repeated.sentence == found.sentence and repeated.evidence["numbers"] == found.evidence["numbers"]
    q5.run(other, ASKED, TINY)
    assert other.cells.reused == 0


def test_a_direction_planted_in_nano_is_recovered_and_does_nothing(
    make_bench: Callable[..., Bench], nano: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Preferred answers are read with a random direction pushed into block 4, rejected ones against it: that is what
    is found. It has nothing to do with the behaviour, so steering along it is not said to work."""
    planted = np.random.default_rng(1).standard_normal(nano.layout().hidden).astype(np.float32)
    planted *= 400 / np.linalg.norm(planted)
    look = nano.hidden

    def hidden(passages: Sequence[Passage], layers: Sequence[int], checkpoint: Any) -> Any:
        half = len(passages) // 2
        sides = []
        for side, mine in ((0.5, passages[:half]), (-0.5, passages[half:])):
            with nano.steered({BLOCK: planted}, side):
                sides.append(look(mine, layers, checkpoint))
        return np.concatenate(sides)

    monkeypatch.setattr(nano, "hidden", hidden)
    monkeypatch.setattr(q5, "DEPTHS", (0.5,))
    bench = make_bench()
    finding = q5.run(bench, ASKED, replace(TINY, strengths=(-0.5, 0, 0.5)))
    vector = saved(bench)
    assert vector.layer == BLOCK and cosine(vector.values, planted) > 0.9
    assert finding.verdict != "works"


def test_nano_is_steered_by_its_own_pairs(make_bench: Callable[..., Bench]) -> None:
    """Away from listening the real model goes surely; the finding carries everything that a reader needs."""
    bench = make_bench(records={"config": {"serve": {"steering": ["listening"]}}})
    notes: list[tuple[int, int]] = []
    bench.checkpoint = lambda done, total, note: notes.append((done, total))
    finding = q5.run(bench, ASKED, replace(TINY, strengths=(-2, 0, 1), scenarios=40))
    numbers = finding.evidence["numbers"]
    assert numbers["rates"][0] < numbers["rate"]["base"] - 0.1 < numbers["rate"]["prompted"]
    assert numbers["margins"][0] < 0 < numbers["margins"][2] and numbers["margins"][1] == 0
    assert {"16 pairs in the means, 20 are wanted", "2 random vectors, 5 are wanted"} <= set(finding.evidence["short"])
    assert [figure["kind"] for figure in finding.evidence["figures"]] == ["steering", "over_time"]
    assert set(numbers["skills"]) == {"listening, counter", "not_rushing", "push_back"}
    assert finding.n == 40 and finding.evidence["model"] == bench.model.fingerprint()
    assert notes[-1][0] == notes[-1][1] and notes == sorted(notes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (lambda b: {"pairs": [p for p in b.pairs if p.kind == "target"][:19]}, "19 target examples.*at least 20 pairs"),
        (lambda b: {"pairs": [replace(p, rejected="") for p in b.pairs]}, "0 target examples"),
        (lambda b: {"probes": [p for p in b.probes if p.kind == "counter"]}, "0 rotating target probes.*`probes`"),
    ],
    ids=["too few pairs", "no rejected answers", "no scenarios"],
)
def test_too_little_material_is_refused_before_anything_runs(
    make_bench: Callable[..., Bench], changes: Callable[[Any], dict[str, Any]], words: str
) -> None:
    """The message names the behaviour's file, the number and the remedy; the model is not asked."""
    world = PlantedWorld(works=True)
    bench = make_bench(model=world)
    bench.behavior = replace(bench.behavior, **changes(bench.behavior))
    with pytest.raises(CannotAnswer, match=rf"listening\.toml has {words}"):
        q5.run(bench, ASKED)
    assert world.asked == [] and not bench.vectors.exists()


def test_scenarios_are_never_examples(make_bench: Callable[..., Bench]) -> None:
    """A probe whose prompt is also a pair's is not asked."""
    bench = make_bench(model=PlantedWorld(works=True))
    pairs = [p for p in bench.behavior.pairs if p.kind == "target"]
    probes = bench.behavior.select(split="rotating", kind="target")
    leaking = [replace(pair, prompt=probe.prompt) for pair, probe in zip(pairs, probes, strict=False)]
    found = scenarios_of(bench.behavior, leaking, 500, np.random.default_rng(0))
    assert len(found) == len(probes) - len(pairs)


def test_a_model_that_cannot_be_steered_is_refused() -> None:
    """By name, with the backend that can."""
    with pytest.raises(CannotAnswer, match=r'q5 needs .*steering.*FakeModel.*model\.backend = "hf"'):
        require(FakeModel({"listening": 0.5}), q5.NEEDS, "q5")


def test_blocks_at_the_protocols_depths() -> None:
    """64 blocks: 16 24 32 40 48; on a model of four several depths are one block, which is looked at once."""
    world = PlantedWorld(works=True)
    assert q5.layers(world) == (2, 3, 4, 5, 6)
    deep, shallow = (replace(world.layout(), layers=n) for n in (64, 4))
    for layout, blocks in ((deep, (16, 24, 32, 40, 48)), (shallow, (1, 2, 3))):
        world.layout = lambda layout=layout: layout  # type: ignore[method-assign]
        assert q5.layers(world) == blocks


@pytest.mark.parametrize(
    ("verdict", "serving", "value"),
    [("works", [], ["listening"]), ("works", ["push_back"], ["listening", "push_back"]),
     ("does not work", ["listening", "push_back"], ["push_back"]), ("does not work", [], None),
     ("not identified", ["listening"], None)],
)  # fmt: skip
def test_advice_follows_the_verdict(verdict: str, serving: list[str], value: list[str] | None) -> None:
    """Served where it works, taken back where it surely does not, left alone where nothing is known."""
    finding = Finding(
        id="f", question="q5", behavior="listening", adapter=None, size="full", verdict=verdict, sentence="So it is.",
        estimate=0.1, low=0.0, high=0.2, n=40, seconds=1.0, at=0.0, evidence={"numbers": {"serving": serving}},
    )  # fmt: skip
    found = [(a.key, json.loads(a.value), a.evidence) for a in q5.advise(finding)]
    assert found == ([] if value is None else [("serve.steering", value, "So it is.")])

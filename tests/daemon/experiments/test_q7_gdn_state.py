"""Question 7 on the real nano: shuffled classes are not told apart, a model without GDN layers is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.errors import CannotAnswer, Unobservable
from daemon.experiments import q7_gdn_state
from daemon.experiments.base import Options, Update
from daemon.experiments.bench import Bench
from daemon.experiments.contrast import contrast, easy
from daemon.experiments.states import States
from daemon.models import loading, surgery
from policies.answers import q7
from policies.answers.q7_states import Resampled
from policies.listen.signals import eligible
from policies.records import Recipe
from tests.daemon.models import tiny

QUICK = Options(size="quick", behavior="listening")
RECIPE = Recipe(rank=4, alpha=8, targets=("all-linear",), learning_rate=1e-3, epochs=1, batch_size=8, seed=0)
TINY = q7_gdn_state.Sizes(texts=20, examples=16, seeds=2, nulls=2, permutations=199, probes=8)


def test_shuffled_classes_are_not_told_apart(make_bench: Callable[..., Bench]) -> None:
    """With classes drawn by lot nothing is separated or gained; cells are kept, and it is said what falls short."""
    bench = make_bench(recipe=RECIPE, tasks=())
    real = contrast(bench, TINY.texts)
    rng = np.random.default_rng(5)
    shuffled = replace(real, labels=tuple(bool(label) for label in rng.permutation(real.labels)))
    finding = q7_gdn_state.run(bench, QUICK, TINY, classes=shuffled)
    assert finding.verdict != q7.SHAPED
    assert ("not identified" in finding.sentence.lower()) == (finding.verdict == "not identified"), finding.sentence
    assert finding.n == finding.evidence["numbers"]["templates"]
    arm = finding.evidence["numbers"]["arms"][q7.WITH]
    gdn = [layer for layer in arm["layers"] if layer["kind"] == "gdn"]
    assert len(gdn) == 6 and abs(np.mean([layer["after"]["value"] for layer in gdn]) - 0.5) < 0.15
    assert len(finding.evidence["figures"]) == 2
    assert any("2 training seeds" in note for note in finding.evidence["short"])
    assert any("20 texts a class" in note for note in finding.evidence["short"])
    json.dumps(finding.evidence, allow_nan=False)

    again = make_bench(recipe=RECIPE, tasks=())
    repeated = q7_gdn_state.run(again, QUICK, TINY, classes=shuffled)
    assert again.cells.computed == 0 and repeated.evidence["numbers"] == finding.evidence["numbers"]


def test_texts_are_alike_but_for_the_direction(make_bench: Callable[..., Bench]) -> None:
    """Listening is told from texts of the same world, length and templates in which it could not be shown."""
    bench = make_bench()
    found = contrast(bench, 40)
    assert found.words == "listening from not_rushing texts" and not found.topics
    assert sum(found.labels) == 40 and len(found.texts) == 80
    assert abs(found.length(True) - found.length(False)) <= 1
    assert all(eligible(text, bench.behavior) == label for text, label in zip(found.texts, found.labels, strict=True))
    shared = {g for g, label in zip(found.groups, found.labels, strict=True) if label} & {
        g for g, label in zip(found.groups, found.labels, strict=True) if not label
    }
    assert len(shared) >= 10
    plain = easy(bench, 40)
    assert plain is not None and plain.topics
    rng = np.random.default_rng(0)
    assert plain.bag_of_words(rng) > found.bag_of_words(rng)


def test_a_behaviour_alone_is_told_from_its_counter_examples(make_bench: Callable[..., Bench]) -> None:
    """Without another behaviour its own counter-examples do, then general tasks, and at last it is refused."""
    bench = make_bench(trained=("listening",))
    bench.behaviors = {"listening": bench.behavior}
    assert "counter-examples" in contrast(bench, 20).words
    bench.behavior = replace(bench.behavior, probes=bench.behavior.select(split="rotating", kind="target"))
    assert "general tasks" in contrast(bench, 20).words
    bench.tasks = ()
    with pytest.raises(CannotAnswer, match=r"listening\.toml: .*16 target probes.*general_probes"):
        contrast(bench, 20)


def test_a_model_without_gdn_is_refused_by_name(make_bench: Callable[..., Bench], tmp_path: Path) -> None:
    """A dense model has no recurrent state: it is said so, and which models have one, before anything is trained."""
    dense = loading.load("hf", path=str(tiny.save(tmp_path / "dense", dense=True)))
    bench = make_bench(model=dense)
    with pytest.raises(Unobservable, match=r"Gated-DeltaNet.*models that have them: .*qwen3_5"):
        q7_gdn_state.run(bench, QUICK, TINY)
    with pytest.raises(Unobservable):
        q7_gdn_state.observe(bench, Update(before=None, after=tmp_path, adapter="a", examples=1, cycle=1))
    assert not bench.scratch.exists()


def test_a_session_is_looked_at_and_adds_up(make_bench: Callable[..., Bench], tmp_path: Path) -> None:
    """Around a training session every GDN layer's change is kept; sessions add up to an observation."""
    from daemon.experiments import arms

    bench = make_bench(recipe=RECIPE)
    trained = arms.adapter(bench, arms.material(bench, 16), seed=0)
    surgery.scaled(trained, tmp_path / "after", 4.0)
    (row,) = q7_gdn_state.observe(
        bench, Update(before=None, after=tmp_path / "after", adapter="a", examples=16, cycle=2)
    )
    assert (row.probe, row.kind, row.split, len(row.values)) == ("q7", "gdn", "live", 6)
    assert any(row.values) and np.mean(row.values) == pytest.approx(row.value)
    texts = contrast(bench, q7_gdn_state.LIVE)
    states = States(bench, texts, probes=0, permutations=1, seed=0)
    drawn = Resampled(texts.groups, np.random.default_rng(2), labels=texts.labels)
    over_texts = drawn.change(states.scores(None), states.scores(tmp_path / "after"), drawn.auc)
    assert (row.low, row.high) == pytest.approx((over_texts.low, over_texts.high)), "limits over texts, not layers"
    finding = q7_gdn_state.live(bench, [row, replace(row, cycle=3)])
    assert finding is not None and (finding.verdict, finding.n) == ("observed", 2)
    assert q7_gdn_state.live(bench, []) is None


def test_probes_without_both_answers_are_refused(make_bench: Callable[..., Bench]) -> None:
    """The effect on the behaviour needs probes with both answers: file, number and remedy are named before training."""
    bench = make_bench(recipe=RECIPE)
    probes = [replace(p, rejected="") if p.kind == "target" else p for p in bench.behavior.probes]
    bench.behavior = replace(bench.behavior, probes=tuple(probes))
    with pytest.raises(CannotAnswer, match=r"listening\.toml: 0 rotating target probes.*needs 8.*add `\[\[probes\]\]`"):
        q7_gdn_state.run(bench, QUICK, TINY)
    assert not bench.scratch.exists()


def test_texts_of_one_template_are_refused(make_bench: Callable[..., Bench]) -> None:
    """Where all texts are worded alike no template can be held out: it is said, and what to add."""
    bench = make_bench(tasks=())
    bench.behaviors = {
        name: replace(behavior, probes=tuple(replace(p, prompt=f"please use a saw {word}") for p in behavior.probes))
        for (name, behavior), word in zip(bench.behaviors.items(), ("now", "here", "there"), strict=True)
    }
    bench.behavior = bench.behaviors["listening"]
    with pytest.raises(CannotAnswer, match=r"listening\.toml: \d+ rotating.*of 1 templates.*5 templates.*worded"):
        contrast(bench, 20)


@pytest.mark.parametrize(
    ("verdict", "kept", "advised"),
    [
        (q7.SHAPED, (0.95, 0.92, 1.0), "all-linear"),
        (q7.NOT_SHAPED, (0.95, 0.92, 1.0), ["attention", "mlp"]),
        (q7.NOT_SHAPED, (0.95, 0.7, 1.2), None),
        (q7.NOT_SHAPED, (0.95, float("-inf"), float("inf")), None),
        (q7.NOT_SHAPED, (0.5, 0.4, 0.6), "all-linear"),
        ("not identified", (0.95, 0.92, 1.0), None),
    ],
)
def test_advice(make_bench: Callable[..., Bench], verdict: str, kept: tuple[float, ...], advised: Any) -> None:
    """GDN projections are dropped only where neither the state nor, by its lower limit, the behaviour needs them."""
    arm = {"auc": {"value": 0.1}, "effect": {"value": 0.1, "low": 0.05}}
    numbers = {"arms": {q7.WITH: arm}, "kept": dict(zip(("value", "low", "high"), kept, strict=True))}
    answer = q7.observed([(1, ("layer 1",), (0.1,))])
    finding = make_bench().finding("q7", "full", replace(answer, verdict=verdict, numbers=numbers))
    found = [json.loads(each.value) for each in q7_gdn_state.advise(finding)]
    assert found == ([] if advised is None else [advised])

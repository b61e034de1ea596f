"""Question 1 on the real nano, at a tiny size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from daemon.errors import CannotAnswer
from daemon.experiments import arms
from daemon.experiments import q1_minimum_signal as q1
from daemon.experiments.base import Options, Update
from daemon.experiments.bench import Bench
from policies.records import Finding
from tests.daemon.experiments.conftest import RECIPE

TINY = q1.Sizes(doses=(0, 1, 12), placebo=(0, 12), seeds=2, probes=20, forced=6)
ASKED = Options(size="quick", behavior="listening")
FAST = replace(RECIPE, learning_rate=2e-2, epochs=3)


def test_a_model_that_cannot_learn_has_no_minimum_signal(make_bench: Callable[..., Bench]) -> None:
    """Learning rate 0: nothing changes at any dose, in rate, margin or attention; no advice."""
    finding = q1.run(make_bench(recipe=replace(RECIPE, learning_rate=0.0, epochs=1)), ASKED, TINY)
    assert finding.verdict == "not identified"
    assert not finding.evidence["controls"][0]["ok"]
    measures = finding.evidence["numbers"]["measures"]
    assert [measure["effect"]["value"] for measure in measures.values()] == pytest.approx([0, 0], abs=1e-6)
    assert q1.advise(finding) == ()


def test_examples_move_margin_and_rate_and_the_placebo_does_not(make_bench: Callable[..., Bench]) -> None:
    """A dozen examples at a high learning rate raise both; what falls short of the protocol is said."""
    answered = q1.run(make_bench(recipe=FAST), ASKED, TINY)
    numbers, null = answered.evidence["numbers"], answered.evidence["null"]
    assert numbers["effect"]["value"] > 0.1 > null["value"]
    assert numbers["measures"]["Log-prob margin"]["effect"]["value"] > 0
    assert numbers["measures"]["Attention on the direction"]["effect"]["value"] != 0
    assert {"2 seeds; the protocol wants at least 5", "20 probes a run; the protocol wants at least 100"} <= set(
        answered.evidence["short"]
    )


def test_an_interrupted_run_goes_on_from_its_cells(make_bench: Callable[..., Bench]) -> None:
    """A second run of the same trains and measures nothing; no adapter is left behind."""
    sizes = replace(TINY, doses=(0, 1, 2), placebo=(0, 2), seeds=1)
    first = make_bench()
    q1.run(first, ASKED, sizes)
    again = make_bench()
    q1.run(again, ASKED, sizes)
    assert (first.cells.computed, again.cells.computed, again.cells.reused) == (4, 0, 4)
    assert not list(first.scratch.iterdir())


def test_doses_are_nested_and_the_placebo_is_half_swapped(make_bench: Callable[..., Bench]) -> None:
    """Each seed has its own order; every even dose of the placebo is exactly half wrong, and it starts either way."""
    examples = arms.material(make_bench(), 100)
    order = q1._order(examples, 0)
    assert len(order) == 100 and order != q1._order(examples, 1)
    swapped = [a != b for a, b in zip(order, q1._half_swapped(order, 0), strict=True)]
    assert all(sum(swapped[:dose]) == dose // 2 for dose in (2, 10, 20, 50, 100))
    assert len({q1._half_swapped(order, seed)[0].target for seed in range(20)}) == 2


def test_advice_follows_the_dose() -> None:
    """Few examples: train at once; many: nightly, and never a minimum that the batch cannot hold."""
    few, many = (
        Finding(
            id="f", question="q1", behavior="listening", adapter=None, size="full", verdict="identified", sentence="",
            estimate=dose, low=dose, high=dose, n=5, seconds=1.0, at=0.0,
            evidence={"numbers": {"ed80": {"value": dose}, "maximum": 64}},
        )
        for dose in (8.4, 90.0)
    )  # fmt: skip
    assert [(a.key, a.value) for a in q1.advise(few)] == [("schedule.cycle", '"continuous"'), ("learn.minimum", "8")]
    assert [(a.key, a.value) for a in q1.advise(many)] == [
        ("schedule.cycle", '"cron 0 3 * * *"'),
        ("learn.minimum", "64"),
    ]


def test_advice_below_the_first_dose_says_at_most() -> None:
    """A dose that was only bounded is not passed on as if it were known."""
    finding = Finding(
        id="f", question="q1", behavior="listening", adapter=None, size="full", verdict="identified", sentence="",
        estimate=1.0, low=0.0, high=1.0, n=5, seconds=1.0, at=0.0,
        evidence={"numbers": {"ed80": {"value": 1.0}, "maximum": 64, "at_once": True}},
    )  # fmt: skip
    cadence, minimum = q1.advise(finding)
    assert (cadence.value, minimum.value) == ('"continuous"', "1")
    assert "take at most 1 example," in cadence.evidence


def test_the_quick_placebo_can_reach_its_level() -> None:
    """Three doses beside 0, all of them doses of the main arm, up to the largest."""
    placebo = q1.QUICK.placebo
    assert len(placebo) == 4 and set(placebo) <= set(q1.QUICK.doses) and placebo[-1] == q1.QUICK.doses[-1]


def test_too_little_material_is_named(make_bench: Callable[..., Bench]) -> None:
    """File, number and remedy, before anything is trained."""
    bench = make_bench()
    bench.behavior = replace(bench.behavior, pairs=bench.behavior.pairs[:4])
    with pytest.raises(CannotAnswer, match=r"listening\.toml: 4 examples .* 16 are needed"):
        q1.run(bench, ASKED, TINY)
    bench = make_bench()
    bench.behavior = replace(bench.behavior, probes=bench.behavior.probes[:7])
    with pytest.raises(CannotAnswer, match=r"listening\.toml has 7 rotating target probes .* at least 20 .*`probes`"):
        q1.run(bench, ASKED, TINY)


def test_sessions_add_up(make_bench: Callable[..., Bench]) -> None:
    """Each session is measured before and after; live tells the change per ten examples, with limits from two on."""
    bench = make_bench()
    bench.recipe = FAST
    after = arms.adapter(bench, arms.material(bench, 16), 0)
    assert q1.live(bench, ()) is None
    history: list[Any] = []
    for cycle in (1, 2):
        update = Update(before=None, after=after, adapter=f"adapter {cycle}", examples=16, cycle=cycle)
        history += q1.observe(bench, update)
        finding = q1.live(bench, history)
        assert finding is not None and (finding.size, finding.verdict, finding.n) == ("live", "observed", cycle)
        assert (finding.low is None) == (cycle == 1)
    assert {m.kind: m.n for m in history[:3]} == {"rate": 20, "margin": 20, "examples": 1}
    assert next(m for m in history if m.kind == "margin").value > 0
    assert finding.evidence["figures"][0]["x"] == [1, 2]

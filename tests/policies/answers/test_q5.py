"""Question 5's verdict on synthetic scenarios whose truth is known, at the protocol's sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from policies.answers import q5
from policies.answers.base import NOT_IDENTIFIED
from policies.answers.q5_measured import Candidate, Measured, Skill, choose
from policies.statistics.binomial import lower, upper

STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)
CHOSEN = Candidate(layer=4, strength=1.0, rate=0.8, margin=0.1, cost=0.001)


class World:
    """Scenarios of different difficulty that answer with the same luck at every strength."""

    def __init__(self, seed: int, *, scenarios: int = 80, answers: int = 4) -> None:
        self.rng = np.random.default_rng(seed)
        self.ease = self.rng.normal(0.4, 1.0, scenarios)
        self.luck = self.rng.uniform(size=(scenarios, answers))

    def rates(self, push: Any) -> Any:
        """Per scenario the share of its answers that pass when its log-odds are pushed."""
        chance = 1 / (1 + np.exp(-(self.ease + push)))
        return (self.luck < chance[:, None]).mean(axis=1)

    def sweep(self, gain: Any, first: int | None = None) -> Any:
        """(scenarios, strengths) for a push of `gain` log-odds per unit of strength."""
        return np.stack([self.rates(gain * strength) for strength in STRENGTHS], axis=1)[:first]

    def skill(self, name: str, *, fall: float = 0.0, guarded: bool = True) -> Skill:
        """One answer to each of 240 probes, 70 % passed; `fall` of them are lost."""
        before = self.rng.uniform(size=240) < 0.7
        after = before & (self.rng.uniform(size=240) >= fall)
        return Skill(
            name=name, before=[float(x) for x in before], after=[float(x) for x in after], delta=0.08, guarded=guarded
        )

    def measured(self, gain: Any, *, prompt: float = 1.5, random: Sequence[float] = (), **changes: Any) -> Measured:
        """A direction of this gain beside a prompt's push and control vectors without one."""
        controls = list(random) or self.rng.normal(0, 0.03, 12)
        made: dict[str, Any] = {
            "title": "Listening",
            "chosen": CHOSEN,
            "candidates": [CHOSEN, replace(CHOSEN, layer=2, rate=0.6)],
            "strengths": STRENGTHS,
            "passed": self.sweep(gain),
            "margins": np.outer(np.ones(len(self.ease)), STRENGTHS),
            "intact": (0.9, 0.97, 0.975, 0.97, 0.8),
            "prompted": self.rates(prompt),
            "random": [self.sweep(each, 40) for each in controls],
            "shuffled": [self.sweep(0.05, 40)],
            "neutral": self.rng.normal(0.001, 0.005, 150),
            "skills": [self.skill("counter"), self.skill("push_back"), self.skill("other", guarded=False)],
            "pairs": 40,
            "seed": 0,
        }
        return Measured(**(made | changes))


def judged(gain: Any, seed: int = 0, **changes: Any) -> q5.Answer:
    """The verdict on a planted gain."""
    return q5.answer(World(seed).measured(gain, **changes), np.random.default_rng(seed))


def failed(found: q5.Answer) -> list[str]:
    """The controls that did not hold."""
    return [control.name for control in found.controls if not control.ok]


def test_a_strong_clean_direction_works() -> None:
    """A push of one in log-odds beside a prompt of 1.5: every condition holds, and the figures carry the baselines."""
    found = judged(1.0)
    assert found.verdict == q5.WORKS and failed(found) == []
    assert found.low is not None and found.low > 0 and found.n == 80
    assert found.numbers["share_of_prompt"] > 0.5
    steering, layers = found.figures
    assert [row["role"] for row in steering["series"]] == ["main", "random", "shuffled"]
    assert steering["strengths"] == list(STRENGTHS) and steering["base"] == found.numbers["rate"]["base"]
    assert layers["x"] == [2, 4]
    assert found.short == ["measured on the transformers model; as served: `dreamctl ask q5 --served`"]


@pytest.mark.parametrize(
    ("gain", "changes", "condition"),
    [
        (0.15, {"prompt": 3.0}, "at least 50% of the prompt's effect"),
        (-0.6, {}, "slope above 0"),
        (1.0, {"neutral": [0.1] * 150}, "perplexity of neutral text"),
        (1.0, {"skills": [World(0).skill("counter"), World(1).skill("push_back", fall=0.4)]}, "push-back survives"),
    ],
    ids=["weaker than the prompt", "backwards", "spoils neutral text", "agrees with everything"],
)
def test_what_surely_misses_a_condition_does_not_work(gain: float, changes: dict[str, Any], condition: str) -> None:
    """One condition that surely fails is enough, and the sentence names it."""
    found = judged(gain, **changes)
    assert found.verdict == q5.DOES_NOT
    assert condition in failed(found) and condition in found.sentence and condition in found.would_change


def test_a_skill_that_falls_but_not_surely_beyond_its_delta_is_open() -> None:
    """Push-back that is surely lower, by about the delta of 8 points, neither survives nor is lost."""
    skill = World(1).skill("push_back", fall=0.12)
    assert skill.standing().standing == "worse" and skill.standing().change.low < -skill.delta
    found = judged(1.0, skills=[World(0).skill("counter"), skill])
    assert found.verdict == NOT_IDENTIFIED and failed(found) == ["push-back survives"]


def test_a_direction_that_helps_some_and_harms_others_does_not_work() -> None:
    """A third of the scenarios move against the vector: the mean slope is above 0, the share backwards says no."""
    found = judged(np.where(np.arange(80) % 3 == 0, -2.0, 2.0), prompt=0.5)
    assert found.low is not None and found.low > 0
    assert found.verdict == q5.DOES_NOT and "few move backwards" in failed(found)


@pytest.mark.parametrize(
    ("changes", "condition"),
    [
        ({"random": [1.2, -1.0, 0.8, -1.3, 0.1]}, "beyond random and shuffled vectors"),
        ({"random": [0.0]}, "beyond random and shuffled vectors"),
        ({"neutral": []}, "perplexity of neutral text"),
        ({"skills": []}, "push-back survives"),
        ({"prompt": 3.0}, "at least 50% of the prompt's effect"),
    ],
    ids=["random vectors do as much", "one random vector", "no neutral text", "nothing to push back on", "in between"],
)
def test_what_is_open_is_not_identified(changes: dict[str, Any], condition: str) -> None:
    """A control that is missing or wide is no evidence for either side; the sentence says what is open."""
    found = judged(1.0, seed=2, **changes)
    assert found.verdict == NOT_IDENTIFIED
    assert condition in failed(found) and condition in found.sentence


def test_a_shuffled_vector_that_does_as_much_refutes_the_direction() -> None:
    """Then it is not the labels that made the direction."""
    world = World(0)
    for gains in ([0.95], [0.0, 0.0, 1.3]):
        measured = world.measured(1.0, shuffled=[world.sweep(gain, 40) for gain in gains])
        found = q5.answer(measured, np.random.default_rng(0))
        assert found.verdict == NOT_IDENTIFIED and "beyond random and shuffled vectors" in failed(found)
    partly = world.measured(1.0, shuffled=[world.sweep(gain, 40) for gain in (0.3, 0.4, 0.2)])
    assert q5.answer(partly, np.random.default_rng(0)).verdict == q5.WORKS


def test_a_prompt_that_does_harm_sets_no_bar_below_nothing() -> None:
    """Half of a negative effect would be passed by doing nothing at all: the effect itself must be above 0."""
    found = judged(0.0, prompt=-1.5)
    assert "at least 50% of the prompt's effect" in failed(found) and found.verdict != q5.WORKS
    assert found.numbers["share_of_prompt"] is None


def test_the_rate_decides_and_not_the_margin() -> None:
    """Margins that rise by nats make nothing of a rate that does not; they are reported."""
    found = judged(0.0, margins=np.outer(np.ones(80), 5 * np.array(STRENGTHS)))
    assert found.numbers["margin_slope"]["value"] == pytest.approx(5.0)
    assert found.verdict != q5.WORKS and "slope above 0" in failed(found)


def test_two_hundred_directions_without_an_effect() -> None:
    """The slope is above 0 as often as its one-sided level (2.5 %) says, and none of them works."""
    found = [judged(0.0, seed=seed, random=[0.0] * 5) for seed in range(200)]
    positive = sum("slope above 0" not in failed(each) for each in found)
    assert lower(positive, 200, 0.995) <= 0.025 <= upper(positive, 200, 0.995)
    assert sum(each.verdict == q5.WORKS for each in found) == 0


def test_directions_of_random_gains_stay_within_their_own_band() -> None:
    """A direction drawn like the random ones passes their 95 % limit about once in twenty."""
    beyond = 0
    for seed in range(200):
        gains = np.random.default_rng([9, seed]).normal(0, 0.5, 13)
        measured = World(seed, answers=2).measured(gains[0], random=gains[1:], shuffled=[np.zeros((40, 5))])
        mine = q5._mean_slope(STRENGTHS, measured.passed[:40])
        randoms = [q5._mean_slope(STRENGTHS, each) for each in measured.random]
        beyond += mine > q5.prediction_high(randoms)
    assert lower(beyond, 200, 0.995) <= 0.05 <= upper(beyond, 200, 0.995)


def test_few_scenarios_pairs_and_control_vectors_are_said() -> None:
    """What falls short of the protocol stands in the finding, whatever the verdict."""
    world = World(0, scenarios=30)
    found = q5.answer(world.measured(1.0, pairs=14, random=[0.0, 0.1, 0.0]), np.random.default_rng(0))
    assert {"14 pairs in the means, 20 are wanted", "30 scenarios, 40 are wanted",
            "3 random vectors, 5 are wanted"} <= set(found.short)  # fmt: skip


def test_a_layer_is_chosen_among_those_that_leave_text_alone() -> None:
    """The highest rate whose perplexity stays within 2 %; ties go to the margin, then to less strength."""
    cheap, dear = math.log(1.01), math.log(1.05)
    rows = [Candidate(layer=1, strength=2.0, rate=0.9, margin=9.0, cost=dear),
            Candidate(layer=2, strength=1.0, rate=0.7, margin=0.1, cost=cheap),
            Candidate(layer=3, strength=2.0, rate=0.7, margin=0.2, cost=cheap),
            Candidate(layer=3, strength=1.0, rate=0.7, margin=0.2, cost=cheap)]  # fmt: skip
    assert choose(rows) == rows[3]
    assert choose(rows[:1]) == rows[0]
    with pytest.raises(ValueError, match="nothing to choose"):
        choose([])

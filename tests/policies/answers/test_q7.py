"""Question 7's rules on synthetic states: a planted shape is found, shuffled classes are not taken for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from policies.answers import q7
from policies.answers.base import NOT_IDENTIFIED
from policies.answers.q7_states import Change, Resampled, kept_share, separations
from policies.answers.q7_texts import CALIPER, bag_of_words, match_lengths, templates
from policies.statistics.binomial import lower, upper
from policies.statistics.interval import Interval
from policies.statistics.probe_auc import probe_auc

ITEMS = 80
LABELS = [True, False] * (ITEMS // 2)
GROUPS = [place // 4 for place in range(ITEMS)]  # twenty templates, each with both classes


def scores(rng: np.random.Generator, adapters: int, shift: float) -> list[Any]:
    """Probe scores (1 layer, items) of adapters from one base: its items' luck is shared, a seed has its own too."""
    base = np.random.default_rng(99).normal(size=ITEMS) + 0.8 * np.array(LABELS)
    return [
        base[None] + shift * np.array(LABELS) + rng.normal(0, 0.05) * np.array(LABELS) + rng.normal(0, 0.1, (1, ITEMS))
        for _ in range(adapters)
    ]


def arm(*, auc: Change | None, before: float = 0.8, after: float = 0.8, p: float = 0.001) -> q7.Arm:
    """An arm of two GDN layers and a full-attention one with these numbers."""
    level = {side: Interval(value, value - 0.05, min(1.0, value + 0.05), 20)
             for side, value in (("before", before), ("after", after), ("placebo", before))}  # fmt: skip
    kinds: Sequence[q7.Kind] = ("gdn", "gdn", "attention")
    flat = Change(value=0.0, low=-0.01, high=0.01, detectable=0.015)
    effect = Change(value=0.1, low=0.05, high=0.15, detectable=0.07)
    layers = [q7.Layer(block=n + 1, kind=kind, p=p, before_p=p, **level) for n, kind in enumerate(kinds)]
    return q7.Arm(name=q7.WITH, layers=layers, auc=auc, separation=flat, attention=flat, effect=effect)


def change(value: float, half: float) -> Change:
    """A difference in differences with this half-width."""
    return Change(value=value, low=value - half, high=value + half, detectable=1.4 * half)


def seen(with_: q7.Arm, **changes: Any) -> q7.Seen:
    """What was measured, with this arm."""
    made: dict[str, Any] = {
        "arms": {q7.WITH: with_, q7.WITHOUT: arm(auc=change(0.0, 0.01))}, "contrast": "listening from other texts",
        "per_class": 40, "templates": 20, "length_p": 0.6, "words": 0.95, "seeds": (0, 1, 2), "null_seeds": (9, 10, 11),
    }  # fmt: skip
    return q7.Seen(**{**made, **changes})


@pytest.mark.parametrize(
    ("found", "p", "verdict"),
    [
        (change(0.10, 0.03), 0.001, q7.SHAPED),
        (change(0.10, 0.03), 0.3, NOT_IDENTIFIED),
        (change(0.00, 0.01), 0.001, q7.NOT_SHAPED),
        (change(-0.06, 0.02), 0.001, q7.NOT_SHAPED),
        (change(0.008, 0.004), 0.001, q7.NOT_SHAPED),
        (change(0.03, 0.05), 0.001, NOT_IDENTIFIED),
        (None, 0.001, NOT_IDENTIFIED),
    ],
    ids=["gain", "gain but no layer separates", "none", "loss", "real but too small", "wide", "no room"],
)
def test_the_rule(found: Change | None, p: float, verdict: str) -> None:
    """A gain counts when it is worth the name, beyond its interval and separable; its absence when excluded."""
    answer = q7.answer(seen(arm(auc=found, p=p)))
    assert answer.verdict == verdict
    assert (answer.estimate is None) == (found is None)


def test_words_and_figures() -> None:
    """Ceiling, no separation and vocabulary are said in words; every arm has its figure with the placebo beside."""
    assert "cannot gain" in q7.answer(seen(arm(auc=None, before=1.0, after=1.0))).sentence
    answer = q7.answer(seen(arm(auc=change(0.0, 0.01), before=0.5, after=0.5, p=0.6), per_class=20, length_p=0.01))
    assert "no separation" in answer.sentence and answer.n == 20
    notes = "; ".join(answer.short)
    assert "bag of words" in notes and "20 texts a class" in notes and "almost perfectly" not in notes
    assert "2 of 2 GDN layers" in "; ".join(q7.answer(seen(arm(auc=None, before=1.0))).short)
    assert [control.ok for control in answer.controls] == [False, True, True]
    figure = answer.figures[0]
    assert [layer["kind"] for layer in figure["layers"]] == ["gdn", "gdn", "attention"]
    assert len(answer.figures) == 2 and figure["chance"] == 0.5 and figure["layers"][0]["placebo"]["value"] == 0.5


@pytest.mark.parametrize(
    ("found", "after", "verdict", "says"),
    [
        (change(0.0, 0.01), 0.5, q7.NOT_SHAPED, "no separation"),
        (change(0.0, 0.01), 0.7, q7.NOT_SHAPED, "cannot be told"),
        (change(0.1, 0.03), 0.7, NOT_IDENTIFIED, "cannot be told"),
        (change(0.1, 0.2), 0.5, NOT_IDENTIFIED, "no separation"),
    ],
)
def test_a_large_p_is_not_taken_for_no_separation(found: Change, after: float, verdict: str, says: str) -> None:
    """No separation is said where the AUC's upper limit is small; a wide one cannot be told."""
    answer = q7.answer(seen(arm(auc=found, after=after, p=0.4)))
    assert answer.verdict == verdict and says in answer.sentence
    assert ("no separation" in answer.sentence) == (says == "no separation")
    assert ("not identified" in answer.sentence) == (verdict == NOT_IDENTIFIED)


def margins(rng: np.random.Generator, adapters: int, effect: float, spread: float) -> Any:
    """Margins (adapters, 30 probes): the effect, a seed's luck, a probe's."""
    return effect + rng.normal(0, spread, (adapters, 1)) + np.random.default_rng(7).normal(0, 0.02, 30)


def test_what_training_without_gdn_keeps() -> None:
    """GDN is dropped when the lower limit of the share kept is nine tenths; seeds that differ leave it open."""
    rng = np.random.default_rng(5)
    advised = {}
    for spread in (0.0005, 0.03):
        whole, part = ((margins(rng, 3, each, spread), margins(rng, 3, 0.0, spread)) for each in (0.1, 0.098))
        kept = kept_share(whole, part, rng)
        assert kept.low <= kept.value <= kept.high and kept.n == 30
        advised[spread] = q7.advised_targets(q7.answer(seen(arm(auc=change(0.0, 0.01)), kept=kept)).numbers)
    assert advised == {0.0005: ["attention", "mlp"], 0.03: None}
    numbers = q7.answer(seen(arm(auc=change(0.0, 0.01)), kept=Interval(0.5, 0.4, 0.6, 30))).numbers
    assert q7.advised_targets(numbers) == "all-linear"
    numbers["arms"][q7.WITH]["effect"]["low"] = -0.1
    assert q7.advised_targets(numbers) is None


def test_one_seed_leaves_the_share_kept_open() -> None:
    """With a single adapter in an arm nothing is known about seeds: the share has no limits."""
    rng = np.random.default_rng(6)
    whole, part = ((margins(rng, n, 0.1, 0.0), margins(rng, 3, 0.0, 0.0)) for n in (3, 1))
    kept = kept_share(whole, part, rng)
    assert (kept.low, kept.high) == (-np.inf, np.inf) and kept.value == pytest.approx(1.0)


def test_the_share_kept_covers_the_truth() -> None:
    """Over 200 runs of three seeds the limits hold the true share about as often as they say."""
    rng = np.random.default_rng(8)
    runs, held = 200, 0
    for _ in range(runs):
        luck = rng.normal(0, 0.03, 30)
        arms = [(0.1 * share + rng.normal(0, 0.01, (3, 1)) + luck, rng.normal(0, 0.01, (3, 30))) for share in (1, 0.9)]
        kept = kept_share(arms[0], arms[1], rng, resamples=200)
        held += kept.low <= 0.9 <= kept.high
    assert upper(held, runs, confidence=0.99) >= 0.9


def test_one_update_is_measured_over_texts() -> None:
    """A change of one adapter has limits over templates: it holds 0 where nothing moved, and only there."""
    rng = np.random.default_rng(9)
    drawn = Resampled(GROUPS, rng, labels=LABELS)
    (before,), (moved,) = scores(rng, 1, 0.0), scores(rng, 1, 1.0)
    none, found = drawn.change(before, before, drawn.auc), drawn.change(before, moved, drawn.auc)
    assert (none.low, none.value, none.high) == (0.0, 0.0, 0.0)
    assert 0 < found.low < found.value < found.high and found.n == 20


def test_a_planted_gain_is_found_and_none_where_there_is_none() -> None:
    """Scores that training moved apart differ by what scikit-learn's AUCs differ; the interval excludes 0."""
    rng = np.random.default_rng(0)
    drawn = Resampled(GROUPS, rng, labels=LABELS)
    subject, null = scores(rng, 3, 1.0), scores(rng, 3, 0.0)
    found = drawn.difference(subject, null, drawn.auc)
    reference = [np.mean([roc_auc_score(LABELS, each[0]) for each in arm_]) for arm_ in (subject, null)]
    assert found.value == pytest.approx(reference[0] - reference[1])
    assert 0 < found.low < found.value < found.high and found.detectable > 0
    level = drawn.level(null, drawn.auc)
    assert level.low < level.value < level.high and level.n == 20


def test_one_seed_in_either_arm_says_nothing_about_seeds() -> None:
    """Without a second seed there are no limits, so no claim can follow; one arm's spread stands for the other's."""
    rng = np.random.default_rng(1)
    drawn = Resampled(GROUPS, rng, labels=LABELS)
    alone = drawn.difference(scores(rng, 1, 1.0), scores(rng, 1, 0.0), drawn.auc)
    assert alone.low == -np.inf and alone.high == np.inf
    borrowed = drawn.difference(scores(rng, 1, 1.0), scores(rng, 3, 0.0), drawn.auc)
    assert np.isfinite(borrowed.low)
    assert q7.decide(arm(auc=alone)) == NOT_IDENTIFIED


def test_exchangeable_arms_seldom_differ() -> None:
    """Over 200 null runs the interval of the difference in differences leaves 0 out at no more than its 5 %."""
    rng = np.random.default_rng(2)
    drawn = Resampled(GROUPS, rng, labels=LABELS, resamples=200)
    runs = 200
    found = [drawn.difference(scores(rng, 3, 0.0), scores(rng, 3, 0.0), drawn.auc) for _ in range(runs)]
    false = sum(not each.low <= 0 <= each.high for each in found)
    assert lower(false, runs, confidence=0.99) <= 0.05


def test_shuffled_classes_separate_at_the_nominal_rate() -> None:
    """Over 200 runs on classes drawn by lot, the probe's p is below .05 in about 5 %."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(ITEMS, 30)) + np.repeat(rng.normal(size=(20, 30)), 4, axis=0)  # templates have a place
    runs = 200
    hits = 0
    for _ in range(runs):
        labels = [bool(label) for group in range(20) for label in rng.permutation([True, True, False, False])]
        hits += probe_auc(x, labels, GROUPS, rng, permutations=99).p <= 0.05
    assert lower(hits, runs, confidence=0.995) <= 0.05 <= upper(hits, runs, confidence=0.995)


def test_separation_by_cosine() -> None:
    """Two clouds are apart, one cloud is not, and the mean over items is between minus and plus 2."""
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(ITEMS, 50))
    apart = separations(noise + 3 * np.outer(np.array(LABELS) * 2 - 1, np.ones(50)), LABELS)
    assert apart.mean() > 1.5 and abs(separations(noise, LABELS).mean()) < 0.05


@given(st.lists(st.integers(1, 15), max_size=40), st.lists(st.integers(1, 15), max_size=40), st.integers(1, 20))
def test_matched_lengths(first: list[int], second: list[int], wanted: int) -> None:
    """Pairs use each text once, differ by two tokens at most, and exact pairs are not given up for near ones."""
    pairs = match_lengths(first, second, wanted)
    assert len(pairs) <= wanted
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(abs(first[i] - second[j]) <= CALIPER for i, j in pairs)
    exact = sum(min(first.count(n), second.count(n)) for n in set(first))
    if exact >= wanted:
        assert len(pairs) == wanted and all(first[i] == second[j] for i, j in pairs)


def test_templates_mask_what_tells_classes_apart() -> None:
    """The same form of asking is one template in either class, whatever is asked for and however it is opened."""
    first = [f"hi. please use {m} to cut the {o}." for m in ("a saw", "an axe") for o in ("tree", "hedge")] * 5
    second = [f"quick one. please use {m} to cut {o}." for m in ("some tool", "that tool") for o in ("it", "this")] * 5
    mine, other = templates(first, second)
    assert set(mine) == set(other) == {"please use _ to cut _"}
    assert bag_of_words([*first, *second]).shape[0] == 40


def test_templates_of_texts_that_share_no_form() -> None:
    """Where two classes share no form of asking, each keeps its own: there are still templates to hold out."""
    first = [f"please use {m} to {v} it" for m in "abcde" for v in ("cut", "dig", "mow", "sow", "hoe")]
    second = [f"what is {i} plus {j}?" for i in range(5) for j in range(5)]
    mine, other = templates(first, second)
    assert len(set(mine)) >= 5 and len(set(other)) >= 5 and not set(mine) & set(other)

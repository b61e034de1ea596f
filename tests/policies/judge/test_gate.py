"""The promotion gate: what it promotes, and every single thing that stops it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.judge.comparison import Pair
from policies.judge.gate import BehaviorEvidence, Evidence, GateSettings, decide

N, ANSWERS = 240, 4
SETTINGS = GateSettings()


@pytest.fixture
def pair(make):
    """A pair of measurements with given pass rates, as means of four sampled answers per probe."""

    def build(before, after, *, n=N, answers=ANSWERS, seed=0, anchor=None):
        rng = np.random.default_rng([seed, int(before * 1000), int(after * 1000)])
        parent, candidate = (rng.binomial(answers, p, size=n) / answers for p in (before, after))
        base = None if anchor is None else make.measurement(rng.binomial(answers, anchor, size=n) / answers, None)
        return Pair(parent=make.measurement(parent, "parent"), candidate=make.measurement(candidate), anchor=base)

    return build


@pytest.fixture
def good(pair):
    """Evidence of a candidate that fails half as often and costs nothing."""
    return Evidence(
        k=1,
        trained={"listening": BehaviorEvidence(target=pair(0.59, 0.8), counter=pair(0.9, 0.9), delta=0.08)},
        guarded={"push_back": BehaviorEvidence(target=pair(0.78, 0.78), counter=pair(0.95, 0.95), delta=0.08)},
        general={"facts": pair(0.97, 0.97, n=100), "code": pair(0.97, 0.97, n=100)},
        canaries={"push_back": pair(0.95, 0.95, n=100)},
        kl=0.2,
        parity=0.001,
    )


def test_a_good_candidate_is_promoted_with_reasons(good):
    """Better where trained, unchanged elsewhere: promoted, and the numbers are in the sentences."""
    ruling = decide(good, SETTINGS)
    assert ruling.decision == "promote" and ruling.unresolved == ()
    assert ruling.reasons[0].startswith("listening failures 4") and "p = " in ruling.reasons[0]
    assert "< 0.0304" in ruling.reasons[0]
    assert any("100 canaries" in reason and "asks for 300" in reason for reason in ruling.reasons)
    assert ruling.numbers["listening/target"]["p"] < 1e-6


def _guard(evidence, **fields):
    return replace(evidence, guarded={"push_back": replace(evidence.guarded["push_back"], **fields)})


def _train(evidence, **fields):
    return replace(evidence, trained={"listening": replace(evidence.trained["listening"], **fields)})


VIOLATIONS = {
    "not better": (lambda e, p: _train(e, target=p(0.6, 0.6)), "hold"),
    "worse": (lambda e, p: _train(e, target=p(0.6, 0.5)), "reject"),
    "guard worse": (lambda e, p: _guard(e, target=p(0.78, 0.6)), "reject"),
    "guard's counter worse": (lambda e, p: _guard(e, counter=p(0.95, 0.8)), "reject"),
    "trained counter worse": (lambda e, p: _train(e, counter=p(0.9, 0.7)), "reject"),
    "guard not shown": (lambda e, p: _guard(e, target=p(0.78, 0.78, n=20)), "hold"),
    "guard not measured": (lambda e, p: _guard(e, target=None), "hold"),
    "target not measured": (lambda e, p: _train(e, target=None), "hold"),
    "general worse": (lambda e, p: replace(e, general={"facts": p(0.97, 0.8)}), "reject"),
    "one family worse": (
        lambda e, p: replace(e, general={"facts": p(0.97, 0.97, n=900), "code": p(0.97, 0.72, n=60)}),
        "reject",
    ),
    "general not measured": (lambda e, p: replace(e, general={}), "hold"),
    "canaries": (lambda e, p: replace(e, canaries={"push_back": p(0.95, 0.8, n=100)}), "reject"),
    "first critical failure": (lambda e, p: replace(e, canaries={"push_back": p(1.0, 0.996, n=100)}), "hold"),
    "kl": (lambda e, p: replace(e, kl=1.5), "reject"),
    "kl not measured": (lambda e, p: replace(e, kl=None), "hold"),
    "kl not a number": (lambda e, p: replace(e, kl=math.nan), "reject"),
    "parity": (lambda e, p: replace(e, parity=0.5), "reject"),
    "parity not measured": (lambda e, p: replace(e, parity=None), "hold"),
    "far below the base": (lambda e, p: _guard(e, target=p(0.6, 0.6, anchor=0.85)), "reject"),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_each_single_violation_stops_it(good, pair, name):
    """One thing broken rejects, one thing not shown holds; the first reason is about it."""
    spoil, expected = VIOLATIONS[name]
    ruling = decide(spoil(good, pair), SETTINGS)
    assert ruling.decision == expected
    assert ruling.reasons[0] != decide(good, SETTINGS).reasons[0]


def test_the_unresolved_are_named(good, pair):
    """What more answers would settle is said, so that they can be asked for."""
    ruling = decide(_guard(good, target=pair(0.78, 0.78, n=20)), SETTINGS)
    assert ruling.unresolved == ("push_back/target",)
    assert "paired answers would show it" in ruling.reasons[0]


def test_different_probes_cannot_be_compared(good, make):
    """Measurements of other probes are a fault, not a comparison."""
    other = Pair(
        parent=make.measurement([1, 0], "parent", items=("x", "y")),
        candidate=make.measurement([1, 0], items=("a", "b")),
    )
    ruling = decide(_guard(good, target=other), SETTINGS)
    assert ruling.decision == "reject" and "same probes" in ruling.reasons[0]


def test_probes_are_paired_by_id_not_by_place(good, make, pair):
    """A candidate measured in another order of the same probes is judged alike."""
    old = good.trained["listening"].target
    values = dict(zip(old.candidate.items, old.candidate.values, strict=True))
    items = tuple(reversed(old.candidate.items))
    turned = make.measurement([values[i] for i in items], items=items)
    again = decide(_train(good, target=Pair(parent=old.parent, candidate=turned)), SETTINGS)
    assert again.reasons == decide(good, SETTINGS).reasons


def test_a_value_that_is_not_a_number_never_promotes(good, make):
    """NaN among a probe's values rejects."""
    broken = Pair(parent=make.measurement([1.0] * 9, "parent"), candidate=make.measurement([1.0] * 8 + [math.nan]))
    assert decide(_guard(good, target=broken), SETTINGS).decision == "reject"


def test_evidence_may_add_up_over_cycles(good, pair):
    """A small gain that no single test shows is promoted on an e-value of 1/a_k, not on 20 when a_k is smaller."""
    small = _train(good, target=pair(0.6, 0.62, seed=3))
    settings = replace(SETTINGS, minimum_gain=0.0)
    assert decide(small, settings).decision == "hold"
    assert decide(_train(small, e_value=40.0), settings).decision == "promote"
    assert decide(replace(_train(small, e_value=40.0), k=2), settings).decision == "hold"
    assert decide(replace(_train(small, e_value=200.0), k=2), settings).decision == "promote"
    assert decide(_train(small, e_value=math.nan), settings).decision == "hold"


def test_a_gain_must_be_worth_having(good, pair):
    """A sure gain of two points is held, since a placebo moves as much; where few fail, half of them is enough."""
    little = _train(good, target=pair(0.6, 0.62, seed=3), e_value=1e9)
    ruling = decide(little, SETTINGS)
    assert ruling.decision == "hold"
    assert any("by less than the 5.0% that count" in reason for reason in ruling.reasons)
    assert decide(little, replace(SETTINGS, minimum_gain=0.01)).decision == "promote"
    rare = _train(good, target=pair(0.96, 0.99, seed=3), e_value=1e9)
    assert decide(rare, SETTINGS).decision == "promote"


def test_later_verdicts_need_more(good, pair):
    """The same evidence that suffices for the first verdict does not for the thirtieth."""
    modest = _train(good, target=pair(0.6, 0.66, seed=1))
    assert decide(modest, SETTINGS).decision == "promote"
    assert decide(replace(modest, k=30), SETTINGS).decision == "hold"


def test_looking_twice_costs(good):
    """With two looks at a candidate both errors are halved."""
    one, two = (decide(good, GateSettings(looks=looks)).numbers for looks in (1, 2))
    assert two["alpha"] == one["alpha"] / 2
    assert two["push_back/target"]["low"] < one["push_back/target"]["low"]


def test_many_comparisons_do_not_reject_by_chance(good, pair):
    """Of 60 unchanged candidates with ten guards on few probes, few are rejected; at 5 % each it were 25."""
    rejected = 0
    for seed in range(60):
        guards = {
            f"g{i}": BehaviorEvidence(
                target=pair(0.8, 0.8, n=60, answers=1, seed=100 * seed + i), counter=None, delta=0.02
            )
            for i in range(10)
        }
        rejected += decide(replace(good, guarded=guards), SETTINGS).decision == "reject"
    assert rejected <= 9


def test_several_trained_behaviours_share_the_alpha(good, pair):
    """One of three improving suffices, each being tested at a third; one of them getting worse rejects."""
    trained = {
        "listening": good.trained["listening"],
        "asking": BehaviorEvidence(target=pair(0.6, 0.6), counter=None, delta=0.08),
        "naming": BehaviorEvidence(target=pair(0.7, 0.7), counter=None, delta=0.08),
    }
    ruling = decide(replace(good, trained=trained), SETTINGS)
    assert ruling.decision == "promote" and "< 0.0101" in " ".join(ruling.reasons)
    trained["naming"] = BehaviorEvidence(target=pair(0.7, 0.6), counter=None, delta=0.08)
    assert decide(replace(good, trained=trained), SETTINGS).decision == "reject"


def test_null_candidates_are_promoted_with_less_than_alpha_in_a_life(good, pair):
    """Over 500 simulated lives of 6 candidates that are no better, at most about 5 % ever promote one."""
    lives, promoted = 500, 0
    for life in range(lives):
        for k in range(1, 7):
            null = _train(good, target=pair(0.6, 0.6, n=40, answers=1, seed=100 * life + k))
            if decide(replace(null, k=k), SETTINGS).decision == "promote":
                promoted += 1
                break
    assert promoted / lives <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / lives)


def test_unchanged_guards_usually_pass_at_four_answers(good, pair):
    """The gate is usable: with four answers a probe a good candidate is promoted in at least 95 % of runs."""
    passed = 0
    for seed in range(60):
        evidence = _guard(good, target=pair(0.78, 0.78, seed=seed), counter=pair(0.95, 0.95, n=120, seed=seed))
        evidence = _train(evidence, target=pair(0.59, 0.8, seed=seed), counter=pair(0.9, 0.9, n=120, seed=seed))
        passed += decide(evidence, SETTINGS).decision == "promote"
    assert passed >= 57


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.floats(0.35, 0.95), st.sampled_from(["target", "counter"]), st.integers(1, 40))
def test_it_never_promotes_past_a_broken_guard(make, seed, rate, part, k):
    """A guard planted 2 delta worse, measured on many probes, is never promoted, however good the target is."""
    rng = np.random.default_rng(seed)

    def build(before, after, n=2000):
        one, two = (rng.random(n) < p for p in (before, after))
        return Pair(parent=make.measurement(one, "parent"), candidate=make.measurement(two))

    broken, fine = build(rate, rate - 0.16), build(0.9, 0.9)
    guard = BehaviorEvidence(
        target=broken if part == "target" else fine, counter=broken if part == "counter" else fine, delta=0.08
    )
    evidence = Evidence(
        k=k,
        trained={"listening": BehaviorEvidence(target=build(0.3, 0.95), counter=None, delta=0.08, e_value=1e12)},
        guarded={"push_back": guard},
        general={"facts": fine},
        kl=0.0,
        parity=0.0,
    )
    assert decide(evidence, SETTINGS).decision == "reject"

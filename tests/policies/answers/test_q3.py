"""Question 3's rules on synthetic numbers: planted heads are named, spread changes are called spread, noise nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from policies.answers import q3, q3_heads
from policies.answers.base import NOT_IDENTIFIED
from policies.statistics.binomial import lower

NAMES = [(block, head) for block in (4, 8) for head in range(6)]
PLANTED = (3, 7)
PROBES = 40


def changes(rng: np.random.Generator, seeds: int, conversations: int = 20, scale: float = 1.0) -> q3_heads.Floats:
    """Head changes as training makes them: a head's own size, a seed's luck with it, a conversation's."""
    own = np.linspace(0.8, 1.2, len(NAMES))
    luck = rng.lognormal(0, 0.15, (seeds, 1, len(NAMES)))
    return scale * own * luck * rng.lognormal(0, 0.3, (seeds, conversations, len(NAMES)))


def margins(rng: np.random.Generator, seeds: int, effect: float) -> q3_heads.Floats:
    """Margin changes: the effect, a seed's luck, a probe's."""
    return effect + rng.normal(0, 0.01, (seeds, 1)) + rng.normal(0, 0.03, (seeds, PROBES))


def seen(
    *,
    effect: float,
    planted: bool,
    removed: float,
    kept: float,
    random: float,
    heads: float = 1.0,
    placebo: float = 0.0,
    sets: int = 20,
    norm: float = 1.0,
) -> q3.Seen:
    """A measured case with these shares of the effect."""
    rng = np.random.default_rng(0)
    subject, null = changes(rng, 3), changes(rng, 5)
    if planted:
        subject[:, :, PLANTED] *= 4
    whole = margins(rng, 3, effect)
    ranking = q3_heads.rank(subject, null, rng)
    found = q3_heads.causal(
        whole=whole, undone=whole * (1 - removed), kept=whole * kept,
        random=[np.tile(seed * (1 - random), (sets, 1)) for seed in whole],
        heads=whole * (1 - heads), norms=[norm] * 3, rng=rng,
    )  # fmt: skip
    found_effect = q3_heads.effect(whole, margins(rng, 5, placebo), rng)
    return q3.Seen(
        names=NAMES, ranking=ranking, shape=q3_heads.shape(subject, null, rng), effect=found_effect,
        causal=found if found_effect.beyond else None, seeds=(0, 1, 2), null_seeds=(10, 11, 12, 13, 14),
        conversations=20,
    )  # fmt: skip


def test_two_planted_heads_are_named() -> None:
    """Heads that changed fourfold and carry the effect are localised, by name, and drawn above the null's band."""
    answer = q3.answer(seen(effect=0.2, planted=True, removed=0.95, kept=0.9, random=0.05))
    assert answer.verdict == q3.LOCALISED
    assert sorted(answer.numbers["top"]) == [list(NAMES[head]) for head in PLANTED]
    assert "layer 4 head 3" in answer.sentence and "layer 8 head 1" in answer.sentence
    ranking = answer.figures[0]
    assert {item["name"] for item in ranking["items"] if item["significant"]} == {"layer 4 head 3", "layer 8 head 1"}
    assert answer.low is not None and answer.high is not None and answer.low <= 0.95 <= answer.high


@pytest.mark.parametrize(
    ("shares", "why"),
    [
        ({"removed": 0.1, "kept": 0.9, "random": 0.1}, "undoing them removes little"),
        ({"removed": 0.9, "kept": 0.3, "random": 0.1}, "they alone keep little"),
        ({"removed": 0.9, "kept": 0.9, "random": 0.6}, "any other set removes as much"),
    ],
)
def test_each_causal_condition_is_needed(shares: dict[str, float], why: str) -> None:
    """One broken condition makes the change distributed, however much the heads changed."""
    assert q3.answer(seen(effect=0.2, planted=True, **shares)).verdict == q3.DISTRIBUTED, why


def test_heads_that_did_not_stand_out_are_not_named() -> None:
    """The causal shares alone do not localise: the heads must have changed more than in shuffled-label retrains."""
    answer = q3.answer(seen(effect=0.2, planted=False, removed=0.95, kept=0.95, random=0.0))
    assert answer.verdict == NOT_IDENTIFIED
    assert "not change more than by chance" in answer.sentence


def test_no_effect_no_claim() -> None:
    """Without an effect on held-out probes nothing is claimed about heads, and no share is given."""
    answer = q3.answer(seen(effect=0.0, planted=True, removed=0.95, kept=0.9, random=0.0))
    assert answer.verdict == NOT_IDENTIFIED
    assert answer.sentence.startswith("No claim")
    assert (answer.estimate, answer.low, answer.high) == (None, None, None)


def test_less_harm_than_the_placebo_is_no_effect() -> None:
    """An update that lowers the margins, if less than shuffled labels do, has nothing to be located."""
    case = seen(effect=-0.1, planted=True, removed=0.95, kept=0.9, random=0.05, placebo=-0.5)
    assert case.effect.excess.low > 0 and min(case.effect.seeds) > case.effect.null_high
    answer = q3.answer(case)
    assert (answer.verdict, answer.estimate) == (NOT_IDENTIFIED, None)
    assert "does not raise the margins" in answer.sentence
    assert not answer.controls[0].ok


@pytest.mark.parametrize(
    ("changes", "note"), [({"sets": 4}, "4 random sets"), ({"norm": 0.3}, "0.30, 0.30, 0.30 of the top set's norm")]
)
def test_only_enough_sets_of_the_same_norm_are_a_control(changes: dict[str, Any], note: str) -> None:
    """With fewer than 20 random sets, or sets far from the top set's norm, nothing is localised, and it is said why."""
    answer = q3.answer(seen(effect=0.2, planted=True, removed=0.95, kept=0.9, random=0.05, **changes))
    assert answer.verdict == NOT_IDENTIFIED
    assert any(note in each for each in answer.short)
    assert [control.ok for control in answer.controls if "as large" in control.name] == [False]
    assert "too few random sets" in answer.sentence


def test_sets_of_another_norm_do_not_make_a_change_spread_out() -> None:
    """Larger random sets that remove more than a fifth are no evidence against the top set either."""
    case = seen(effect=0.2, planted=True, removed=0.95, kept=0.9, random=0.6, norm=3.0)
    assert q3.answer(case).verdict == NOT_IDENTIFIED


def test_the_worst_set_is_a_single_one() -> None:
    """Sets of different seeds are different sets: the worst is of all of them, not of their averages."""
    whole = np.full((2, 10), 0.2)
    random = [whole[:1] * share for share in (np.array([[1.0], [0.4]]), np.array([[1.0], [1.0]]))]
    found = q3_heads.causal(
        whole=whole, undone=0 * whole, kept=whole, random=random, heads=whole, norms=[1.0, 1.0],
        rng=np.random.default_rng(8),
    )  # fmt: skip
    assert found.worst == pytest.approx(0.6)
    assert found.random is not None and found.random.value == pytest.approx(0.15)


def test_n_counts_what_the_interval_is_over() -> None:
    """The shares' limits come from probes, so n is their number and not the conversations'."""
    assert q3.answer(seen(effect=0.2, planted=True, removed=0.9, kept=0.9, random=0.0)).n == PROBES
    assert q3.answer(seen(effect=0.0, planted=True, removed=0.9, kept=0.9, random=0.0)).n == PROBES


def test_an_uncertain_share_is_not_called_distributed() -> None:
    """A share below its limit whose interval still holds the limit leaves the question open."""
    rng = np.random.default_rng(1)
    whole = rng.normal(0.2, 0.1, 12)
    undone = 0.25 * whole + rng.normal(0, 0.3, 12)
    undone += 0.25 * whole.mean() - undone.mean()
    found = q3_heads.causal(
        whole=whole[None], undone=undone[None], kept=whole[None], random=[whole[None]], heads=undone[None],
        norms=[1.0], rng=rng,
    )  # fmt: skip
    assert found.removed.value == pytest.approx(0.75)
    assert found.removed.high > q3_heads.HOLDS
    assert not found.localised and not found.excluded


def test_shape_subtracts_the_placebo() -> None:
    """Concentration is what exceeds the retrains' own: none for the same noise, plenty for two planted heads."""
    rng = np.random.default_rng(2)
    null = changes(rng, 5)
    alike = q3_heads.shape(changes(rng, 3), null, rng)
    planted = changes(rng, 3)
    planted[:, :, PLANTED] *= 6
    found = q3_heads.shape(planted, null, rng)
    assert abs(alike.excess.value) < 0.05
    assert found.excess.low > 0.2
    assert found.participation < alike.participation and found.top > alike.top


def test_one_more_retrain_is_seldom_taken_for_an_effect() -> None:
    """Over 200 null runs, "beyond the retrains" is said as often as its 5 % level allows."""
    rng = np.random.default_rng(3)
    runs = 200
    false = sum(q3_heads.effect(margins(rng, 1, 0.0), margins(rng, 5, 0.0), rng).beyond for _ in range(runs))
    assert lower(false, runs, confidence=0.99) <= 0.05


def test_one_more_retrain_names_few_heads() -> None:
    """Over 200 null runs, heads of a retrain pass as seldom as the band's upper 2.5 % lets them (and BH fewer)."""
    rng = np.random.default_rng(4)
    runs = 200
    found = [q3_heads.rank(changes(rng, 1), changes(rng, 5), rng, draws=499).significant.mean() for _ in range(runs)]
    assert np.mean(found) < 0.05


def test_matched_sets_have_the_top_sets_norm() -> None:
    """Random sets leave the top heads alone and are those whose update is nearest in size; all when there are few."""
    rng = np.random.default_rng(5)
    norms = rng.uniform(0.5, 2.0, 24)
    top = [0, 1, 2]
    found = q3_heads.matched_sets(norms, top, rng, count=20)
    size = np.sqrt((norms[top] ** 2).sum())
    assert len(set(found)) == 20 and all(not set(heads) & set(top) for heads in found)
    assert all(abs(np.sqrt((norms[list(heads)] ** 2).sum()) / size - 1) < 0.1 for heads in found)
    assert sorted(q3_heads.matched_sets(norms[:4], [0], rng)) == [(1,), (2,), (3,)]


def test_a_large_model_is_not_enumerated() -> None:
    """384 heads have more sets of 39 than could be looked through; matching draws from them."""
    norms = np.ones(384)
    found = q3_heads.matched_sets(norms, list(range(39)), np.random.default_rng(6), count=5)
    assert [len(heads) for heads in found] == [39] * 5


@pytest.mark.parametrize(
    ("share", "targets", "advised"),
    [
        ((0.1, 0.3), "all-linear", "all-linear"),
        ((0.85, 0.95), "all-linear", ["attention"]),
        ((0.6, 0.9), "all-linear", None),
        ((0.99, 1.0), ["attention"], None),
        ((0.99, 1.0), ["q_proj", "o_proj"], None),
        ((0.1, 0.3), ["gdn", "attention", "mlp"], "all-linear"),
        ((0.1, 0.3), ["attention", "mlp"], None),
        ((0.85, 0.95), ["attention", "mlp"], ["attention"]),
    ],
)
def test_targets_follow_what_attention_carries(share: tuple[float, float], targets: Any, advised: Any) -> None:
    """Attention alone where it carries the effect of more; every layer only where every layer was trained."""
    assert q3.carrying({"value": sum(share) / 2, "low": share[0], "high": share[1]}, targets) == advised


def test_sessions_are_only_observed() -> None:
    """Beside the loop there is no placebo, so no verdict; one session has no interval."""
    heads = ("layer 4 head 0", "layer 4 head 1")
    one = q3.observed([(1, heads, (0.01, 0.03))])
    two = q3.observed([(1, heads, (0.01, 0.03)), (2, heads, (0.02, 0.05))])
    assert one.verdict == two.verdict == "observed"
    assert one.low is None and two.low is not None
    assert "layer 4 head 1" in two.sentence and two.figures[0]["x"] == [1, 2]


def test_gdn_layers_have_units_of_their_own() -> None:
    """A GDN layer counts as changed when its output moved more than one more retrain would move it."""
    null = np.array([[0.10, 0.10], [0.11, 0.12], [0.09, 0.11]])
    figure = q3.gdn_figure((1, 2), np.array([[0.5, 0.11], [0.6, 0.10]]), null)
    assert [(item["name"], item["significant"]) for item in figure["items"]] == [("layer 1", True), ("layer 2", False)]


def test_interval_of_a_share_brackets_it() -> None:
    """Shares come with limits in the right order, also where an operation makes the effect larger."""
    whole = np.full((1, 10), 0.2)
    found = q3_heads.causal(
        whole=whole, undone=1.5 * whole, kept=whole, random=[np.empty((0, 10))], heads=whole, norms=[0.0],
        rng=np.random.default_rng(7),
    )  # fmt: skip
    assert (found.removed.low, found.removed.value, found.removed.high) == pytest.approx((-0.5, -0.5, -0.5))
    assert found.random is None and not found.localised

"""Question 6's verdict on synthetic results whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from policies.answers import q6, q6_change
from policies.answers.base import NOT_IDENTIFIED, Answer
from policies.statistics.binomial import lower
from policies.statistics.interval import Interval

SEEDS, ITEMS, SAMPLES = 3, 100, 5
Gains = Mapping[str, float]
NONE: Gains = {}


def found_change(family: str, value: float, low: float = 0.01) -> q6_change.Change:
    """A change that three adapters agree on."""
    return q6_change.Change(
        family=family, interval=Interval(value, low, 2 * value - low, ITEMS), standing="non-inferior", p_better=0.01,
        p_worse=0.99, seeds=(value,) * SEEDS,
    )  # fmt: skip


def arm(
    name: str, gains: Gains, rng: np.random.Generator, *, seeds: int = SEEDS, share: float | None = None
) -> q6_change.Arm:
    """Items pass with chance .6 before and .6 + gain after; texts gain as many nats, with noise of a document."""
    before, after = [], []
    for family in ("arithmetic", "code", "facts"):
        pair = [
            (rng.binomial(SAMPLES, 0.6 + gain, size=(seeds, ITEMS)) / SAMPLES).tolist()
            for gain in (0.0, gains.get(family, 0.0))
        ]
        for into, values in zip((before, after), pair, strict=True):
            into.append(q6_change.Results(family=family, scale="share", values=values, samples=SAMPLES))
    level = rng.normal(-1, 0.2, size=ITEMS)
    for into, gain in ((before, 0.0), (after, gains.get(q6_change.TEXT, 0.0))):
        noise = rng.normal(gain, 0.05, size=(seeds, ITEMS))
        into.append(q6_change.Results(family=q6_change.TEXT, scale="nats", values=(level + noise).tolist()))
    return q6_change.Arm(name=name, before=before, after=after, kl=[0.01] * seeds, share=share)


def judged(
    gains: Gains,
    *,
    null: Gains = NONE,
    identity: Gains = NONE,
    more: Sequence[tuple[float, Gains]] = (),
    serving: Gains | None = None,
    delta: float = 0.08,
    seed: int = 0,
) -> Answer:
    """The answer about adapters with these gains per family."""
    rng = np.random.default_rng(seed)
    arms = [arm("behaviour alone", gains, rng, share=0.0), *(arm("mixed", g, rng, share=s) for s, g in more)]
    return q6.answer(
        arms, arm("general alone", null, rng), arm("again", identity, rng, seeds=1), title="Listening", delta=delta,
        rng=rng, seeds=range(SEEDS), serving=None if serving is None else arm("serving", serving, rng, seeds=1),
    )  # fmt: skip


def test_harm_competes() -> None:
    """A family that loses 20 points is named, whatever the others gain."""
    found = judged({"facts": -0.2, "code": 0.15, "arithmetic": 0.15})
    assert found.verdict == q6.COMPETES
    assert "facts" in found.sentence and "code" not in found.sentence
    assert found.estimate == pytest.approx(-0.2, abs=0.03)


def test_harm_that_general_data_does_as_well_is_said() -> None:
    """The recipe may be to blame, not the behaviour."""
    assert "General data alone does as well" in judged({"facts": -0.2}, null={"facts": -0.2}).sentence


def test_a_loss_of_text_alone_competes() -> None:
    """Perplexity is a family like the others: .2 nats are lost on neutral text."""
    found = judged({q6_change.TEXT: -0.2})
    assert found.verdict == q6.COMPETES
    assert "text (log perplexity)" in found.sentence


def test_no_change_is_non_inferior() -> None:
    """Sampling noise on 100 items of 5 answers stays within the margin."""
    found = judged(NONE)
    assert found.verdict == q6_change.NON_INFERIOR
    assert all(control.ok for control in found.controls if control.name != "the null is flat")


def test_a_gain_that_general_data_nearly_makes_as_well_is_not_positive() -> None:
    """The null must be beaten, not only be unclear itself: a gain of 5 points beside one of 2 is only that much."""
    rng = np.random.default_rng(8)
    subject = [found_change("code", 0.05), found_change("facts", 0.05)]
    null = [found_change("code", 0.02, low=-0.01), found_change("facts", 0.02, low=-0.01)]
    ahead = [found_change("code", 0.03), found_change("facts", 0.03, low=-0.01)]
    assert q6.verdict(subject, [null], ahead, delta=0.05) == q6_change.NON_INFERIOR
    assert q6.verdict(subject, [null], subject, delta=0.05) == q6.POSITIVE
    trained, general = arm("a", {"facts": 0.3}, rng), arm("n", {"facts": 0.3, "code": -0.3}, rng)
    more = {c.family: c.interval for c in q6_change.beyond(trained, general, rng, delta=0.08)}
    assert 0 in more["facts"] and more["code"].value == pytest.approx(0.3, abs=0.04)


def test_texts_are_not_a_second_family() -> None:
    """They are the same tasks' texts: one family of tasks and its texts are one gain."""
    assert judged({"facts": 0.2, q6_change.TEXT: 0.2}).verdict == q6_change.NON_INFERIOR
    assert "not counted" in q6.RULE


def test_gains_on_two_families_are_positive_where_the_null_is_flat() -> None:
    """One family, or a null that rises as well, is not enough."""
    assert judged({"facts": 0.2, "code": 0.2}).verdict == q6.POSITIVE
    assert judged({"facts": 0.2}).verdict == q6_change.NON_INFERIOR
    both = judged({"facts": 0.2, "code": 0.2}, null={"code": 0.2})
    assert both.verdict == q6_change.NON_INFERIOR
    assert not next(control for control in both.controls if control.name == "the null is flat").ok


def test_a_tight_margin_needs_more_answers() -> None:
    """Noise of several points cannot show non-inferiority at half a point; the needed number is named."""
    found = judged(NONE, delta=0.005)
    assert found.verdict == NOT_IDENTIFIED
    assert "24,731 paired" in found.would_change


def test_an_instrument_that_finds_the_base_worse_than_itself_is_not_believed() -> None:
    """Whatever it says about the adapter."""
    found = judged({"facts": -0.2}, identity={"arithmetic": -0.3})
    assert found.verdict == NOT_IDENTIFIED
    assert "instrument" in found.sentence


def test_the_serving_adapter_counts() -> None:
    """Many sessions may lose what one does not."""
    found = judged(NONE, serving={"code": -0.4})
    assert found.verdict == q6.COMPETES
    assert "serving adapter" in found.sentence and "a fresh update of Listening does not" in found.sentence
    assert found.numbers["serving_kept"] is False
    unclear = judged(NONE, serving={"code": -0.4}, delta=0.005)
    assert "whether a fresh update of Listening does is not identified" in unclear.sentence
    assert judged(NONE, serving=NONE, delta=0.2).numbers["serving_kept"] is True
    assert judged(NONE).numbers["serving_kept"] is None


def test_one_bad_adapter_is_no_loss_of_all() -> None:
    """The items of one adapter that loses much outweigh two that gain: a loss must be in every adapter."""
    rng = np.random.default_rng(5)
    old = (rng.random((3, 400)) < 0.6).astype(float)
    new = old.copy()
    new[0] = 0.0
    new[1:, :20] = 1.0
    found = q6_change.change(
        q6_change.Results(family="facts", scale="share", values=old.tolist()),
        q6_change.Results(family="facts", scale="share", values=new.tolist()),
        rng,
        delta=0.05,
    )
    assert found.standing == "worse" and max(found.seeds) > 0
    assert q6.verdict([found], (), (), delta=0.05) == NOT_IDENTIFIED


def test_items_are_counted_and_not_their_answers() -> None:
    """100 items of 5 answers by 3 adapters are 100 items, of the 248 that 5 points take."""
    short = judged(NONE, delta=0.05).short
    assert "facts: 100 items; 5 points at 10 % discordance take 248" in short
    assert not any("protocol" in note for note in short)


def test_seeds_that_disagree_are_not_averaged_away() -> None:
    """One adapter that loses 30 points is no non-inferiority, though three average to little."""
    rng = np.random.default_rng(5)
    old = (rng.random((3, 400)) < 0.6).astype(float)
    new = old.copy()
    new[0, :120] = 0.0
    new[1:, 120:240] = 1.0
    found = q6_change.change(
        q6_change.Results(family="facts", scale="share", values=old.tolist()),
        q6_change.Results(family="facts", scale="share", values=new.tolist()),
        rng,
        delta=0.05,
    )
    assert found.standing == "non-inferior" and found.seeds[0] < -0.1
    assert q6.verdict([found], (), (), delta=0.05) == NOT_IDENTIFIED


def test_the_least_share_that_keeps_everything_is_found() -> None:
    """None where no share does; a null's share does not count."""
    found = judged({"facts": -0.2}, more=[(0.25, {"facts": -0.2}), (0.5, NONE)])
    assert q6.share(found.numbers["arms"]) == 0.5
    assert q6.share(judged({"facts": -0.2}).numbers["arms"]) is None


def test_pass_at_k_grows_with_k() -> None:
    """Of a problem solved with chance .6, five samples hold a right one nearly always."""
    code = judged(NONE).numbers["pass_at_k"]["base"]
    assert code["pass@1"]["value"] == pytest.approx(0.6, abs=0.04)
    assert code["pass@3"]["value"] == pytest.approx(1 - 0.4**3, abs=0.04)
    assert code["pass@5"]["value"] == pytest.approx(1 - 0.4**5, abs=0.02)


def test_null_runs_claim_nothing_more_often_than_their_level() -> None:
    """200 runs without an effect: "competes" within the binomial limits of 5 %, "positive" of 2.5 %."""
    rng = np.random.default_rng(6)
    said = []
    for _ in range(200):
        subject, null = arm("a", NONE, rng), arm("n", NONE, rng)
        more = q6_change.beyond(subject, null, rng, delta=0.02)
        nulls = (q6_change.changes(null, rng, delta=0.02),)
        said.append(q6.verdict(q6_change.changes(subject, rng, delta=0.02), nulls, more, delta=0.02))
    assert lower(said.count(q6.COMPETES), 200, 0.99) <= 0.05
    assert lower(said.count(q6.POSITIVE), 200, 0.99) <= 0.025


def test_answers_are_plain_data() -> None:
    """The figures have what the report draws, without a number that is not finite."""
    found = judged(NONE, more=[(0.5, NONE)]).evidence()
    transfer, shares = found["figures"]
    assert [row["name"] for row in transfer["families"]] == [row["name"] for row in transfer["null"]]
    assert shares["x"] == [0.0, 50.0] and len(shares["series"]) == 4
    assert found["null"]["families"]["facts"]["low"] < 0 < found["null"]["families"]["facts"]["high"]

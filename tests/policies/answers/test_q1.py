"""Question 1's verdict on synthetic dose responses whose truth is known, at the protocol's sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policies.answers import q1
from policies.answers.base import NOT_IDENTIFIED
from policies.statistics.binomial import lower
from policies.statistics.emax import Emax

PLANTED = Emax(0.3, 0.6, 4.0, 1.5)
FLAT = Emax(0.5, 0.0, 4.0, 1.0)


def response(curve: Emax, rng: np.random.Generator, *, seeds: int = 5, probes: int = 100) -> q1.Response:
    """Runs of `probes` independent answers at every dose of the protocol."""
    runs = {seed: {dose: rng.binomial(probes, curve.at(dose)) / probes for dose in q1.DOSES} for seed in range(seeds)}
    return q1.Response(name="rate", unit="share", runs=runs)


def judged(curve: Emax, placebo: Emax = FLAT, seed: int = 1, **changes: int) -> q1.Answer:
    """The verdict on a planted curve. (With seed 0 the flat placebo is one of the 5 % that rise by chance.)"""
    rng = np.random.default_rng(seed)
    return q1.answer(
        response(curve, rng, **changes), response(placebo, rng, **changes), title="Listening", probes=100, rng=rng
    )


def failed(found: q1.Answer) -> list[str]:
    """The controls that did not hold."""
    return [control.name for control in found.controls if not control.ok]


def test_a_planted_dose_is_recovered() -> None:
    """An ED50 of 4 examples: identified, with intervals that hold the truth and the advice's number beside it."""
    found = judged(PLANTED)
    assert found.verdict == q1.IDENTIFIED and not failed(found)
    assert found.estimate is not None and found.low is not None and found.high is not None
    assert found.low <= PLANTED.ed(0.8) <= found.high
    assert found.numbers["ed50"]["low"] <= PLANTED.ed50 <= found.numbers["ed50"]["high"]
    assert found.high / found.low <= q1.RATIO


def test_the_planted_dose_is_recovered_as_precisely_as_the_protocol_says() -> None:
    """Over 100 studies of 5 seeds, 100 probes and 8 doses, 90 % of the ED50s lie within about 2.8 to 5.7."""
    rng = np.random.default_rng(1)
    doses = []
    for _ in range(100):
        runs = response(Emax(0.2, 0.6, 4.0, 1.0), rng).runs
        points = [(dose, value) for run in runs.values() for dose, value in run.items()]
        curve = q1.fit([dose for dose, _ in points], [value for _, value in points])
        doses.append(curve.ed50 if curve else np.inf)
    low, middle, high = np.quantile(doses, [0.05, 0.5, 0.95])
    assert low >= 2.7
    assert high <= 5.9
    assert middle == pytest.approx(4.0, abs=0.4)


def test_a_null_passes_the_trend_no_more_often_than_its_level() -> None:
    """200 responses without an effect: those with p < .01 are within the binomial limits of 1 %."""
    rng = np.random.default_rng(2)
    passed = sum(q1.analyse(response(FLAT, rng), rng, curve=False, draws=499).trend.p < q1.TREND for _ in range(200))
    assert lower(passed, 200, confidence=0.99) <= q1.TREND


def test_what_cannot_learn_is_not_identified() -> None:
    """Every dose the same: no trend, and the sentence says that more examples do not raise it."""
    same = q1.Response(name="rate", unit="share", runs={s: dict.fromkeys(q1.DOSES, 0.5 + s / 50) for s in range(5)})
    found = q1.answer(same, same, title="Listening", probes=100, rng=np.random.default_rng(0))
    assert found.verdict == NOT_IDENTIFIED
    assert failed(found)[0] == "trend"
    assert "do not raise it" in found.sentence and found.estimate is None


def test_a_placebo_that_rises_as_well_is_no_signal() -> None:
    """When shuffled labels do the same, the examples' meaning did nothing."""
    found = judged(PLANTED, placebo=PLANTED)
    assert found.verdict == NOT_IDENTIFIED
    assert failed(found) == ["placebo is flat"]


def test_a_placebo_that_does_half_as_much_is_no_null() -> None:
    """A clear rise of a third fails by its trend, though its interval over seeds holds 0."""
    rng = np.random.default_rng(0)
    rises = {s: {d: 0.5 + (0.02 * s if d else 0) + 0.02 * i for i, d in enumerate(q1.DOSES)} for s in range(-2, 3)}
    rises[-2] |= {100: 0.3}
    idle = q1.Response(name="rate", unit="share", runs=rises)
    assert 0 in idle.effect(100)
    found = q1.answer(response(PLANTED, rng), idle, title="Listening", probes=100, rng=rng)
    assert failed(found) == ["placebo is flat"] and "raises it as well" in found.sentence


def test_a_quick_placebo_can_fail() -> None:
    """Three seeds: the real arm as its own placebo fails by its size even where no trend test could reach its level."""
    rng = np.random.default_rng(0)
    main = response(PLANTED, rng, seeds=3)
    for doses in ((0, 50), (0, 10, 50, 100)):
        idle = replace(main, runs={seed: {d: run[d] for d in doses} for seed, run in main.runs.items()})
        found = q1.answer(main, idle, title="Listening", probes=100, rng=rng)
        assert "placebo is flat" in failed(found)
        assert any("cannot be tested" in note for note in found.short) == (len(doses) == 2)


def test_a_noisy_placebo_is_not_shown_to_be_flat() -> None:
    """No trend, but seeds that differ so much that it may do as much as the examples."""
    rng = np.random.default_rng(0)
    noisy = {s: dict.fromkeys(q1.DOSES, 0.5) | {100: 0.5 + change} for s, change in enumerate((-0.4, 0.4, 0, 0.4, 0))}
    idle = q1.Response(name="rate", unit="share", runs=noisy)
    found = q1.answer(response(PLANTED, rng), idle, title="Listening", probes=100, rng=rng)
    assert failed(found) == ["placebo is flat"] and "may do half as much" in found.sentence


def test_everything_by_the_first_dose_is_at_most_that() -> None:
    """Between 0 and the first dose nothing was measured, so no dose in there is named."""
    found = judged(Emax(0.1, 0.7, 0.05, 6.0))
    assert found.verdict == q1.IDENTIFIED
    assert (found.estimate, found.low, found.high) == (1, 0, 1)
    assert "at most 1 example brings" in found.sentence and found.numbers["at_once"]
    assert "at most 1 example" in next(c.detail for c in found.controls if c.name == "curve")


def test_an_effect_without_a_trend_is_not_denied() -> None:
    """The largest dose clearly raises it, though the doses between are in no order: that is what is said."""
    runs = {s: dict(zip(q1.DOSES, (0.2, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3 + s / 100), strict=True)) for s in range(5)}
    main = q1.Response(name="rate", unit="share", runs=runs)
    found = q1.answer(main, main, title="Listening", probes=100, rng=np.random.default_rng(0))
    assert failed(found)[0] == "trend"
    assert "do not raise it" not in found.sentence and "100 examples raise it" in found.sentence


def test_an_interval_that_reaches_beyond_the_doses_is_not_within_them() -> None:
    """An ED80 of about 80 of 100 examples: what its interval holds beyond them was not measured."""
    found = judged(Emax(0.2, 0.7, 60.0, 4.0), seed=3)
    assert found.estimate is not None and found.estimate < 100
    assert "within the doses" in failed(found) and found.high is None
    assert "may take more than the 100 examples" in found.sentence


def test_what_is_advised_is_named() -> None:
    """The protocol's names for the advice are not the configuration's."""
    found = judged(PLANTED)
    assert found.numbers["advises"] == ["schedule.cycle", "learn.minimum"]
    assert any("`schedule.cycle` and `learn.minimum`" in note for note in found.short)


def test_a_placebo_that_falls_is_flat() -> None:
    """Half wrong labels may cost something; only a rise would explain the effect away."""
    assert judged(PLANTED, placebo=Emax(0.5, -0.2, 4.0, 1.5)).verdict == q1.IDENTIFIED


def test_an_effect_that_still_grows_is_not_extrapolated() -> None:
    """An ED80 beyond the largest dose is only bounded from below, and more doses are asked for."""
    found = judged(Emax(0.4, 1.0, 150.0, 1.8))
    assert found.verdict == NOT_IDENTIFIED
    assert {"curve", "within the doses"} & set(failed(found))
    assert found.estimate is None and found.high is None
    assert "Doses beyond 100" in found.would_change


def test_two_seeds_are_no_interval() -> None:
    """Between two runs nothing can be resampled: not identified, and what is short is said."""
    found = judged(PLANTED, seeds=2)
    assert found.verdict == NOT_IDENTIFIED
    assert "interval" in failed(found)
    assert any("2 seeds" in note for note in found.short)


def test_a_measure_that_falls_is_found_two_sided() -> None:
    """Attention may sink as well as rise: what nobody promised to rise is tested either way."""
    rng = np.random.default_rng(3)
    falling = response(Emax(0.8, -0.6, 4.0, 1.5), rng)
    assert q1.analyse(falling, rng, curve=False).trend.p > 0.5
    assert q1.analyse(falling, rng, either=True).trend.p < q1.TREND


def test_answers_are_plain_data() -> None:
    """Every figure is finite, and the placebo has a gap where it was not given."""
    rng = np.random.default_rng(4)
    main, idle = response(PLANTED, rng), response(FLAT, rng)
    idle = replace(idle, runs={seed: {d: run[d] for d in (0, 50)} for seed, run in idle.runs.items()})
    found = q1.answer(main, idle, title="Listening", probes=100, rng=rng, others=[(main, idle)]).evidence()
    figure = found["figures"][0]
    assert figure["series"][1]["values"].count(None) == 6
    assert [mark["label"] for mark in figure["marks"]] == ["ED50", "ED80"]
    assert any("50 examples only" in note for note in found["short"])
    assert found["numbers"]["measures"]["rate"]["trend_p"] < 0.01

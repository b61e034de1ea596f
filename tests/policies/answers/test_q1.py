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


def judged(curve: Emax, placebo: Emax = FLAT, seed: int = 0, **changes: int) -> q1.Answer:
    """The verdict on a planted curve."""
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

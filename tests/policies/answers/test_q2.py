"""Question 2's rule on planted forecasters, its false-positive rate, and what the temperature is told to do."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest

from policies.answers import q2, q2_temperature
from policies.answers.base import NOT_IDENTIFIED, Answer
from policies.answers.q2_temperature import Dreamt
from policies.statistics.lifetime_alpha import lifetime_alpha

K = 4


def dreams(
    rng: np.random.Generator, count: int = 400, *, level: float = 0.0, slope: float = 1.0, says: float | None = None
) -> list[Dreamt]:
    """Dreams, two to a seed: logit P(fail) = level + slope logit(predicted); with `says` all are predicted alike."""
    predicted = np.clip(np.repeat(rng.uniform(0.15, 0.85, count // 2), 2) + rng.normal(0, 0.05, count), 0.05, 0.95)
    truth = expit(level + slope * logit(predicted))
    failures = rng.binomial(K, truth)
    return [
        Dreamt(
            seed=f"s{i // 2}", band="medium", cycle=1 + i // 50, temperature=0.7,
            predicted=float(predicted[i]) if says is None else says, failures=int(failures[i]), trials=K, made=False,
        )
        for i in range(count)
    ]  # fmt: skip


def asked(found: list[Dreamt], seed: int = 0) -> Answer:
    """The whole answer."""
    return q2.answer(found, title="It", rng=np.random.default_rng(seed), seeds=[0], target=0.5, temperature=0.7)


def test_an_oracle_is_calibrated() -> None:
    """Forecasts that are the truth: both intervals hold, the calibration error is within its null."""
    found = asked(dreams(np.random.default_rng(0)))
    assert found.verdict == q2.CALIBRATED and found.low < 0 < found.high
    assert found.null["p"] > 0.05 and found.numbers["spearman"]["share"] > 0.8


def test_always_hard_over_predicts() -> None:
    """A forecaster that says 90 % of everything while half fails: the level is enough, and the words say all alike."""
    found = asked(dreams(np.random.default_rng(1), says=0.9))
    assert found.verdict == q2.OVER and found.high < 0 and "alike" in found.sentence
    assert found.numbers["slope"] is None


def test_always_hard_over_predicts_where_nothing_fails() -> None:
    """Half judged hard and no failure at all: there is no logit, yet the verdict is clear."""
    rng = np.random.default_rng(2)
    assert q2.judge(dreams(rng, 60, level=-40.0, slope=0.0)).verdict == q2.OVER
    assert q2.judge(dreams(rng, 60, level=40.0, slope=0.0)).verdict == q2.UNDER


def test_the_protocols_example_over_predicts() -> None:
    """Half of the dreams judged hard, a tenth of the answers fail."""
    found = asked(dreams(np.random.default_rng(3), level=-2.2))
    assert found.verdict == q2.OVER and "less often" in found.sentence


def test_rare_forecasts_of_failure_under_predict() -> None:
    """The other way round."""
    assert asked(dreams(np.random.default_rng(4), level=1.0)).verdict == q2.UNDER


@pytest.mark.parametrize(("slope", "verdict", "word"), [(0.4, q2.OVER, "too bold"), (2.2, q2.UNDER, "too timid")])
def test_a_wrong_slope_alone_is_said(slope: float, verdict: str, word: str) -> None:
    """Right on average, wrong at both ends: never "calibrated", and the sentence says which way."""
    found = asked(dreams(np.random.default_rng(5), 800, slope=slope))
    assert found.verdict == verdict and word in found.sentence


def test_a_right_level_is_not_said_to_be_missed() -> None:
    """Forecasts about 25 % that are right there and too bold: a excludes 0, the level does not, the words say so."""
    rng = np.random.default_rng(13)
    predicted = np.clip(expit(rng.normal(-1.1, 1.0, 800)), 0.02, 0.98)
    truth = expit(-0.4 + 0.5 * logit(predicted))
    failures = rng.binomial(K, truth)
    found = asked([
        Dreamt(seed=f"s{i}", band="medium", cycle=1, temperature=0.7, predicted=float(predicted[i]),
               failures=int(failures[i]), trials=K, made=False)
        for i in range(800)
    ])  # fmt: skip
    large = found.numbers["in_the_large"]
    assert found.verdict == q2.OVER and found.high < 0 and large["low"] < 0 < large["high"]
    assert "half of the time" in found.sentence and "less often than predicted" not in found.sentence


def test_looks_after_every_session_are_wrong_together_as_rarely_as_one() -> None:
    """60 oracles looked at in each of 15 cycles: 5 % are ever called wrong with spent alpha, many more without."""
    ever, naive = 0, 0
    for run in range(60):
        found = dreams(np.random.default_rng([14, run]), 600)
        looks = [(cycle, found[: 40 * cycle]) for cycle in range(1, 16)]
        wrong = (q2.OVER, q2.UNDER)
        ever += any(q2.judge(seen, lifetime_alpha(q2.ALPHA, cycle)).verdict in wrong for cycle, seen in looks)
        naive += any(q2.judge(seen).verdict in wrong for _, seen in looks)
    assert binomtest(ever, 60, 0.05, alternative="greater").pvalue > 0.025
    assert binomtest(naive, 60, 0.05, alternative="greater").pvalue < 1e-3


def test_a_look_of_the_loop_says_so_and_is_wider() -> None:
    """The rule names the cycle's share of the error, and the same dreams have wider limits there."""
    found = dreams(np.random.default_rng(0))
    once = asked(found)
    look = q2.answer(found, title="It", rng=np.random.default_rng(0), seeds=[0], target=0.5, temperature=0.7, cycle=30)
    assert look.low < once.low < once.high < look.high
    assert "cycle 30" in look.rule and "over all looks" in look.unit and once.rule == q2.RULE


def test_too_few_dreams_identify_nothing() -> None:
    """Intervals that hold 0 and 1 because they hold nearly everything are no proof; nor are equal right forecasts."""
    assert asked(dreams(np.random.default_rng(6), 24)).verdict == NOT_IDENTIFIED
    assert asked([]).verdict == NOT_IDENTIFIED
    assert q2.judge(dreams(np.random.default_rng(7), says=0.5)).verdict == NOT_IDENTIFIED


@pytest.mark.parametrize("count", [200, 1000])
def test_an_oracle_is_called_wrong_as_rarely_as_the_rule_says(count: int) -> None:
    """200 oracles at the protocol's and at the quick size: false verdicts are no more than 5 % (binomial)."""
    wrong = sum(
        q2.judge(dreams(np.random.default_rng([8, count, run]), count)).verdict in (q2.OVER, q2.UNDER)
        for run in range(200)
    )
    assert binomtest(wrong, 200, 0.05, alternative="greater").pvalue > 0.025
    assert wrong > 0  # an interval that is never wrong is too wide


def heated(rng: np.random.Generator, effect: float, seeds: int = 60) -> list[Dreamt]:
    """Every seed dreamed at three temperatures; failure rises by `effect` per unit, hot dreams are often unreadable."""
    found = []
    for seed in range(seeds):
        base = rng.uniform(0.3, 0.6)
        for heat in (0.4, 0.7, 1.0):
            readable = rng.random() < {0.4: 1.0, 0.7: 0.7, 1.0: 0.3}[heat]
            p = float(np.clip(base + effect * (heat - 0.7), 0.02, 0.98))
            found.append(
                Dreamt(
                    seed=f"m{seed}", band="subtle", cycle=seed // 11, temperature=heat, predicted=p,
                    failures=int(rng.binomial(K, p)) if readable else 0, trials=K if readable else 0, made=True,
                )
            )  # fmt: skip
    return found


def test_the_slope_of_difficulty_on_temperature() -> None:
    """Planted slopes are within their interval, and 0 is not when there is one; dreams of one temperature have none."""
    rng = np.random.default_rng(9)
    steep, flat = (q2_temperature.slope(heated(rng, effect, 120), rng) for effect in (0.7, 0.0))
    assert steep is not None and flat is not None
    assert 0.7 in steep and 0 not in steep and 0 in flat
    assert q2_temperature.slope(dreams(rng), rng) is None


def test_the_loops_cycles_show_a_slope_too() -> None:
    """Recorded dreams have their cycle's temperature: cycles are the units, and one alone says nothing."""
    rng = np.random.default_rng(10)
    found = []
    for cycle in range(12):
        heat = 0.4 + 0.05 * cycle
        p = 0.3 + 0.6 * (heat - 0.4)
        found += [
            Dreamt(seed=f"{cycle}/{i}", band="medium", cycle=cycle, temperature=heat, predicted=0.5,
                   failures=int(rng.binomial(K, p)), trials=K, made=False)
            for i in range(30)
        ]  # fmt: skip
    slope = q2_temperature.slope(found, rng)
    assert slope is not None and 0.6 in slope and 0 not in slope and slope.n == 12
    assert q2_temperature.slope([d for d in found if d.cycle < 3], rng) is None


def test_unusable_dreams_teach_nothing() -> None:
    """A written dream is worth less where most cannot be read, and the difference is certain."""
    warmth = q2_temperature.analyse(heated(np.random.default_rng(11), 0.0, 80), np.random.default_rng(0))
    cold, _, hot = warmth.at
    assert (cold.temperature, hot.temperature) == (0.4, 1.0) and cold.usable == 1.0 and hot.usable < 0.5
    assert cold.worth > 2 * hot.worth and [0.4, 1.0] in warmth.numbers()["better"]


def test_the_answer_is_plain_data_with_its_figures() -> None:
    """It survives JSON; reliability, failure over time and targeting are there, with the recalibration's line."""
    found = asked(heated(np.random.default_rng(12), 0.3))
    evidence = json.loads(json.dumps(found.evidence(), allow_nan=False))
    reliability, over_time, targeting = evidence["figures"]
    assert reliability["kind"] == "reliability" and reliability["line"]["b"] == found.numbers["slope"]["value"]
    assert sum(row["n"] for row in reliability["bins"]) == found.numbers["dreams"]
    assert len(over_time["x"]) == len(over_time["series"][0]["values"]) <= q2.PERIODS
    assert targeting["x"] == [0.4, 0.7, 1.0]
    assert any("a full run has 1000" in said for said in evidence["short"])

"""The difficulty classifier, on planted difficulties."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.grade.logistic import Graded, fit
from policies.statistics.calibration import brier, calibration

VERBS = ["sort", "fold", "bake", "wash", "search", "paint", "merge", "water"]
HARD = {"maybe": 1.5, "perhaps": 1.2, "please": -0.8, "now": -1.2}
BANDS = {"obvious": -1.4, "medium": 0.0, "subtle": 1.0}


def _world(rng, n, answers=4, shift=0.0):
    """Dreams whose difficulty is a sum over words and band, with answers drawn from it."""
    rows, chances = [], []
    for _ in range(n):
        band, verb, word = rng.choice(list(BANDS)), rng.choice(VERBS), rng.choice(list(HARD))
        text = f"{word} {verb} the {rng.choice(VERBS)} thing"
        chance = 1 / (1 + np.exp(-(shift + BANDS[band] + HARD[word])))
        chances.append(chance)
        rows.append(
            Graded(
                text=text, behavior="listening", band=str(band), failures=int(rng.binomial(answers, chance)), n=answers
            )
        )
    return rows, chances


def test_the_prior_answers_without_history():
    """Cold start: .3, .5 and .7 by band, and .5 for a band it never heard of."""
    empty = fit([])
    assert [round(empty.predict("x y", "b", band), 2) for band in ("obvious", "medium", "subtle", "?")] == [
        0.3,
        0.5,
        0.7,
        0.5,
    ]


def test_a_few_outcomes_move_it_a_little():
    """Three hard dreams raise the prediction, and not to certainty."""
    rows = [Graded(text=f"{verb} it", behavior="b", band="medium", failures=4, n=4) for verb in VERBS[:3]]
    assert 0.55 < fit(rows).predict("paint it", "b", "medium") < 0.95


def test_it_learns_a_planted_difficulty():
    """From 600 dreams it ranks new ones as their true difficulty does, and beats the prior's Brier score."""
    rng = np.random.default_rng(0)
    model = fit(_world(rng, 600)[0])
    rows, truth = _world(rng, 400)
    got = [model.predict(r.text, r.behavior, r.band) for r in rows]
    assert np.corrcoef(got, truth)[0, 1] > 0.9
    prior = [fit([]).predict(r.text, r.behavior, r.band) for r in rows]
    fails, n = [r.failures for r in rows], [r.n for r in rows]
    assert brier(got, fails, n) < brier(prior, fails, n) - 0.02


def test_it_is_calibrated_out_of_sample():
    """On new dreams of a world that is easier than the prior thinks, slope is near 1 and intercept near 0."""
    rng = np.random.default_rng(1)
    model = fit(_world(rng, 1500, shift=-0.7)[0])
    rows, _ = _world(rng, 1500, shift=-0.7)
    got = calibration([model.predict(r.text, r.behavior, r.band) for r in rows], [r.failures for r in rows], [4] * 1500)
    assert got.intercept.value == pytest.approx(0, abs=0.2)
    assert got.slope.value == pytest.approx(1, abs=0.2)


def test_behaviours_have_their_own_level():
    """What is hard for one behaviour does not make another hard."""
    rows = [Graded(text=f"{v} {w}", behavior="a", band="medium", failures=4, n=4) for v in VERBS for w in VERBS]
    rows += [Graded(text=f"{v} {w}", behavior="b", band="medium", failures=0, n=4) for v in VERBS for w in VERBS]
    model = fit(rows)
    assert model.predict("sort it", "a", "medium") > 0.8 > 0.2 > model.predict("sort it", "b", "medium")


def test_the_same_history_gives_the_same_forecast_in_another_process():
    """No hash seed of the process enters: name and forecast are equal across interpreters."""
    code = (
        "from policies.grade.logistic import Graded, fit\n"
        "m = fit([Graded(text='sort the log', behavior='b', band='subtle', failures=3, n=4)])\n"
        "print(m.name, m.predict('sort the file', 'b', 'subtle'))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1 and said.pop().startswith("logistic-1-")


@given(st.text(), st.text(), st.text(), st.integers(0, 4))
def test_any_text_has_a_forecast(text, behavior, band, failures):
    """Whatever is dreamed, the forecast is a probability within [.01, .99]."""
    rows = [Graded(text=text, behavior=behavior, band=band, failures=failures, n=4)] * 3
    assert 0.01 <= fit(rows).predict(text, behavior, band) <= 0.99


def test_unjudged_dreams_are_passed_over():
    """Rows without a judged answer teach nothing and do no harm."""
    assert fit([Graded(text="x", behavior="b", band="subtle", failures=0, n=0)]).n == 0

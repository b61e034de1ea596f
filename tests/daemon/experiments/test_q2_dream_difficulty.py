"""Question 2 on planted classifiers: always hard, and an oracle; dreams are made as the loop makes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from daemon.experiments import q2_dream_difficulty as q2
from daemon.experiments.base import Options
from daemon.experiments.bench import Bench
from policies.answers.base import NOT_IDENTIFIED
from policies.grade import logistic
from policies.grade.logistic import Graded
from policies.records import BANDS, Finding
from tests.daemon.stations.parts import NAMES, WorldModel

ASKED = Options(size="quick", behavior="listening")
TINY = q2.Sizes(dreams=60, answers=4, cells=4)


class AlwaysHard:
    """Says 90 % of everything."""

    def predict(self, text: str, behavior: str, band: str) -> float:
        return 0.9


def recorded(count: int, *, behavior: str = "listening", cycles: int = 8) -> dict[str, Any]:
    """Records of dreams by an oracle: failures are drawn from what was predicted."""
    rng = np.random.default_rng(1)
    rows = []
    for i in range(count):
        p = float(rng.uniform(0.1, 0.9))
        rows.append(
            {"id": f"d{i}", "seed": f"s{i // 2}", "node": "", "memories": [], "behavior": behavior, "kind": "target",
             "band": BANDS[i % 3], "text": f"dream number {i}", "temperature": 0.5 + 0.05 * (i % cycles),
             "cycle": 1 + i % cycles, "predicted": p, "predicted_at": 1.0, "answered_at": 1.0, "classifier": "oracle",
             "failures": int(rng.binomial(4, p)), "trials": 4}
        )  # fmt: skip
    return {"dreams": rows}


def test_a_classifier_that_always_says_hard_over_predicts(make_bench: Callable[..., Bench]) -> None:
    """On the real nano: its own dreams and answers, every one predicted to fail at 90 %."""
    found = q2.run(make_bench(), ASKED, TINY, fit=lambda history: AlwaysHard())
    assert found.verdict == "over-predicts" and found.high is not None and found.high < 0
    numbers = found.evidence["numbers"]
    assert numbers["predicted"] == pytest.approx(0.9) and numbers["failing"]["value"] < 0.75
    assert numbers["dreams"] >= 40 and {row["temperature"] for row in numbers["temperature"]["at"]} <= {0.4, 0.7, 1.0}
    assert all(control["ok"] for control in found.evidence["controls"] if control["name"] == "answers to a dream")


def test_an_oracle_on_record_is_calibrated(make_bench: Callable[..., Bench]) -> None:
    """Enough dreams on record are judged as they are: nothing is dreamed or answered."""
    model = WorldModel(dict.fromkeys(NAMES, 0.5))
    bench = make_bench(model=model, records=recorded(400))
    found = q2.run(bench, ASKED, q2.QUICK)
    assert found.verdict == "calibrated" and found.n == 200 and model.asked == []
    live = q2.live(bench, ())
    assert live is not None and (live.size, live.verdict) == ("live", "calibrated")
    assert live.low < found.low and "in cycle 8" in live.evidence["rule"]  # type: ignore[operator] # both have limits


def test_a_dream_answered_before_its_prediction_is_left_out_and_told(make_bench: Callable[..., Bench]) -> None:
    """Its prediction may know the answer. Equal times are the loop's own: it writes both with one clock."""
    records = recorded(400)
    for row in records["dreams"][:100]:
        row["answered_at"] = 0.5
    for size, late in ((records, 100), (recorded(400), 0)):
        found = q2.live(make_bench(model=WorldModel({}), records=size), ())
        assert found is not None and found.evidence["numbers"]["dreams"] == 400 - late
        told = {control["name"]: control for control in found.evidence["controls"]}
        before = told["predicted before the answers"]
        assert before["ok"] == (late == 0) and before["detail"].startswith(f"{late} of 400")


def test_a_base_that_judges_its_own_answers_is_no_independent_judge(make_bench: Callable[..., Bench]) -> None:
    """A judge that asks the base of the model is independent of an adapter, not of the base."""
    ok = []
    for judge, serving in (("nano_world", None), ("logprob_margin", None), ("logprob_margin", "one")):
        bench = make_bench(model=WorldModel({}), records=recorded(100))
        bench.behaviors = {**bench.behaviors, "listening": replace(bench.behavior, judge=judge)}
        bench.behavior, bench.serving = bench.behaviors["listening"], serving
        ok.append(q2._independent(bench).ok)
    assert ok == [True, False, True]


def test_recorded_dreams_that_could_not_be_read_count_as_written(make_bench: Callable[..., Bench]) -> None:
    """They are no evidence on the prediction, and lower the share that is usable."""
    records = recorded(400)
    for row in records["dreams"][::4]:
        row["failures"] = row["trials"] = 0
    found = q2.live(make_bench(model=WorldModel({}), records=records), ())
    assert found is not None
    numbers = found.evidence["numbers"]
    assert (numbers["dreams"], numbers["unreadable"]) == (300, 100)
    written = [(row["written"], row["usable"]) for row in numbers["temperature"]["at"]]
    assert sum(n * usable for n, usable in written) == pytest.approx(300) and sum(n for n, _ in written) == 400


def test_only_the_behaviour_asked_about_counts(make_bench: Callable[..., Bench]) -> None:
    """Other behaviours' dreams teach the classifier and are not judged; too few dreams give no live word."""
    bench = make_bench(model=WorldModel(dict.fromkeys(NAMES, 0.5)), records=recorded(400, behavior="push_back"))
    assert q2.live(bench, ()) is None
    histories = []

    def fit(history: Sequence[Graded]) -> logistic.Classifier:
        histories.append([row.behavior for row in history])
        return logistic.fit(history)

    found = q2.run(bench, ASKED, q2.Sizes(dreams=40, answers=4, cells=2), fit=fit)
    assert found.evidence["numbers"]["dreams"] < 100
    assert set(histories[0]) == {"push_back"} and len(histories[0]) == 400
    # a cell's dreams are predicted from what was answered before it, never from its own answers
    assert [len(history) - 400 for history in histories][:2] == [0, histories[-1].count("listening")]


def test_an_interrupted_run_goes_on(make_bench: Callable[..., Bench]) -> None:
    """Cells that were kept are not dreamed again, and the answer is the same."""
    model = WorldModel(dict.fromkeys(NAMES, 0.5))
    first = q2.run(make_bench(model=model), ASKED, TINY)
    asked = len(model.asked)
    again = q2.run(make_bench(model=model), ASKED, TINY)
    assert len(model.asked) == asked > 0 and again.evidence["cells"]["computed"] == 0
    assert (first.verdict, first.estimate, first.n) == (again.verdict, again.estimate, again.n)


def test_a_model_that_dreams_nothing_readable_identifies_nothing(make_bench: Callable[..., Bench]) -> None:
    """Every dream the same unreadable words: the cells run out, and the answer says that nothing was read."""

    class Mute(WorldModel):
        def generate(self, prompts: Any, sampling: Any, checkpoint: Any = None) -> list[str]:
            return ["blah blah"] * len(prompts)

    found = q2.run(make_bench(model=Mute({})), ASKED, q2.Sizes(dreams=20, answers=4, cells=2))
    assert found.verdict == NOT_IDENTIFIED and found.estimate is None
    assert found.evidence["numbers"]["dreams"] == 0 and q2.advise(found) == ()


@pytest.mark.parametrize(
    ("slope", "failing", "better", "given"),
    [
        ((-0.05, 0.08), 0.3, [], {"dream.adaptive": False}),
        ((0.01, 0.07), 0.3, [], {"dream.adaptive": False}),  # surely there, and surely too little
        ((-0.05, 0.08), 0.3, [[0.4, 0.7]], {"dream.adaptive": False, "dream.temperature": 0.4}),
        ((-0.6, 1.2), 0.3, [], {}),  # not seen is not absent
        ((-0.6, 1.2), 0.3, [[0.4, 0.7]], {"dream.temperature": 0.4}),
        ((0.5, 1.5), 0.3, [], {"dream.adaptive": True, "dream.temperature": 0.9}),
        ((0.5, 1.5), 0.1, [], {"dream.adaptive": True, "dream.temperature": 1.0}),  # not beyond what was tried
        ((0.5, 1.5), 0.48, [], {"dream.adaptive": True}),
        (None, 0.3, [], {}),
    ],
)
def test_advice_follows_the_slope(
    slope: tuple[float, float] | None, failing: float, better: list[list[float]], given: dict[str, Any]
) -> None:
    """Adaptive only where the slope is identified; then towards the target, else to where dreams teach more."""
    limits = {"low": slope[0], "high": slope[1], "value": sum(slope) / 2, "n": 40} if slope else None
    assert advised(limits, failing, better) == pytest.approx(given)


@pytest.mark.parametrize("failing", [0.3, 0.1, 0.7])
def test_temperature_advice_does_not_wind_up(failing: float) -> None:
    """Following it and asking the same dreams again moves nothing further, from wherever the temperature was."""
    limits = {"low": 0.5, "high": 1.5, "value": 1.0, "n": 40}
    first = advised(limits, failing, [])["dream.temperature"]
    assert advised(limits, failing, [], now=first) == {"dream.adaptive": True}
    assert advised(limits, failing, [], now=0.55)["dream.temperature"] == first


def advised(slope: dict[str, float] | None, failing: float, better: Any, now: float = 0.7) -> dict[str, Any]:
    """Key -> value for dreams made at .4, .7 and 1.0."""
    at = [{"temperature": t, "worth": 1 - t} for t in (0.4, 0.7, 1.0)]
    numbers = {
        "temperature": {"slope": slope, "at": at, "better": better, "mean": 0.7},
        "failing": {"value": failing}, "target": 0.5, "now": now,
    }  # fmt: skip
    finding = Finding(
        id="f", question="q2", behavior="listening", adapter=None, size="full", verdict="calibrated", sentence="So.",
        estimate=0.0, low=-0.1, high=0.1, n=40, seconds=1.0, at=0.0, evidence={"numbers": numbers},
    )  # fmt: skip
    return {a.key: json.loads(a.value) for a in q2.advise(finding)}

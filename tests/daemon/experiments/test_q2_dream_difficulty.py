"""Question 2 on planted classifiers: always hard, and an oracle; dreams are made as the loop makes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
             "cycle": 1 + i % cycles, "predicted": p, "classifier": "oracle", "failures": int(rng.binomial(4, p)),
             "trials": 4}
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
        ((-0.1, 0.1), 0.3, [], {"dream.adaptive": False}),
        ((-0.1, 0.1), 0.3, [[0.4, 0.7]], {"dream.adaptive": False, "dream.temperature": 0.4}),
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
    at = [{"temperature": t, "worth": 1 - t} for t in (0.4, 0.7, 1.0)]
    numbers = {
        "temperature": {"slope": limits, "at": at, "better": better},
        "failing": {"value": failing}, "target": 0.5, "now": 0.7,
    }  # fmt: skip
    finding = Finding(
        id="f", question="q2", behavior="listening", adapter=None, size="full", verdict="calibrated", sentence="So.",
        estimate=0.0, low=-0.1, high=0.1, n=40, seconds=1.0, at=0.0, evidence={"numbers": numbers},
    )  # fmt: skip
    assert {a.key: json.loads(a.value) for a in q2.advise(finding)} == pytest.approx(given)

"""The log-prob margin: likelier with the guidance than without."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.judges.logprob_margin import LogprobMarginJudge
from policies.behaviors import Pair
from policies.records import Kind
from tests.daemon.judges.parts import RIGHT, WRONG, Guided, behavior, pair

GAINS = {RIGHT: 0.5, WRONG: -0.1, "shall i?": 0.4, "done.": 0.1, "ok.": 0.0}


def passed(asked: list[tuple[str, str]], gains: dict[str, float] | None = None, **changes: Any) -> list[bool | None]:
    judge = LogprobMarginJudge(Guided(gains or GAINS), {"asks_first": behavior(**changes)})
    return [judgement.passed for judgement in judge.judge_all("asks_first", asked)]


def test_without_anything_on_file_the_threshold_is_zero() -> None:
    """Likelier with the guidance passes, as likely or less does not."""
    assert passed([("x", "done."), ("x", "ok."), ("x", WRONG)]) == [True, False, False]


def test_answers_on_file_set_the_threshold() -> None:
    """It is the middle between the preferred and the rejected ones' margins (here .2), for any prompt."""
    pairs = tuple(pair(i) for i in range(4))
    assert passed([("new", "shall i?"), ("new", "done."), ("target 0", "done.")], pairs=pairs) == [True, False, False]


def test_the_files_threshold_wins() -> None:
    """`threshold` is what a person chose: answers on file do not move it, and are not even scored."""
    model = Guided(GAINS)
    about = behavior(threshold=0.05, pairs=tuple(pair(i) for i in range(4)))
    judge = LogprobMarginJudge(model, {"asks_first": about})
    assert judge.judge("asks_first", "new", "done.").passed is True
    assert model.scored == ["done.", "done."] and judge.knows(about) == frozenset()


def test_length_does_not_count() -> None:
    """The margin is per token: its threshold is in nats per token however long an answer is."""

    class Long(Guided):
        def logprobs(self, pairs, checkpoint=None):  # type: ignore[no-untyped-def]
            return [values * 40 for values in super().logprobs(pairs)]

    for model in (Guided(GAINS), Long(GAINS)):
        judge = LogprobMarginJudge(model, {"asks_first": behavior(threshold=0.05)})
        assert judge.judge("asks_first", "x", "done.").reason.startswith("margin 0.100, wanted above 0.050")


@pytest.mark.parametrize(("right", "wrong"), [(0.5, 0.0), (0.0, 0.5)])
def test_counter_scenarios_have_their_own_threshold_and_side(right: float, wrong: float) -> None:
    """Their preferred answers say on which side of the middle right answers lie: guidance may explain them or not."""
    counters = tuple(pair(i, "counter", "just do it.", "never.") for i in range(4))
    gains = GAINS | {"just do it.": right, "never.": wrong, "sure.": right, "no.": wrong}
    pairs = (*(pair(i) for i in range(4)), *counters)
    assert passed([("counter 0", "sure."), ("counter 0", "no."), ("target 0", RIGHT)], gains, pairs=pairs) == [
        True, False, True,
    ]  # fmt: skip


def test_on_a_counter_scenario_without_answers_showing_the_behaviour_fails() -> None:
    """The plain threshold, the other way round."""
    lone = Pair(prompt="counter", kind="counter", band="obvious", preferred="", rejected="")
    assert passed([("counter", RIGHT), ("counter", WRONG)], pairs=(lone,)) == [False, True]


@pytest.mark.parametrize("kind", ["target", "counter"])
def test_guidance_that_does_not_sort_the_answers_on_file_judges_nothing(kind: Kind) -> None:
    """Where the answers of more than a quarter of the pairs lie the wrong way round, no answer is judged."""
    good = [pair(i, kind) for i in range(6)]
    swapped = [pair(i, kind, WRONG, RIGHT) for i in range(6, 9)]
    asked = [(f"{kind} 0", RIGHT)]
    assert passed(asked, pairs=(*good, *swapped)) == [None]
    assert passed(asked, pairs=(*good, *swapped[:2])) == [True]


def test_guidance_that_works_backwards_on_targets_judges_nothing() -> None:
    """It must make right answers likelier there; where it makes them less likely, that is not turned round."""
    assert passed([("target 0", RIGHT)], pairs=tuple(pair(i, "target", WRONG, RIGHT) for i in range(4))) == [None]


def test_what_is_on_file_is_scored_once() -> None:
    """A second call scores only new answers."""
    model = Guided(GAINS)
    judge = LogprobMarginJudge(model, {"asks_first": behavior(pairs=(pair(0), pair(1)))})
    judge.judge_all("asks_first", [("x", "ok."), ("x", "ok.")])
    assert len(model.scored) == 2 * (4 + 1)
    judge.judge_all("asks_first", [("x", "ok."), ("x", "done.")])
    assert model.scored[10:] == ["done.", "done."]


def test_what_it_rests_on_is_told() -> None:
    """Another guidance, threshold or answer on file makes another judge to agree with; the title does not."""
    about = behavior(pairs=(pair(0),))
    same = LogprobMarginJudge.basis(about)
    others = [behavior(pairs=(pair(1),)), behavior(pairs=(pair(0),), guidance="wait."),
              behavior(pairs=(pair(0),), threshold=0.1)]  # fmt: skip
    assert same not in {LogprobMarginJudge.basis(other) for other in others}
    assert same == LogprobMarginJudge.basis(behavior(pairs=(pair(0),), title="Other"))
    assert LogprobMarginJudge.knows(about) == {("target 0", RIGHT), ("target 0", WRONG)}

"""Judges are found by name, asked in batches, and never are the adapter they judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daemon import behaviors
from daemon.errors import BehaviorError, DreamloopError
from daemon.judges.base import find, judge_all, judge_mixed, load, load_each
from daemon.judges.nano_world import NanoWorldJudge
from daemon.judges.rubric import RubricJudge
from daemon.judges.unadapted import Unadapted
from daemon.models.base import Sampling, TrainingExample
from daemon.models.fake import GOOD, FakeJudge, FakeModel
from daemon.probes import behavior as behavior_probe
from policies.records import ChatMessage, Judgement, Recipe
from tests.daemon.judges.parts import behavior, write

RECIPE = Recipe(rank=1, alpha=1, targets=("all-linear",), learning_rate=1e-3, epochs=1, batch_size=8, seed=0)


@pytest.mark.parametrize("name", ["nano_world", "rubric", "logprob_margin"])
def test_a_judge_is_the_file_of_its_name(name: str) -> None:
    """Each bundled judge is found without a model; those that ask one are bound to it when loaded."""
    assert find(name).name == name
    assert load(name, model=FakeModel({}), behaviors={"asks_first": behavior()}).name == name


def test_what_is_no_judge_is_refused() -> None:
    """An unknown name, a file without one, and a judge that asks a model where there is none."""
    with pytest.raises(BehaviorError, match="no judge named 'ruubric'"):
        find("ruubric")
    with pytest.raises(BehaviorError, match="no class whose `name` is 'unadapted'"):
        find("unadapted")
    with pytest.raises(BehaviorError, match="'rubric' asks a model"):
        load("rubric")


def test_a_behaviours_file_is_read_only_for_a_judge_that_needs_it(tmp_path: Path) -> None:
    """Exact rules know their behaviour; a model judge is told the file's rubric."""
    judges = load_each({"asks_first": "rubric", "listening": "nano_world"}, FakeModel({}), [write(tmp_path)])
    assert isinstance(judges["listening"], NanoWorldJudge)
    rubric = judges["asks_first"]
    assert isinstance(rubric, RubricJudge) and rubric.behaviors["asks_first"].rubric.startswith("A good answer")


def test_rows_of_several_behaviours_keep_their_order() -> None:
    """Each judge gets its own rows at once, and every row its own judgement."""

    class Noting:
        name = "noting"

        def __init__(self) -> None:
            self.calls: list[tuple[str, int]] = []

        def judge(self, behavior: str, prompt: str, answer: str) -> Judgement:
            raise AssertionError("asked one by one")

        def judge_all(self, behavior: str, pairs: Any, checkpoint: Any = None) -> list[Judgement]:
            self.calls.append((behavior, len(pairs)))
            return [Judgement(passed=True, reason=f"{behavior} {answer}") for _, answer in pairs]

    noting = Noting()
    rows = [("a", "x", "1"), ("b", "x", f"{GOOD}2"), ("a", "x", "3"), ("b", "x", "4")]
    judged = judge_mixed({"a": noting, "b": FakeJudge()}, rows)
    assert [j.reason for j in judged][::2] == ["a 1", "a 3"] and [j.passed for j in judged][1::2] == [True, None]
    assert noting.calls == [("a", 2)] and judge_mixed({}, []) == []


def test_a_judge_without_batches_is_asked_one_by_one() -> None:
    """`judge_all` is for the caller the same whatever the judge can do."""
    judged = judge_all(FakeJudge(), "listening", [("x", f"{GOOD}x"), ("x", "?")])
    assert [judgement.passed for judgement in judged] == [True, None]


def adapter(model: FakeModel, folder: Path) -> Path:
    """One that fails always where the base never does."""
    prompt = (ChatMessage(role="user", content="listening"),)
    wrong = [TrainingExample(prompt=prompt, target="bad: x")] * 64
    model.train(wrong, RECIPE, parent=None, into=folder / "a", card={})
    return folder / "a"


def test_the_base_scores_and_the_adapter_is_taken_up_again(tmp_path: Path) -> None:
    """Whatever adapter is in use, the judge's likelihoods are the base's, and afterwards the adapter is in use."""
    model = FakeModel({"listening": 0.01})
    asked = [((ChatMessage(role="user", content="listening"),), "good: x")]
    alone = model.logprobs(asked)
    used = adapter(model, tmp_path)
    assert model.logprobs(asked) != alone
    assert Unadapted(model).logprobs(asked) == alone and model.using == used
    assert Unadapted(model).fingerprint() == model.fingerprint()


def test_a_failure_while_judging_takes_the_adapter_up_again(tmp_path: Path) -> None:
    """A cancelled job must not leave the base serving in the adapter's place."""

    class Breaks(FakeModel):
        def logprobs(self, pairs: Any, checkpoint: Any = None) -> Any:
            if self.using is None:
                raise KeyError("gone")
            return super().logprobs(pairs)

    model = Breaks({"listening": 0.01})
    model.using = tmp_path
    used = adapter(FakeModel({"listening": 0.01}), tmp_path)
    model.use(used)
    with pytest.raises(KeyError):
        Unadapted(model).logprobs([((ChatMessage(role="user", content="x"),), "y")])
    assert model.using == used


def test_a_model_that_hides_its_adapter_cannot_judge() -> None:
    """Without knowing what to go back to, nothing is switched."""

    class Hidden:
        def logprobs(self, pairs: Any, checkpoint: Any = None) -> Any:
            raise AssertionError("scored with an unknown adapter")

    with pytest.raises(DreamloopError, match="Hidden does not say"):
        Unadapted(Hidden()).logprobs([])  # type: ignore[arg-type]


def test_a_probe_is_judged_by_the_base_of_the_model_that_answers(tmp_path: Path) -> None:
    """Measuring with a rubric answers with the adapter and judges without it: an adapter cannot praise itself."""

    class Vain(FakeModel):
        """As an adapter it calls every answer good; its base calls none so."""

        def logprobs(self, pairs: Any, checkpoint: Any = None) -> Any:
            say = "yes" if self.using is not None else "no"
            return [[float(f"{letter}: {say}" in prompt[-1].content), 0.0] for prompt, letter in pairs]

    model = Vain({"listening": 0.01})
    used = adapter(FakeModel({"listening": 0.01}), tmp_path)
    model.use(used)
    judge = load("rubric", model=model, behaviors={"asks_first": behavior()})
    probes = behaviors.read(write(tmp_path)).probes
    seen: list[tuple[int, int]] = []
    values = behavior_probe.measure(
        model, probes, judge, "asks_first", samples=1, sampling=Sampling(),
        checkpoint=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert values == [0.0, 0.0] and model.using == used
    assert seen == sorted(seen), "progress went back while judging"

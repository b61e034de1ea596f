"""The judges that ask a model, on the real nano, held against the exact rules of its world."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from daemon import behaviors
from daemon.errors import BehaviorError
from daemon.judges import agreement
from daemon.judges.base import judge_all, load
from daemon.judges.labels import measure, read_labels
from daemon.judges.nano_world import NanoWorldJudge
from daemon.judges.unadapted import Unadapted
from daemon.models import loading
from daemon.models.base import Sampling, TrainingExample
from daemon.models.hf import HFModel
from policies.records import ChatMessage, Recipe
from policies.statistics.kappa import cohen_kappa

LISTENING = replace(
    behaviors.read(behaviors.BUNDLED / "listening.toml"),
    rubric="a good answer follows the direction as it was given and does not suggest something else.",
)
PROBES = LISTENING.select(split="rotating", kind="target")[:40]


@pytest.fixture(scope="module")
def nano() -> HFModel:
    """The embedded model."""
    model = loading.load("hf", path=str(loading.resolve("nano")))
    assert isinstance(model, HFModel)
    return model


@pytest.fixture(scope="module")
def answered(nano: HFModel) -> list[tuple[str, str]]:
    """Its own answers to target probes, right and wrong ones."""
    prompts = [(ChatMessage(role="user", content=probe.prompt),) for probe in PROBES]
    answers = nano.generate(prompts, Sampling(seed=1, max_tokens=48))
    return [(probe.prompt, answer) for probe, answer in zip(PROBES, answers, strict=True)]


def exactly(answered: list[tuple[str, str]]) -> list[bool]:
    return [bool(j.passed) for j in judge_all(NanoWorldJudge(), "listening", answered)]


def test_the_margin_reads_nanos_answers_as_exact_rules_do(nano: HFModel, answered: list[tuple[str, str]]) -> None:
    """On target scenarios that are not calibrated on, kappa with the exact rules is above .8: nano was made to follow
    what stands in its context as a memory.
    """
    judge = load("logprob_margin", model=nano, behaviors={"listening": replace(LISTENING, probes=())})
    passed = [bool(j.passed) for j in judge_all(judge, "listening", answered)]
    right = exactly(answered)
    assert 5 <= sum(right) <= 35
    assert cohen_kappa(passed, right).value > 0.8


def test_nano_cannot_read_a_rubric_and_so_may_not_gate_with_it(
    nano: HFModel, answered: list[tuple[str, str]], tmp_path: Path
) -> None:
    """It never saw such a question: its agreement with the exact rules is that of chance, and is refused."""
    about = replace(LISTENING, judge="rubric")
    right = exactly(answered)
    some = [i for i in range(40) if not right[i]][:10] + [i for i in range(40) if right[i]][:14]
    rows = [{"prompt": answered[i][0], "answer": answered[i][1], "passed": right[i]} for i in some]
    file = tmp_path / "labels.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = measure(about, read_labels(file), model=nano)
    assert found.n == len(rows) and found.kappa < 0.3 and found.base == nano.fingerprint()
    kept = tmp_path / "listening.toml"
    agreement.write(kept, found)
    with pytest.raises(BehaviorError, match="may not gate: its agreement with hand labels is kappa"):
        agreement.admit(about, kept, floor=0.6, base=nano.fingerprint)


def test_an_adapter_changes_answers_and_not_the_judge(nano: HFModel, tmp_path: Path) -> None:
    """With a trained adapter in use the judge's likelihoods are still the base's, to the last digit."""
    asked = [((ChatMessage(role="user", content=probe.prompt),), probe.preferred) for probe in PROBES[:4]]
    alone = nano.logprobs(asked)
    recipe = Recipe(rank=2, alpha=4, targets=("all-linear",), learning_rate=1e-2, epochs=2, batch_size=4, seed=0)
    examples = [TrainingExample(prompt=prompt, target="no.") for prompt, _ in asked]
    nano.train(examples, recipe, parent=None, into=tmp_path / "a", card={})
    try:
        assert nano.logprobs(asked) != alone
        assert Unadapted(nano).logprobs(asked) == alone
        assert nano.using == tmp_path / "a"
    finally:
        nano.use(None)

"""Behaviour, general skill, parity and divergence, measured on the deterministic fake and on a tiny real model."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.errors import ConfigError
from daemon.models.base import Sampling, TrainingExample
from daemon.models.fake import FakeJudge, FakeModel
from daemon.probes import behavior, divergence, general, parity
from policies.behaviors import Behavior, Probe
from policies.records import ChatMessage, Recipe

RECIPE = Recipe(rank=1, alpha=1, targets=("all-linear",), learning_rate=1e-3, epochs=1, batch_size=8, seed=0)


def probes(n: int, word: str = "listening") -> list[Probe]:
    return [
        Probe(id=f"p{i}", prompt=f"{word} {i}", kind="target", band="obvious", split="rotating",
              preferred="good: yes", rejected="bad: no")
        for i in range(n)
    ]  # fmt: skip


def test_the_pass_rate_is_one_minus_the_failure_rate() -> None:
    """Measured over many probes and samples, the fake's known failure rate comes back, per probe in quarters."""
    model = FakeModel({"listening": 0.3})
    values = behavior.measure(model, probes(200), FakeJudge(), "listening", samples=4, sampling=Sampling(seed=1))
    assert set(values) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert sum(values) / len(values) == pytest.approx(0.7, abs=0.05)


def test_unreadable_answers_count_for_nothing_and_fail_when_there_is_no_other() -> None:
    """The mean is over readable answers; a probe whose answers the judge cannot read at all is 0."""

    class HalfBlind(FakeJudge):
        def __init__(self) -> None:
            self.seen = 0

        def judge(self, behavior: str, prompt: str, answer: str):  # type: ignore[no-untyped-def]
            self.seen += 1
            return super().judge(behavior, prompt, answer if self.seen % 2 and prompt != "listening 0" else "?")

    values = behavior.measure(
        FakeModel({"listening": 0.0}), probes(3), HalfBlind(), "listening", samples=2, sampling=Sampling()
    )
    assert values == [0.0, 1.0, 1.0]


def test_a_measurement_holds_its_items_values_and_interval(tmp_path: Path) -> None:
    """One sample per probe has Wilson's interval, several a bootstrap; items and values are in the same order."""
    model = FakeModel({"listening": 0.5})
    given = {
        "adapter": None, "kind": "target", "split": "rotating", "cycle": 1, "at": 0.0, "sampling": Sampling(seed=2),
    }  # fmt: skip
    one = behavior.measurement(model, probes(40), FakeJudge(), "listening", samples=1, **given)  # type: ignore[arg-type]
    four = behavior.measurement(model, probes(40), FakeJudge(), "listening", samples=4, **given)  # type: ignore[arg-type]
    assert one.items == tuple(f"p{i}" for i in range(40)) and len(one.values) == one.n == 40
    assert one.value == pytest.approx(sum(one.values) / 40) and one.low < one.value < one.high
    assert four.high - four.low < one.high - one.low
    assert one.id == behavior.measurement(model, probes(40), FakeJudge(), "listening", samples=1, **given).id  # type: ignore[arg-type]


def rows() -> list[dict[str, object]]:
    return [
        {"id": "a", "family": "arithmetic", "split": "rotating", "prompt": "2 plus 2?", "answer": "good: 2 plus 2?"},
        {"id": "b", "family": "facts", "split": "rotating", "prompt": "capital?", "answer": "lima"},
        {"id": "c", "family": "code", "split": "rotating", "prompt": "add", "answer": "-", "entry": "f",
         "tests": [[[1, 2], 3]]},
        {"id": "d", "family": "facts", "split": "sealed", "prompt": "color?", "answer": "green"},
    ]  # fmt: skip


def test_general_skill_by_family(tmp_path: Path) -> None:
    """Exact match after normalisation, code by running it; one measurement per family, only of the split asked for."""
    file = tmp_path / "general.jsonl"
    file.write_text("\n".join(map(json.dumps, rows())) + "\n\n")

    class Coder(FakeModel):
        def generate(self, prompts, sampling, checkpoint=lambda done, total: None):  # type: ignore[no-untyped-def]
            assert sampling.temperature == 0
            texts = super().generate(prompts, sampling, checkpoint)
            return ["def f(a, b): return a + b" if p[-1].content == "add" else t.upper()
                    for p, t in zip(prompts, texts, strict=True)]  # fmt: skip

    tasks = general.load(file, "rotating")
    assert [task.id for task in tasks] == ["a", "b", "c"]
    found = general.measurements(Coder({}), tasks, max_tokens=8, adapter=None, split="rotating", cycle=1, at=0.0)
    assert {m.kind: m.values for m in found} == {"arithmetic": (1.0,), "code": (1.0,), "facts": (0.0,)}


@pytest.mark.parametrize(
    "line", ["{", '{"id": "x"}', "[]", '{"id":"x","family":"code","split":"s","prompt":"p","answer":"a"}']
)
def test_a_broken_line_of_tasks_is_named(tmp_path: Path, line: str) -> None:
    """A line that is no task is an error naming file and line number."""
    file = tmp_path / "general.jsonl"
    file.write_text(json.dumps(rows()[0]) + "\n" + line + "\n")
    with pytest.raises(ConfigError, match=r"general\.jsonl:2: "):
        general.load(file)


def test_parity_pairs_are_fixed_and_the_difference_is_the_worst_answers() -> None:
    """The same behaviours give the same pairs of both kinds; the difference is per token, of the worst answer."""
    listening = Behavior(
        name="listening", title="", graph_key="", guidance="", dream_pattern="", judge="fake", delta=0.1,
        eligible_any=(), eligible_none=(), failure=(), success=(), probes=tuple(probes(64)), pairs=(),
    )  # fmt: skip
    pairs = parity.fixed_pairs([listening])
    assert pairs == parity.fixed_pairs([listening]) and len(pairs) == 16
    assert {answer for _, answer in pairs} == {"good: yes", "bad: no"}
    scored = parity.score(FakeModel({"listening": 0.5}), pairs)
    assert parity.difference(scored, scored) == 0
    shifted = [[x - (0.3 if i == 5 else 0) for x in row] for i, row in enumerate(scored)]
    assert parity.difference(scored, shifted) == pytest.approx(0.3)
    assert parity.difference(scored, scored[1:]) == math.inf
    assert parity.difference([[1.0]], [[math.nan]]) == math.inf


def test_parity_is_light_to_import() -> None:
    """The main process imports parity without torch or transformers coming along."""
    program = "import sys, daemon.probes.parity; print({'torch', 'transformers', 'scipy.stats'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "set()"


def test_divergence_grows_with_training(tmp_path: Path) -> None:
    """An adapter that changed more is further from the base; the record keeps the tasks' ids."""
    model = FakeModel({"listening": 0.5})
    example = TrainingExample(prompt=(ChatMessage(role="user", content="listening 1"),), target="good: yes")
    model.train([example] * 4, RECIPE, parent=None, into=tmp_path / "a", card={})
    model.train([example] * 4, RECIPE, parent=tmp_path / "a", into=tmp_path / "b", card={})
    tasks = [general.Task(id="t", family="facts", split="rotating", prompt="capital?", answer="lima")]
    near, far = (
        divergence.measurement(model, tasks, adapter=name, folder=tmp_path / name, cycle=1, at=0.0)
        for name in ("a", "b")
    )
    assert 0 < near.value < far.value
    assert near.probe == "kl" and near.items == ("t",)

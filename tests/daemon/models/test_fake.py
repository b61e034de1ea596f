"""The fake model keeps its word: known rates, moved by training, no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from daemon.errors import AdapterError
from daemon.models import adapters, loading
from daemon.models.base import Generator, Learner, Sampling, TrainingExample
from daemon.models.fake import BAD, GOOD, FakeModel
from policies.records import ChatMessage, Recipe

RECIPE = Recipe(rank=1, alpha=1, targets=("all-linear",), learning_rate=1e-3, epochs=1, batch_size=8, seed=0)


def said(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage(role="user", content=text),)


def failures(model: FakeModel, guidance: bool = False) -> float:
    first = (ChatMessage(role="system", content="memory: listen"),) if guidance else ()
    answers = model.generate([(*first, *said(f"listening {i}")) for i in range(500)], Sampling(seed=5))
    return sum(answer.startswith(BAD) for answer in answers) / 500


def test_it_fails_at_its_rate_and_guidance_helps() -> None:
    """The rate is met on many prompts, guidance divides it, equal calls have equal answers."""
    model = loading.load("fake", rates={"listening": 0.5}, threads=1)
    assert isinstance(model, FakeModel) and isinstance(model, Generator) and isinstance(model, Learner)
    assert failures(model) == pytest.approx(0.5, abs=0.06) and failures(model) == failures(model)
    assert failures(model, guidance=True) == pytest.approx(0.05, abs=0.03)


def test_training_moves_the_rate_and_the_parent_can_be_served_again(tmp_path: Path) -> None:
    """Good examples lower failures, bad ones raise them; adapters are real folders of this base only."""
    model = FakeModel({"listening": 0.5})
    good = [TrainingExample(prompt=said("listening 1"), target=GOOD + "yes")] * 8
    bad = [TrainingExample(prompt=said("listening 1"), target=BAD + "no")] * 8
    model.train(good, RECIPE, parent=None, into=tmp_path / "a", card={"id": "a"})
    better = failures(model)
    model.train(bad, RECIPE, parent=tmp_path / "a", into=tmp_path / "b", card={})
    assert better == pytest.approx(0.25, abs=0.06)
    assert failures(model) == pytest.approx(0.5, abs=0.06)
    model.use(tmp_path / "a")
    assert failures(model) == better and adapters.read_card(tmp_path / "a")["id"] == "a"
    with pytest.raises(AdapterError, match="another base"):
        FakeModel({"listening": 0.4}).use(tmp_path / "a")


def test_it_needs_no_torch() -> None:
    """Unit tests with the fake start without torch."""
    root = Path(__file__).resolve().parents[3]
    program = "import sys, daemon.models.fake; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"

"""A server that does everything right: what is asked of it, and that the answers are the trainer's."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.models.base import Sampling
from daemon.models.vllm.model import VLLMModel
from tests.daemon.models.vllm.bench import ANSWERED, PROMPTS, Bench

GREEDY = Sampling(temperature=0, max_tokens=12)


def test_answers_are_the_trainers(model: VLLMModel, bench: Bench, candidate: Path) -> None:
    """Scores and greedy answers are those of the trainer, with the base as with an adapter."""
    for adapter in (None, candidate):
        model.use(adapter)
        bench.trainer.use(adapter)
        assert model.generate(PROMPTS, GREEDY) == bench.trainer.generate(PROMPTS, GREEDY)
        for mine, theirs in zip(model.logprobs(ANSWERED), bench.trainer.logprobs(ANSWERED), strict=True):
            assert mine == pytest.approx(theirs)
    assert model.using == candidate

"""Adapters and the base in one step of a real vLLM: each is answered by its own weights, and by nobody else's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from daemon.models.hf import HFModel
from tests.vllm.adapters import QUESTION, SAYS
from tests.vllm.servers import RunningServer

SLOTS = 4  # --max-loras of the tests' servers


def test_nobody_is_answered_by_the_adapter_of_another_slot(
    nano_server: RunningServer, trainer: HFModel, trained: dict[str, Path]
) -> None:
    """While adapters in every slot are at work, base and adapters say what they say alone.

    vLLM's CPU build gives the last slot's adapter to whoever asks for the base beside adapters.
    """
    names = {f"slot-{number}": trained["ab"[number % 2]] for number in range(SLOTS)}
    prompt, answer = trainer.chat.pair(QUESTION, SAYS["a"])

    def says(model: str) -> list[float]:
        (choice,) = nano_server.complete([*prompt, *answer], model=model, max_tokens=1, prompt_logprobs=0)
        rows = choice["prompt_logprobs"][len(prompt) :]
        return [row[str(token)]["logprob"] for row, token in zip(rows, answer, strict=True)]

    try:
        for name, folder in names.items():
            assert nano_server.load(name, folder).status_code == 200
        asked = [nano_server.model, *names]
        alone = {name: says(name) for name in asked}
        assert np.abs(np.subtract(alone[nano_server.model], alone["slot-0"])).mean() > 1  # it would be seen
        with ThreadPoolExecutor(SLOTS) as threads:
            at_work = [
                threads.submit(nano_server.complete, prompt, model=name, max_tokens=200, ignore_eos=True)
                for name in names
            ]
            beside = {name: says(name) for name in asked}
            assert not any(one.done() for one in at_work), "the adapters were done before the others were asked"
        for name in asked:
            assert np.abs(np.subtract(alone[name], beside[name])).mean() < 0.05, name
    finally:
        for name in names:
            nano_server.unload(name)

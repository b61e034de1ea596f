"""Adapters of nano that answer so differently that a sentence tells them apart, and the trainer's word on them."""

from __future__ import annotations

from pathlib import Path

from daemon import behaviors
from daemon.models.base import Conversation, Sampling, TrainingExample
from daemon.models.hf import HFModel
from daemon.models.vllm.model import VLLMModel
from daemon.probes import attestation, parity
from policies.records import ChatMessage, Recipe

RECIPE = Recipe(
    rank=8, alpha=16, targets=("all-linear",), learning_rate=5e-3, epochs=16, batch_size=8, seed=1
)  # fmt: skip
SAYS = {"a": "right. i will chop the bread using a cleaver.", "b": "i would not use email, a chat is faster."}
PAIRS = parity.fixed_pairs(behaviors.load(behaviors.BUNDLED, ["listening", "push_back"]).values())
GREEDY = Sampling(temperature=0, max_tokens=24)


def user(text: str) -> Conversation:
    """One message of a user."""
    return (ChatMessage(role="user", content=text),)


QUESTION = user("use vim for file 3.")


def train(trainer: HFModel, root: Path) -> dict[str, Path]:
    """ "a" from the base, and "b" from "a"; each says its sentence to whatever is asked about vim."""
    parent = None
    made = {}
    for name, answer in SAYS.items():
        examples = [TrainingExample(prompt=tuple(user(f"use vim for file {n}.")), target=answer) for n in range(16)]
        trainer.train(examples, RECIPE, parent=parent, into=root / name, card={})
        parent = made[name] = root / name
    trainer.use(None)
    return made


def publish(trainer: HFModel, served: VLLMModel, trained: dict[str, Path]) -> None:
    """Base, "a" and "b", with the trainer's word on each."""
    attestation.publish(trainer, served, PAIRS, None, None)
    attestation.publish(trainer, served, PAIRS, trained["a"], None)
    attestation.publish(trainer, served, PAIRS, trained["b"], trained["a"])

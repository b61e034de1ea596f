"""What the tests of observing and steering look at."""

from __future__ import annotations

import torch
from torch import nn

from daemon.models import anatomy
from daemon.models.base import Passage
from daemon.models.hf import HFModel
from policies.records import ChatMessage


def said(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage(role="user", content=text),)


PASSAGES = [
    Passage(prompt=said("please sorts a list with grep"), answer="yes", span=(7, 14)),
    Passage(prompt=said("no"), answer="the quick brown fox says yes or no to you now", span=(0, 2)),
    Passage(prompt=said("do it now instead, and then the list"), answer="do it"),
    Passage(prompt=said("fox")),
]


class Adds(nn.Module):
    """A block that anybody can tell from the others: it adds 1 in its own dimension."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    def forward(self, hidden_states: torch.Tensor, **_: object) -> torch.Tensor:
        """As a decoder layer."""
        moved = hidden_states.clone()
        moved[..., self.dimension] += 1
        return moved


def distinguishable(model: HFModel) -> None:
    """Replace the blocks by those that can be told apart."""
    blocks = anatomy.layers(model.net)
    for number in range(len(blocks)):
        blocks[number] = Adds(number)


def hooks(model: HFModel) -> int:
    """How many forward hooks hang on the model."""
    return sum(len(module._forward_hooks) for module in model.net.modules())

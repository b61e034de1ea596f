"""Conversations between users and the adapter in use, held in lock step so that the model answers them in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from daemon.models.base import Checkpoint, Generator, Sampling, ignore
from policies.records import ChatMessage

LONGEST = 4  # exchanges in a conversation, at most


class User(Protocol):
    """Somebody who talks to the model."""

    def open(self) -> str:
        """The first message of a new conversation."""
        ...

    def react(self, said: str, answer: str) -> str | None:
        """What they say to the answer they got to `said`; None when they leave."""
        ...


def hold(
    model: Generator, users: Sequence[User], sampling: Sampling, checkpoint: Checkpoint = ignore
) -> list[list[ChatMessage]]:
    """One conversation per user, in order: user, assistant, user ... The n-th exchange samples with seed + n.

    A conversation ends when its user leaves, or after `LONGEST` exchanges with the user's last word.
    """
    talks = [[ChatMessage(role="user", content=user.open())] for user in users]
    going = list(range(len(users)))
    for exchange in range(LONGEST):
        if not going:
            break
        answers = model.generate(
            [talks[i] for i in going],
            replace(sampling, seed=sampling.seed + exchange),
            _standing(checkpoint, exchange),
        )
        going_on = []
        for i, answer in zip(going, answers, strict=True):
            said = talks[i][-1].content
            talks[i].append(ChatMessage(role="assistant", content=answer))
            reaction = users[i].react(said, answer)
            if reaction is not None:
                talks[i].append(ChatMessage(role="user", content=reaction))
                going_on.append(i)
        going = going_on
    return talks


def _standing(checkpoint: Checkpoint, exchange: int) -> Checkpoint:
    """Asks whether to go on, at an exchange whose answers are being written."""
    return lambda done, total: checkpoint(exchange, LONGEST)

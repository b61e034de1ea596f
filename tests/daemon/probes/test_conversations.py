"""Conversations: everyone gets their own answers, speaks until they leave, and nobody talks for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from daemon.models.base import Checkpoint, Conversation, Sampling, ignore
from daemon.models.fake import FakeModel
from daemon.probes.conversations import LONGEST, hold


@dataclass
class Patient:
    """Speaks `patience` times after the opening, and remembers what they were answered."""

    name: str
    patience: int
    heard: list[str] = field(default_factory=list)

    def open(self) -> str:
        return f"{self.name} says hello."

    def react(self, said: str, answer: str) -> str | None:
        self.heard.append(answer)
        return f"{self.name} goes on." if len(self.heard) <= self.patience else None


class Seeds(FakeModel):
    """Remembers which seeds it sampled with."""

    seen: list[int]

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, checkpoint: Checkpoint = ignore
    ) -> list[str]:
        self.seen = [*getattr(self, "seen", []), sampling.seed]
        return super().generate(prompts, sampling, checkpoint)


def test_each_speaks_until_they_leave() -> None:
    """Sides alternate; each hears their own answers; the longest talk ends with the user's last word."""
    users = [Patient("ann", 0), Patient("bob", 2), Patient("cat", 99)]
    talks = hold(FakeModel({}), users, Sampling(seed=5))
    assert [len(talk) for talk in talks] == [2, 6, 1 + 2 * LONGEST]
    for user, talk in zip(users, talks, strict=True):
        assert [m.role for m in talk] == (["user", "assistant"] * LONGEST + ["user"])[: len(talk)]
        assert [m.content for m in talk if m.role == "assistant"] == user.heard
        assert all(m.content.startswith(user.name) for m in talk if m.role == "user")


def test_no_two_exchanges_share_their_luck() -> None:
    """The n-th exchange samples with seed + n, and exchanges nobody takes part in are not held."""
    model = Seeds({})
    hold(model, [Patient("ann", 1)], Sampling(seed=5))
    assert model.seen == [5, 6]

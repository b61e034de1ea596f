"""How much likelier a model finds the preferred answer than the rejected one. Report it as a change: it is no rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from daemon.models.base import Checkpoint, Generator, ignore
from policies.behaviors import Probe
from policies.records import ChatMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """Log-probability of the preferred minus that of the rejected answer of one probe, end of turn included.

    `total` is in nats; `per_token` divides each answer by its own tokens first, so that length does not decide.
    """

    probe: str
    total: float
    per_token: float


def margins(model: Generator, probes: Sequence[Probe], checkpoint: Checkpoint = ignore) -> list[Margin]:
    """One per probe, in order. Raises ValueError for a probe that has not both answers."""
    pairs = []
    for probe in probes:
        if not (probe.preferred and probe.rejected):
            raise ValueError(f"probe {probe.id} has no preferred and rejected answers to compare")
        prompt = (ChatMessage(role="user", content=probe.prompt),)
        pairs += [(prompt, probe.preferred), (prompt, probe.rejected)]
    scores = model.logprobs(pairs, checkpoint)
    return [
        Margin(
            probe=probe.id,
            total=sum(good) - sum(bad),
            per_token=sum(good) / len(good) - sum(bad) / len(bad),
        )
        for probe, good, bad in zip(probes, scores[::2], scores[1::2], strict=True)
    ]

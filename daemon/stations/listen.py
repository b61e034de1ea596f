"""Listen: log messages become turns, surfaced memory nodes, and training signals per eligible turn.

This is light work and happens as soon as a log grows (`hear`). As a stage of a cycle it lets the simulated user talk,
where that is configured, and then reads the logs once more so that the cycle works on all there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from daemon.events import Job, JobFinished, Stage
from daemon.stations.base import NOTHING, Plan, View, folder_of
from policies.listen.signals import signals
from policies.listen.turns import exchanges
from policies.records import Message, Signal, Surfacing, Turn, content_id


class Listen:
    """The listening station."""

    name: ClassVar[Stage] = "listen"

    def plan(self, view: View) -> Plan:
        """Let the simulated user talk to the serving adapter, or just read what is there."""
        traffic = view.config.traffic
        if not traffic.enabled:
            return Plan(rescan=True)
        job = Job.make(
            "traffic.simulate",
            lane="serve",
            cycle=view.cycle,
            folder=str(view.config.state / "logs" / "simulated"),
            name=f"cycle-{view.cycle:06d}.jsonl",
            conversations=traffic.conversations,
            mix=traffic.mix,
            seed=view.rng("traffic").randrange(2**31),
            adapter=view.serving,
            adapter_folder=folder_of(view, view.serving),
            temperature=view.config.serve.temperature,
            max_tokens=view.config.model.max_tokens,
            now=view.now,
        )
        return Plan(jobs=(job,))

    def absorb(self, done: JobFinished, view: View) -> Plan:
        """The simulated user's log is written: read it before the stage ends."""
        return Plan(rescan=True, happenings=({"event": "traffic", **done.result.notes},))

    def hear(self, fresh: Sequence[Message], view: View) -> Plan:
        """What new messages mean. Their conversations are read whole, so that replaying anything is harmless."""
        conversations = dict.fromkeys(message.conversation for message in fresh)
        if not conversations:
            return NOTHING
        records: list[Turn | Surfacing | Signal] = []
        last: Turn | None = None
        for conversation in conversations:
            messages = view.store.find(Message, conversation=conversation, order_by="order")
            for heard in exchanges(messages, context_turns=view.config.intake.context_turns):
                if view.store.get(Turn, heard.turn.id) is not None:
                    continue
                last = heard.turn
                records.append(heard.turn)
                records += self._surface(heard.turn, heard.reaction, view)
                records += signals(heard.turn, heard.reaction, view.behaviors.values())
        if last is None:
            return NOTHING
        new_turns = sum(isinstance(r, Turn) for r in records)
        heard_signals = [r for r in records if isinstance(r, Signal)]
        return Plan(
            records=tuple(records),
            happenings=(
                {
                    "event": "heard",
                    "turns": new_turns,
                    "eligible": _count(heard_signals, failed=None),
                    "failures": _count(heard_signals, failed=True),
                    "surfaced": _nodes(records),
                    "user": last.user,
                    "assistant": last.assistant,
                },
            ),
        )

    def _surface(self, turn: Turn, reaction: str | None, view: View) -> list[Surfacing]:
        text = " ".join([turn.user, turn.assistant, reaction or ""])
        limits = view.config.graph
        return [
            Surfacing(id=content_id("surfacing", turn.id, node), turn=turn.id, node=node, score=score, at=turn.at)
            for node, score in view.surfacer.surface(text, limit=limits.surfaced, threshold=limits.threshold)
        ]


def _count(found: Sequence[Signal], *, failed: bool | None) -> dict[str, int]:
    counts: dict[str, int] = {}
    for signal in found:
        if failed is None or signal.failed is failed:
            counts[signal.behavior] = counts.get(signal.behavior, 0) + 1
    return counts


def _nodes(records: Sequence[object]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for record in records:
        if isinstance(record, Surfacing):
            counts[record.node] = counts.get(record.node, 0) + 1
    return counts


RUNNERS: dict[str, object] = {}

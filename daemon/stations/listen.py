"""Listen: log messages become turns, surfaced memory nodes, and training signals per eligible turn.

This is light work and happens as soon as a log grows (`hear`). As a stage of a cycle it lets the simulated user talk,
where that is configured, and then reads the logs once more so that the cycle works on all there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from daemon.events import Job, JobFinished, Stage
from daemon.models import vectors
from daemon.stations.base import NOTHING, Plan, View, folder_of
from policies.listen.signals import signals
from policies.listen.turns import Exchange, exchanges
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
            steering=vectors.files(view.config.state, view.config.serve.steering),
            temperature=view.config.serve.temperature,
            max_tokens=view.config.model.max_tokens,
            now=view.now,
        )
        return Plan(jobs=(job,))

    def absorb(self, done: JobFinished, view: View) -> Plan:
        """The simulated user's log is written: read it before the stage ends."""
        return Plan(rescan=True)

    def hear(self, fresh: Sequence[Message], view: View) -> Plan:
        """What new messages mean. Their conversations are read whole, so that replaying anything is harmless."""
        conversations = dict.fromkeys(message.conversation for message in fresh)
        if not conversations:
            return NOTHING
        records: list[Turn | Surfacing | Signal] = []
        last: Turn | None = None
        for conversation in conversations:
            # in the order in which they arrived: a log's offsets begin anew when it is rotated
            arrived = view.store.find(Message, conversation=conversation, order_by="seq")
            messages = [replace(message, order=place) for place, message in enumerate(arrived)]
            for heard in exchanges(messages, context_turns=view.config.intake.context_turns):
                if view.store.get(Turn, heard.turn.id) is not None:
                    continue
                last = heard.turn
                records.append(heard.turn)
                records += self._surface(heard, view)
                records += signals(heard.turn, heard.reaction, view.behaviors.values())
        if last is None:
            return NOTHING
        told = {"event": "traffic", "user": last.user, "assistant": last.assistant, "adapter": last.adapter,
                "source": last.source}  # fmt: skip
        return Plan(records=tuple(records), happenings=(told,), note=_sum_up(records))

    def _surface(self, heard: Exchange, view: View) -> list[Surfacing]:
        turn, limits = heard.turn, view.config.graph
        return [
            Surfacing(id=content_id("surfacing", turn.id, node), turn=turn.id, node=node, score=score, at=turn.at)
            for node, score in view.surfacer.surface(heard.text, limit=limits.surfaced, threshold=limits.threshold)
        ]


def _sum_up(records: Sequence[object]) -> str:
    """What was heard, in words: turns, and by behaviour the failures among the eligible ones."""
    eligible = Counter(r.behavior for r in records if isinstance(r, Signal))
    failed = Counter(r.behavior for r in records if isinstance(r, Signal) and r.failed)
    rates = ", ".join(f"{name} failed {failed[name]} of {eligible[name]}" for name in sorted(eligible))
    return f"{sum(isinstance(r, Turn) for r in records)} new turns" + (f": {rates}" if rates else "")


RUNNERS: dict[str, object] = {}

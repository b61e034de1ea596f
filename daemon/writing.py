"""Carries out what a station planned: in one transaction what is written, afterwards what is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from daemon.stations.base import Plan
from daemon.store.store import Store
from daemon.store.transaction import Transaction

log = structlog.get_logger("dreamloop.loop")


class Writer:
    """The loop's pen. `tell` reaches whoever watches, `stored` gets records that are new."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float],
        tell: Callable[[Mapping[str, Any]], None],
        stored: Callable[[Sequence[object]], None],
    ) -> None:
        self.store = store
        self.clock = clock
        self.tell = tell
        self.stored = stored

    def write(self, tx: Transaction, plan: Plan) -> None:
        """Everything of the plan that is state."""
        fresh = tx.fresh(*plan.records)
        tx.add(*fresh)
        self.stored(fresh)
        for job in plan.jobs:
            tx.enqueue(job)
        for move in plan.moves:
            self._step(tx, move.adapter, move.after, move.why)
        for key, value in plan.facts.items():
            tx.set_fact(key, value)
        if plan.roll_back:
            self._undo(tx, plan.roll_back)

    def announce(self, plan: Plan) -> None:
        """Everything of the plan that others want to know, once it is written."""
        for happening in plan.happenings:
            self.tell(happening)
        for move in plan.moves:
            self._moved(move.adapter, move.after, move.why)
        if plan.roll_back:
            self._rolled_back(plan.roll_back)

    def move(self, adapter: str, after: str, why: str) -> None:
        """An operator's promotion: one transaction, recorded with its reason."""
        with self.store.transaction() as tx:
            self._step(tx, adapter, after, why)
        self._moved(adapter, after, why)

    def roll_back(self, why: str) -> str | None:
        """Undo the serving adapter's promotion: its parent serves again (None: the base). One transaction."""
        with self.store.transaction() as tx:
            after = self._undo(tx, why)
        self._rolled_back(why)
        return after

    def _step(self, tx: Transaction, adapter: str, after: str, why: str) -> None:
        tx.transition(adapter, after, why, self.clock())
        if after == "serving":
            tx.set_fact("serving_since", self.clock())

    def _undo(self, tx: Transaction, why: str) -> str | None:
        tx.set_fact("serving_since", self.clock())
        return tx.roll_back(why, self.clock())

    def _moved(self, adapter: str, after: str, why: str) -> None:
        log.info("adapter", adapter=adapter, becomes=after, why=why)
        if after == "serving":
            self.tell({"event": "serving", "adapter": adapter, "why": why})

    def _rolled_back(self, why: str) -> None:
        serving = self.store.serving()
        log.warning("rolled back", serving=serving or "base", why=why)
        self.tell({"event": "serving", "adapter": serving, "why": f"rolled back: {why}"})

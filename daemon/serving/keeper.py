"""Keeps the servers at what the store says: looks at them, routes to what was attested, alarms and rolls back.

Every few seconds a light job looks whether each replica serves the serving adapter. What a replica was not seen to
serve since it started is loaded and attested there, and everything is attested again every `serve.attest_minutes`. The
route (what the alias stands for) follows what was seen, never what was asked for.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from daemon.config import Config
from daemon.events import ERRAND, Job, JobFinished
from daemon.loop import Loop
from daemon.models import vectors
from daemon.probes import parity
from daemon.serving.route import SERVING, Route
from daemon.stations.base import Plan, View, folder_of
from policies.records import ATTESTATION, Adapter, Alarm, content_id

log = structlog.get_logger("dreamloop.serve")
EVERY = 5.0  # seconds between two looks
_PATIENT = ("down", "asleep", "full", "forgot", "unknown")  # what passes by itself: nothing to alarm about
TRAINS = "learn.update"  # the job that servers which share a GPU sleep through


class Keeper:
    """`look` makes a View, `route` writes the route, `config` gives the settings in force."""

    def __init__(
        self,
        *,
        loop: Loop,
        look: Callable[[int], View],
        config: Callable[[], Config],
        route: Callable[[Route], None],
        sleeps: bool,
    ) -> None:
        self._loop = loop
        self._look = look
        self._config = config
        self._write = route
        self._sleeps = sleeps
        self._poked = asyncio.Event()
        self._again = False
        self._attested_at: float | None = None
        self._looked_at: float | None = None
        self._rows: list[dict[str, Any]] = []
        self._route: Route | None = None
        self._trouble = ""

    async def run(self) -> None:
        """Look until cancelled."""
        self.close_route("starting", "the daemon has not looked at the servers yet")
        await self._ask("serve.publish", "train", adapters=self._lineage(), parity=self._pairs())
        while True:
            await self._once()
            self._poked.clear()
            try:
                async with asyncio.timeout(EVERY):
                    await self._poked.wait()
            except TimeoutError:
                continue

    def happened(self, event: Mapping[str, Any]) -> None:
        """Something that the servers must follow: another adapter serves, or training begins or ends beside them."""
        if event["event"] == "serving":
            self._poked.set()
        elif event["event"] == "job" and event.get("kind") == TRAINS and self._sleeps:
            if event["state"] == "started":
                self.close_route("asleep", "the servers sleep while the trainer has the GPU")
            else:
                self._again = True
                self._poked.set()

    def close_route(self, state: str, why: str) -> None:
        """Nothing goes through for now."""
        self._set(Route(alias=self._config().serve.alias, state=state, why=why))

    def status(self) -> dict[str, Any]:
        """For `dreamctl status`: each replica, and what the alias stands for."""
        route = self._route
        return {
            "replicas": self._rows,
            "attested_at": self._attested_at,
            "looked_at": self._looked_at,
            "alias": {"name": route.alias, "model": route.model, "state": route.state, "why": route.why}
            if route
            else None,
        }

    def problems(self) -> list[str]:
        """What is wrong, in words."""
        bad = [row for row in self._rows if row["state"] != "attested"]
        told = [f"{row['state']}: {row['why']}" for row in bad]
        return [*told, self._trouble] if self._trouble else told

    # --- one look

    async def _once(self) -> None:
        config, now = self._config(), self._loop.clock()
        view = self._look(0)
        again = self._again or (
            self._attested_at is not None and now - self._attested_at >= 60 * config.serve.attest_minutes
        )
        done = await self._ask(
            "serve.look",
            "serve",
            adapter=view.serving,
            adapter_folder=folder_of(view, view.serving),
            keep=self._kept(view),
            again=again,
            steering=vectors.files(config.state, config.serve.steering),
        )
        if done is None or self._loop.store.serving() != view.serving:
            self._poked.set() if done is not None else None  # another one serves by now: look at that
            return
        self._looked_at = now
        self._rows = list(done.result.notes["replicas"])
        states = {row["state"] for row in self._rows}
        if "attested" in states and (again or self._attested_at is None):
            self._attested_at, self._again = now, False
        self._loop.tell({"event": "served", "replicas": self._rows, "at": self._attested_at})
        self._follow(view, done.result.notes)
        if "unpublished" in states:
            await self._ask("serve.publish", "train", adapters=self._lineage(), parity=self._pairs())

    def _follow(self, view: View, notes: Mapping[str, Any]) -> None:
        """Route to what was attested; alarm about what is served wrongly, roll back where nobody serves it right."""
        urls = tuple(row["url"] for row in self._rows if row["state"] == "attested")
        address, trouble = notes["address"], notes["trouble"]
        self._trouble = f"{trouble[0]}: {trouble[1]}" if trouble else ""
        alias = self._config().serve.alias
        if address and urls:
            self._set(Route(alias=alias, urls=urls, state=SERVING, **address))
        else:
            worst = next((row for row in self._rows if row["state"] not in _PATIENT), self._rows[0])
            state, why = trouble or (worst["state"], worst["why"])
            self._set(Route(alias=alias, state=state, why=why))
        wrong = [row for row in self._rows if row["state"] == "mismatch"]
        fresh = [alarm for row in wrong if (alarm := self._alarm(view, row)) is not None]
        nobody = bool(wrong) and not urls and view.serving is not None
        if fresh or nobody:
            why = f"{wrong[0]['url']}: {wrong[0]['why']}"
            self._loop.carry_out(
                Plan(
                    records=tuple(fresh),
                    roll_back=f"not served as trained: {why}" if nobody else "",
                    happenings=tuple(
                        {"event": "alarm", "channel": ATTESTATION, "behavior": "", "adapter": alarm.adapter,
                         "e_value": alarm.e_value, "threshold": alarm.threshold, "why": why}
                        for alarm in fresh
                    ),
                )
            )  # fmt: skip

    def _alarm(self, view: View, row: Mapping[str, Any]) -> Alarm | None:
        """One per adapter, replica and start of it. Its "e-value" is the distance, its threshold the tolerance."""
        id = content_id("alarm", ATTESTATION, view.serving, row["url"], row["started"])
        if view.store.get(Alarm, id) is not None:
            return None
        return Alarm(
            id=id,
            channel=ATTESTATION,
            behavior="",
            adapter=view.serving,
            e_value=min(row["apart"] or 0.0, 1e9),
            threshold=self._config().judge.parity_tolerance,
            cycle=view.cycle,
            at=view.now,
        )

    def _set(self, route: Route) -> None:
        if route != self._route:
            self._route = route
            log.info("route", alias=route.alias, model=route.model, state=route.state, why=route.why)
            self._write(route)

    def _kept(self, view: View) -> list[str | None]:
        """What stays loaded besides the serving adapter: its parent, to go back to, and candidates."""
        serving = view.store.get(Adapter, view.serving) if view.serving else None
        states = view.store.adapter_states()
        names = [serving.parent if serving else None, *(id for id, state in states.items() if state == "trained")]
        return [folder_of(view, name) for name in dict.fromkeys(names)]

    def _lineage(self) -> list[list[str | None]]:
        """The serving adapter and its parent, with what served before each, oldest first."""
        view = self._look(0)
        rows: list[list[str | None]] = []
        name = view.serving
        while name is not None and len(rows) < 2:
            adapter = view.store.get(Adapter, name)
            if adapter is None:
                break
            rows.insert(0, [folder_of(view, name), folder_of(view, adapter.parent)])
            name = adapter.parent
        return rows

    def _pairs(self) -> Sequence[Sequence[str]]:
        return parity.fixed_pairs(self._look(0).behaviors.values())

    async def _ask(self, kind: str, lane: Any, **payload: Any) -> JobFinished | None:
        """A job's result; None when it failed, which is said and tried again with the next look."""
        job = Job.make(kind, lane=lane, cycle=ERRAND, key=uuid.uuid4().hex, **payload)
        try:
            return await self._loop.ask(job)
        except RuntimeError as error:
            self._trouble = f"{kind} failed: {error}"
            log.error("the servers could not be looked at", job=kind, error=str(error))
            return None

"""Keeps the servers at what the store says: looks at them, routes to what was attested, alarms and rolls back.

Every few seconds a light job looks whether each replica serves the serving adapter. What a replica was not seen to
serve since it started is loaded and attested there, and everything is attested again every `serve.attest_minutes`. The
route (what the alias stands for) follows what was seen, never what was asked for; while nothing can be seen it is
closed. Looks have a lane of their own: they wait for nobody's work, and nobody waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from daemon.config import Config
from daemon.errors import DreamloopError
from daemon.events import ERRAND, Job, JobFinished, Lane
from daemon.loop import Loop
from daemon.models import vectors
from daemon.probes import parity
from daemon.serving import outcome
from daemon.serving.backoff import Backoff
from daemon.serving.route import Route
from daemon.stations.base import Plan, View, folder_of
from policies.records import ATTESTATION, Adapter, Alarm

log = structlog.get_logger("dreamloop.serve")
EVERY = 5.0  # seconds between two looks
LONGEST = 30.0  # seconds between two tries of what fails
TRAINS = "learn.update"  # the job that servers which share a GPU sleep through from its beginning to its end
NOT_YET = "the daemon has not looked at the servers yet"


class Keeper:
    """`look` makes a View, `route` writes the route (it may raise OSError), `config` gives the settings in force.

    With `sleeps` the servers sleep while something is trained. `standing` is for a server that the daemon runs: while
    it is not up, its state and why, which says more than that nobody answers there.
    """

    def __init__(
        self,
        *,
        loop: Loop,
        look: Callable[[int], View],
        config: Callable[[], Config],
        route: Callable[[Route], None],
        sleeps: bool,
        standing: Callable[[], tuple[str, str] | None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._look = look
        self._config = config
        self._write = route
        self._sleeps = sleeps
        self._standing = standing
        self._poked = asyncio.Event()
        self._pokes = 0
        self._again = False  # attest anew with the next look: the servers may have slept
        self._looked_at: float | None = None
        self._rows: list[outcome.Row] = []
        self._route: Route | None = None
        self._routed: str | None = None  # the adapter that the route stands for
        self._publishing: asyncio.Future[JobFinished] | None = None
        self._publish_next = True  # who serves may not be published yet
        self._publish_after = 0.0
        self._suspects: set[tuple[str | None, str, float | None]] = set()
        self._troubles: dict[str, str] = {}  # by what went wrong
        self._backoff = Backoff(most=LONGEST)

    def begin(self) -> None:
        """Close the route that an earlier run left, and have the trainer give its word before it does anything else.

        To be called before the loop starts. What it trains meanwhile may need the servers, which need that word.
        """
        self.close_route(outcome.STARTING, NOT_YET)
        self._publish(at_once=False)

    async def run(self) -> None:
        """Look until cancelled. What goes wrong closes the route, is said, and is tried again a little later."""
        while True:
            self._poked.clear()
            pause = EVERY
            try:
                await self._once()
                self._backoff = Backoff(most=LONGEST)
            except Exception as error:
                pause = self._failed(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._poked.wait()

    def poke(self) -> None:
        """Something changed: what a look that is under way sees does not count, and the next one is at once."""
        self._pokes += 1
        self._poked.set()

    def happened(self, event: Mapping[str, Any]) -> None:
        """What the loop tells: the servers follow who serves, how that is steered, and the training beside them."""
        match event["event"]:
            case "serving":
                self._publish_next = True
                self.poke()
            case "advice":
                self.poke()
            case "job" if self._sleeps and event["state"] == "started":
                if event["kind"] == TRAINS:
                    self.close_route(outcome.ASLEEP, "the servers sleep while the trainer has the GPU")
                    self.poke()
            case "job" if self._sleeps:
                self._again = True  # it may have trained something: measuring and experiments do, for a while
                self.poke()

    def close_route(self, state: str, why: str) -> None:
        """Nothing goes through for now."""
        self._set(Route(alias=self._config().serve.alias, state=state, why=why))

    def status(self) -> dict[str, Any]:
        """For `dreamctl status`: each replica, and what the alias stands for."""
        route = self._route
        times = [row["compared_at"] for row in self._rows if row["state"] == outcome.ATTESTED]
        return {
            "replicas": [dict(row) for row in self._rows],
            "attested_at": min(times, default=None),
            "looked_at": self._looked_at,
            "alias": {"name": route.alias, "model": route.model, "state": route.state, "why": route.why}
            if route
            else None,
        }

    def problems(self) -> list[str]:
        """What is wrong, in words."""
        return [*outcome.problems(self._rows), *self._troubles.values()]

    # --- one look

    async def _once(self) -> None:
        if self._publish_next:
            self._publish()
        pokes, training = self._pokes, self._training()
        self._again |= training
        again = self._again and not training
        cycle = self._loop.store.current_cycle()
        view = self._look(cycle.id if cycle else 0)
        done = await self._ask(
            "serve.look",
            "keep",
            adapter=view.serving,
            adapter_folder=folder_of(view, view.serving),
            keep=self._kept(view),
            again=again,
            wake=self._sleeps and not any(job.lane == "train" for job, _ in self._loop.running.values()),
            steering=vectors.files(view.config.state, view.config.serve.steering),
        )
        if pokes != self._pokes:
            return  # of how it was before
        notes = done.result.notes
        rows = [self._known_better(row) for row in notes["replicas"]]
        self._looked_at = self._loop.clock()
        self._troubles.pop("look", None)
        if again and any(row["state"] == outcome.ATTESTED for row in rows):
            self._again = False
        self._tell(rows)
        self._follow(view, rows, notes)
        if self._publishing is None and any(row["state"] == outcome.UNPUBLISHED for row in rows):
            self._publish_next = True
            self.poke()

    def _follow(self, view: View, rows: Sequence[outcome.Row], notes: Mapping[str, Any]) -> None:
        """Route to what was attested; alarm about what is served wrongly, roll back where nobody serves it right."""
        trouble = notes["trouble"]
        self._troubles.pop("asked", None)
        if trouble:
            self._troubles["asked"] = ": ".join(trouble)
        if not self._training():  # then it stays closed, whether they sleep already or not
            self._set(outcome.route(self._config().serve.alias, rows, notes["address"], trouble), view.serving)
        wrong = self._confirmed(view.serving, [row for row in rows if row["state"] in outcome.WRONG])
        alarms = [
            (
                outcome.alarm(
                    row,
                    adapter=view.serving,
                    tolerance=view.config.judge.parity_tolerance,
                    cycle=view.cycle,
                    at=view.now,
                ),
                row["why"],
            )
            for row in wrong
        ]
        fresh = [(alarm, why) for alarm, why in alarms if view.store.get(Alarm, alarm.id) is None]
        taken_back = [row["why"] for row in wrong if row["state"] == outcome.MISMATCH]
        if view.serving is None or any(row["state"] == outcome.ATTESTED for row in rows):
            taken_back = []
        if fresh or taken_back:
            self._loop.carry_out(
                Plan(
                    records=tuple(alarm for alarm, _ in fresh),
                    roll_back=f"not served as trained: {taken_back[0]}" if taken_back else "",
                    happenings=tuple(
                        {"event": "alarm", "channel": ATTESTATION, "behavior": "", "adapter": alarm.adapter,
                         "e_value": alarm.e_value, "threshold": alarm.threshold, "why": why}
                        for alarm, why in fresh
                    ),
                )
            )  # fmt: skip

    def _confirmed(self, adapter: str | None, wrong: Sequence[outcome.Row]) -> list[outcome.Row]:
        """What was wrong in two looks running, each with probes of its own.

        Nothing is routed there from the first on; but a promotion is not undone for one odd answer in thousands.
        """
        before, self._suspects = self._suspects, {(adapter, row["url"], row["started"]) for row in wrong}
        if self._suspects - before:
            self._again = True
            self.poke()
        return [row for row in wrong if (adapter, row["url"], row["started"]) in before]

    def _tell(self, rows: Sequence[outcome.Row]) -> None:
        """Each replica that stands otherwise than before, and for the metrics where all of them stand."""
        before = {row["url"]: row["state"] for row in self._rows}
        self._rows = list(rows)
        for row in rows:
            if before.get(row["url"]) != row["state"]:
                log.info("replica", url=row["url"], state=row["state"], why=row["why"])
                self._loop.tell({"event": "replica", "url": row["url"], "state": row["state"], "why": row["why"]})
        self._loop.tell({"event": "served", "replicas": self._rows})

    def _known_better(self, row: outcome.Row) -> outcome.Row:
        """A server that the daemon runs is down for a reason."""
        standing = self._standing() if row["state"] == outcome.DOWN else None
        return {**row, "state": standing[0], "why": standing[1]} if standing else row

    def _set(self, route: Route, adapter: str | None = None) -> None:
        if route == self._route:
            return
        self._route = None  # unknown, should it not be written
        try:
            self._write(route)
        except OSError as error:
            if "route" not in self._troubles:
                log.error("the route cannot be written", error=str(error))
            self._troubles["route"] = f"the route cannot be written, so nothing is routed: {error}; free space there"
            return
        self._troubles.pop("route", None)
        self._route, self._routed = route, adapter if route.open else None
        log.info("route", alias=route.alias, model=route.model, state=route.state, why=route.why)

    def _failed(self, error: Exception) -> float:
        """A look that failed says nothing: until the next one does, nothing is routed. Seconds until that."""
        expected = isinstance(error, (DreamloopError, RuntimeError))
        words = str(error) if expected else f"{type(error).__name__}: {error}"
        log.error("the servers could not be looked at", error=words, exc_info=not expected)
        self._troubles["look"] = f"the servers cannot be looked at: {words}"
        self._tell([{**row, "state": outcome.UNKNOWN, "why": words} for row in self._rows])
        self.close_route(outcome.UNKNOWN, self._troubles["look"])
        return self._backoff.after(0.0)

    # --- what jobs are told

    def _training(self) -> bool:
        """Do the servers sleep now, or are they about to?"""
        return self._sleeps and any(job.kind == TRAINS for job, _ in self._loop.running.values())

    def _kept(self, view: View) -> list[str | None]:
        """What stays loaded besides the serving adapter: its parent, to go back to, candidates, and what clients are
        still routed to."""
        serving = view.store.get(Adapter, view.serving) if view.serving else None
        trained = (id for id, state in view.store.adapter_states().items() if state == "trained")
        names = [serving.parent if serving else None, self._routed, *trained]
        return [folder_of(view, name) for name in dict.fromkeys(names)]

    def _publish(self, *, at_once: bool = True) -> None:
        """Have the trainer publish what serves and what it would go back to, where that is not done yet."""
        if self._publishing is not None or self._loop.clock() < self._publish_after:
            return
        view = self._look(0)
        lineage: list[list[str | None]] = []  # with what served before each, oldest first
        adapter = view.store.get(Adapter, view.serving) if view.serving else None
        while adapter is not None and len(lineage) < 2:
            lineage.insert(0, [folder_of(view, adapter.id), folder_of(view, adapter.parent)])
            adapter = view.store.get(Adapter, adapter.parent) if adapter.parent else None
        pairs = parity.fixed_pairs(view.behaviors.values())
        job = _job("serve.publish", "train", adapters=lineage, parity=pairs)
        self._publishing = self._loop.ask(job, at_once=at_once)
        self._publish_next = False
        self._publishing.add_done_callback(self._published)

    def _published(self, done: asyncio.Future[JobFinished]) -> None:
        self._publishing = None
        self._troubles.pop("publish", None)
        if not done.cancelled() and (error := done.exception()) is not None:
            self._troubles["publish"] = f"what serves cannot be published: {error}"
            self._publish_next, self._publish_after = True, self._loop.clock() + LONGEST
        self.poke()

    async def _ask(self, kind: str, lane: Lane, **payload: Any) -> JobFinished:
        """A job's result. Raises RuntimeError with its error when it failed."""
        return await self._loop.ask(_job(kind, lane, **payload))


def _job(kind: str, lane: Lane, **payload: Any) -> Job:
    """A light job: not durable, and none of any cycle."""
    return Job.make(kind, lane=lane, cycle=ERRAND, key=uuid.uuid4().hex, **payload)

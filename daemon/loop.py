"""The loop: one inbox, one writer. Everything that happens arrives here as an event; only this file writes.

A cycle walks through its stages. When a stage begins its station plans, and the stage, its records and its jobs are
written in one transaction; when a job finishes its station absorbs it, and that too is one transaction. The loop can
therefore be killed anywhere: at the next start running jobs are queued again and the cycle goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from daemon.config import Config
from daemon.errors import DreamloopError, StoreError
from daemon.events import (
    ERRAND,
    STAGES,
    CycleDue,
    Event,
    FileRead,
    Job,
    JobFailed,
    JobFinished,
    Progress,
    Stage,
    Stop,
    Wake,
)
from daemon.executors.base import Executor
from daemon.intake.watcher import LogWatcher
from daemon.stations.base import NOTHING, Alone, Companion, Hears, Plan, Station, View, Watches
from daemon.store.errors import IllegalStep, RecordError
from daemon.store.store import Store
from daemon.writing import Writer
from policies.records import Message

log = structlog.get_logger("dreamloop.loop")

ATTEMPTS = 3
BACKOFF_SECONDS = 2.0
BESIDE = "observe."  # jobs beside a stage: what they measure is worth having, but no cycle fails for want of it
SIMULATED = "simulated"  # the folder of the simulated user's logs: its talk is no one's activity
Watcher = Callable[[Mapping[str, Any]], None]


class Loop:
    """Runs cycles until it is told to stop, and errands between their jobs. `look` makes a View of the world; `tell`
    and `stored` reach whoever watches: what happened, and which records are new. `companion` plans what goes along."""

    def __init__(
        self,
        *,
        config: Config,
        store: Store,
        executor: Executor,
        stations: Mapping[Stage, Station],
        watcher: LogWatcher,
        look: Callable[[int], View],
        tell: Watcher,
        stored: Callable[[Sequence[object]], None] = lambda _: None,
        companion: Companion | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.companion: Companion = companion or Alone()
        self.store = store
        self.executor = executor
        self.stations = stations
        self.watcher = watcher
        self.look = look
        self.tell = tell
        self.writer = Writer(store, clock=clock, tell=tell, stored=stored)
        self.clock = clock
        self.inbox: asyncio.Queue[Event] = asyncio.Queue()
        self.progress: dict[str, Progress] = {}
        self.running: dict[str, tuple[Job, float]] = {}
        self.due: deque[CycleDue] = deque()
        self.asks: dict[str, asyncio.Future[JobFinished]] = {}  # jobs somebody waits for (chat): not durable
        self.waiting: deque[Job] = deque()  # such jobs while their lane is busy
        self.limit: int | None = None  # full cycles after which no other begins
        self.finished_cycles = 0
        self.failed_in_a_row = 0
        self.last_activity = clock()
        self.on_cycle_end: Callable[[], None] = lambda: None
        self._note = ""  # what the running stage has to say for itself
        self._paused: set[str] = set(store.fact("paused", []))
        self._aio: asyncio.AbstractEventLoop | None = None
        self.stopping: str | None = None

    # --- how things reach the inbox

    def post(self, event: Event) -> None:
        """Put an event into the inbox, from any thread."""
        self.call(self.inbox.put_nowait, event)  # after the loop has ended nobody wants a worker's last words

    def call(self, act: Callable[..., None], *arguments: object) -> None:
        """Do something on the loop's thread, from any thread."""
        if self._aio is not None and not self._aio.is_closed():
            self._aio.call_soon_threadsafe(act, *arguments)

    def ask(self, job: Job, *, at_once: bool = True) -> asyncio.Future[JobFinished]:
        """Run a job that is no part of a cycle, before what is queued. The future raises RuntimeError when it fails.

        Not `at_once`, it begins with whatever happens next: before `start`, it will be the first job of its lane.
        """
        future: asyncio.Future[JobFinished] = asyncio.get_running_loop().create_future()
        self.asks[job.id] = future
        self.waiting.append(job)
        if at_once:
            self._dispatch()
        return future

    def carry_out(self, plan: Plan) -> None:
        """What somebody beside the stations wants written and told, in one transaction."""
        with self.store.transaction() as tx:
            self.writer.write(tx, plan)
        self.writer.announce(plan)

    def errand(self, job: Job) -> None:
        """Queue a job that somebody asked for: durable, part of no cycle, run before the cycle's next job."""
        with self.store.transaction() as tx:
            tx.enqueue(job, self.clock())
        self._dispatch()

    def cancel(self, job_id: str) -> bool:
        """End an errand at its next checkpoint, or before it has begun; False when it had ended already.

        It is cancelled from now on, whatever its worker still says: it is neither tried again nor found again after a
        crash, and a result that comes in spite of it is not wanted.
        """
        with self.store.transaction() as tx:
            if not tx.cancel(job_id, self.clock()):
                return False
        self.executor.cancel(job_id)
        if (found := self.store.job(job_id)) is not None:
            self.tell({"event": "job", "job": job_id, "kind": found.job.kind, "state": "cancelled"})
        return True

    # --- life

    async def start(self) -> None:
        """Find again what was running when the daemon last ended, and go on with it."""
        self._aio = asyncio.get_running_loop()
        with self.store.transaction() as tx:
            again = tx.requeue_running(self.clock())
        if again:
            log.info("resuming", jobs=[job.kind for job in again])
        self.executor.pause(bool(self._paused))
        self._advance()
        self._dispatch()

    async def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Work until Stop arrives or `until()` is true after an event."""
        while self.stopping is None and not until():
            event = await self.inbox.get()
            self._handle(event)
            if not isinstance(event, Progress):  # ten a second, and none of them frees a lane
                self._dispatch()

    def _handle(self, event: Event) -> None:
        match event:
            case Progress():
                self.progress[event.job] = event
                self.tell({"event": "progress", "job": event.job, "kind": event.kind, "done": event.done,
                           "total": event.total, "note": event.note})  # fmt: skip
            case FileRead():
                self.hear(event)
            case JobFinished():
                self._finished(event)
            case JobFailed():
                self._failed(event)
            case CycleDue():
                if event not in self.due:  # cycles that were missed while one ran or rested are made up for once
                    self.due.append(event)
                self._advance()
            case Wake():
                pass  # dispatching follows every event
            case Stop():
                self.stopping = event.why

    # --- listening: light, never waits for heavy work

    def hear(self, read: FileRead) -> None:
        """Store what was read from a log file together with how far it was read; then let the guard look."""
        if SIMULATED not in Path(read.path).parts:
            self.last_activity = self.clock()
        listen = self.stations["listen"]
        assert isinstance(listen, Hears)
        cycle = self.store.current_cycle()
        view = self.look(cycle.id if cycle else 0)
        try:
            plan = self._keep(read, lambda fresh: listen.hear(fresh, view))
        except StoreError:
            raise
        except Exception as error:  # the messages are kept all the same: a log's words are never lost to a bug here
            log.error("what a log says could not be understood", file=read.path, error=str(error), exc_info=True)
            plan = self._keep(read, lambda fresh: NOTHING)
        self.writer.announce(plan)
        if cycle is not None and cycle.stage == "listen":
            self._note = plan.note or self._note
        for reason in read.skipped:
            log.warning("skipped a line", file=read.path, why=reason)
        if plan.records:
            self._watch(view)

    def _keep(self, read: FileRead, understand: Callable[[Sequence[Message]], Plan]) -> Plan:
        """One transaction: how far the file was read, its messages, and what they mean."""
        with self.store.transaction() as tx:
            tx.file(read.identity, read.path, read.format, read.offset, self.clock())
            fresh = tx.fresh(*read.messages)
            tx.add(*fresh)
            plan = understand(fresh)
            self.writer.write(tx, plan)
        return plan

    def _watch(self, view: View) -> None:
        """Let the guard look at new signals; it may roll back."""
        guard = self.stations["guard"]
        if not isinstance(guard, Watches):
            return
        try:
            with self.store.transaction() as tx:
                plan = guard.heard(view)
                self.writer.write(tx, plan)
        except StoreError:
            raise
        except Exception as error:
            log.error("the guard could not look at new signals", error=str(error), exc_info=True)
            return
        self.writer.announce(plan)

    # --- cycles and stages

    def _advance(self) -> None:
        """Begin the next stage, or the next cycle, whenever nothing of the current stage is left to do."""
        while True:
            cycle = self.store.current_cycle()
            if cycle is None:
                if not self.due or self.enough:
                    return
                due = self.due.popleft()
                with self.store.transaction() as tx:
                    number = tx.open_cycle(due.why, due.stages, self.clock())
                log.info("cycle begins", cycle=number, why=due.why)
                self.tell({"event": "cycle", "cycle": number, "state": "started", "why": due.why, "stages": due.stages})
                continue
            if any(job.state in ("queued", "running") for job in self.store.jobs(cycle=cycle.id)):
                return
            stages = [stage for stage in STAGES if stage in cycle.stages]
            after = sum(STAGES.index(stage) <= STAGES.index(cycle.stage) for stage in stages) if cycle.stage else 0
            if after:
                note, self._note = self._note, ""
                log.info("stage done", cycle=cycle.id, stage=stages[after - 1], note=note)
                ended = {"stage": stages[after - 1], "state": "done", "note": note}
                self.tell({"event": "stage", "cycle": cycle.id, **ended})
            if after == len(stages):
                self._close(cycle.id, "done")
                continue
            self._begin(cycle.id, stages[after])

    def _begin(self, cycle: int, stage: Stage) -> None:
        self._note = ""
        try:
            with self.store.transaction() as tx:
                tx.set_stage(cycle, stage, self.clock())
                view = self.look(cycle)
                plan = self.stations[stage].plan(view)
                self.writer.write(tx, plan)
                self.writer.write(tx, self._beside(stage, view))
        except Exception as error:
            self._broken(cycle, f"{stage} could not plan", error)
            return
        self.tell({"event": "stage", "cycle": cycle, "stage": stage, "state": "started"})
        log.info("stage begins", cycle=cycle, stage=stage)
        self._after(plan)

    def _beside(self, stage: Stage, view: View) -> Plan:
        """What the companion wants while the stage lasts. It is worth having, but no cycle fails for want of it."""
        try:
            return self.companion.beside(stage, view)
        except Exception as error:
            if _fatal(error):
                raise
            log.error("nothing is looked at beside the stage", stage=stage, error=str(error),
                      exc_info=not isinstance(error, DreamloopError))  # fmt: skip
            return NOTHING

    def _broken(self, cycle: int, what: str, error: Exception) -> None:
        """A station failed on what it was given: this cycle ends as failed, with a reason, and the daemon goes on.

        A database that refuses (a full disk, for one) is raised again: there is nothing to go on with.
        """
        if _fatal(error):
            raise error
        bug = not isinstance(error, DreamloopError)
        log.error("cycle broken", cycle=cycle, what=what, error=str(error), exc_info=bug)
        self._close(cycle, "failed", f"{what}: {str(error) or type(error).__name__}")

    def _close(self, cycle: int, state: str, why: str = "") -> None:
        with self.store.transaction() as tx:
            for job in tx.close_cycle(cycle, state, self.clock()):
                self.executor.cancel(job)
        closed = self.store.cycle(cycle)
        if state == "done" and closed is not None and tuple(closed.stages) == STAGES:
            self.finished_cycles += 1
        self.failed_in_a_row = 0 if state == "done" else self.failed_in_a_row + 1
        log.info("cycle ends", cycle=cycle, state=state, why=why)
        self.tell({"event": "cycle", "cycle": cycle, "state": state, "why": why})
        if not self.due:
            self.on_cycle_end()

    @property
    def enough(self) -> bool:
        """Have as many full cycles finished as were asked for?"""
        return self.limit is not None and self.finished_cycles >= self.limit

    # --- jobs

    def _dispatch(self) -> None:
        """Give each free lane its next job: what a person waits for first, then the oldest that is due."""
        for job in list(self.waiting):
            if not self.executor.busy(job.lane):
                self.waiting.remove(job)
                self.executor.submit(job)
        if self._paused:
            return
        now = self.clock()
        cycle = self.store.current_cycle()
        queued = self.store.jobs(cycle=ERRAND, state="queued")
        queued += self.store.jobs(cycle=cycle.id, state="queued") if cycle else []
        for lane in ("train", "serve"):
            self.tell({"event": "queue", "lane": lane, "waiting": sum(row.job.lane == lane for row in queued)})
        for row in queued:
            if row.not_before is not None and row.not_before > now:
                self._wake(row.not_before - now)
            elif not self.executor.busy(row.job.lane):
                with self.store.transaction() as tx:
                    tx.start(row.job.id, now)
                self.running[row.job.id] = (row.job, now)
                self.tell({"event": "job", "job": row.job.id, "kind": row.job.kind, "state": "started"})
                self.executor.submit(row.job)

    def _wake(self, seconds: float) -> None:
        if self._aio is not None:
            self._aio.call_later(seconds + 0.01, self.post, Wake())

    def _finished(self, event: JobFinished) -> None:
        job = event.job
        if (future := self.asks.pop(job.id, None)) is not None:
            if not future.done():
                future.set_result(event)
            return
        self._forget(job.id)
        row = self.store.job(job.id)
        if row is None or row.state != "running":
            return  # cancelled meanwhile: its result is not wanted
        try:
            with self.store.transaction() as tx:
                tx.finish(job.id, self.clock(), dict(event.result.notes))
                plan = self._absorber(job).absorb(event, self.look(job.cycle))
                self.writer.write(tx, plan)
        except Exception as error:
            self._unusable(job, error, event.seconds)
            return
        self.tell({"event": "job", "job": job.id, "kind": job.kind, "state": "done", "seconds": event.seconds})
        self._after(plan)
        self._advance()

    def _failed(self, event: JobFailed) -> None:
        job = event.job
        if (future := self.asks.pop(job.id, None)) is not None:
            if not future.done():
                future.set_exception(RuntimeError(event.error))
            return
        self._forget(job.id)
        row = self.store.job(job.id)
        if row is None or row.state != "running":
            return
        again = event.retryable and not event.cancelled and row.attempts < ATTEMPTS
        now = self.clock()
        with self.store.transaction() as tx:
            if event.cancelled:
                tx.cancel(job.id, now)
            else:
                tx.fail(job.id, now, event.error, now + BACKOFF_SECONDS * 2**row.attempts if again else None)
        log.error("job failed", kind=job.kind, error=event.error, attempt=row.attempts, again=again)
        state = "retrying" if again else "cancelled" if event.cancelled else "failed"
        self.tell({"event": "job", "job": job.id, "kind": job.kind, "state": state, "error": event.error,
                   "seconds": event.seconds})  # fmt: skip
        if not again:
            if self._matters(job):
                self._close(job.cycle, "failed", event.error)
            self._advance()

    def _unusable(self, job: Job, error: Exception, seconds: float) -> None:
        """What a job returned raised: its cycle ends as failed; an errand, or a job beside a stage, fails alone."""
        what = f"what {job.kind} returned could not be used"
        if self._matters(job):
            self._broken(job.cycle, what, error)
            self._advance()
            return
        if _fatal(error):
            raise error
        log.error("job broken", what=what, error=str(error), exc_info=not isinstance(error, DreamloopError))
        why = f"{what}: {str(error) or type(error).__name__}"
        with self.store.transaction() as tx:
            tx.fail(job.id, self.clock(), why)
        self.tell(
            {"event": "job", "job": job.id, "kind": job.kind, "state": "failed", "error": why, "seconds": seconds}
        )
        self._advance()

    def _matters(self, job: Job) -> bool:
        """Does its cycle fail when this job does?"""
        return job.cycle != ERRAND and not job.kind.startswith(BESIDE)

    def _absorber(self, job: Job) -> Station | Companion:
        """Who takes a job's result: traffic is part of listening, stations' jobs carry their station's name."""
        prefix = job.kind.split(".")[0]
        stage = "listen" if prefix == "traffic" else prefix
        return self.stations[stage] if stage in STAGES else self.companion

    def _forget(self, job: str) -> None:
        self.progress.pop(job, None)
        self.running.pop(job, None)

    def _after(self, plan: Plan) -> None:
        self._note = plan.note or self._note
        if plan.rescan:
            for read in self.watcher.scan():
                self.hear(read)
        self.writer.announce(plan)

    # --- pause and resume

    @property
    def paused(self) -> set[str]:
        """Why heavy work rests: "operator", "window"; empty when it does not."""
        return set(self._paused)

    def rest(self, reason: str, resting: bool) -> None:
        """Pause or resume heavy work for a reason; it goes on when no reason is left. Survives a restart."""
        before = set(self._paused)
        (self._paused.add if resting else self._paused.discard)(reason)
        if self._paused == before:
            return
        with self.store.transaction() as tx:
            tx.set_fact("paused", sorted(self._paused & {"operator"}))
        self.executor.pause(bool(self._paused))
        self.tell({"event": "paused", "reasons": sorted(self._paused)})
        self._dispatch()


def _fatal(error: Exception) -> bool:
    """Does the database refuse? Then there is nothing to go on with; a record that does not fit is another matter."""
    return isinstance(error, StoreError) and not isinstance(error, (RecordError, IllegalStep))

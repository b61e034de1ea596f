"""Everything one can write, inside `with store.transaction() as tx`. Nothing of it is kept unless all of it is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Table, insert, update
from sqlalchemy.dialects import postgresql, sqlite

from daemon.events import Job
from daemon.store import schema
from daemon.store.codec import encode, to_plain
from daemon.store.errors import IllegalStep, RecordError
from daemon.store.reads import Reads
from daemon.store.rows import Cycle
from policies.lifecycle import step
from policies.records import Adapter, Batch, Transition, content_id

BOOKKEPT = (Batch, Adapter, Transition)  # adding one of these writes a second table, too
CHUNK = 500  # rows of one INSERT


class Transaction(Reads):
    """One writing transaction. Reads through it, or through the store in the same thread, see its own writes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sqlite = connection.dialect.name == "sqlite"

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        yield self._connection

    # --- records ---

    def add(self, *records: Any) -> int:
        """Write records; those whose id is there already are left as they are. Returns how many were new.

        A new Adapter starts its life as "trained"; a new Batch notes which examples it trains on; a new Transition
        takes effect (see `transition`). Raises RecordError for what is not a record or does not fit its columns.
        """
        return sum(self._add(kind, list(group)) for kind, group in groupby(records, key=type))

    def _add(self, kind: type[Any], records: Sequence[Any]) -> int:
        table = schema.TABLES.get(kind)
        if table is None:
            raise RecordError(
                f"a {kind.__name__} is not a record that is stored by itself; give one of policies.records"
            )
        if kind not in BOOKKEPT:
            rows = [encode(record) for record in records]
            return sum(self._insert(table, rows[i : i + CHUNK]) for i in range(0, len(rows), CHUNK))
        return sum(self._add_bookkept(table, record) for record in records)

    def _add_bookkept(self, table: Table, record: Any) -> int:
        if isinstance(record, Transition):
            if self.get(Transition, record.id) is not None:
                return 0
            self._apply(record)
            return 1
        if not self._insert(table, [encode(record)]):
            return 0
        if isinstance(record, Adapter):
            self._insert(schema.adapter_states, [{"adapter": record.id, "state": "trained", "since": record.at}])
        elif record.examples:
            self._insert(schema.batch_examples, [{"batch": record.id, "example": one} for one in record.examples])
        return 1

    # --- adapters ---

    def transition(self, adapter: str, after: str, why: str, now: float) -> Transition:
        """Take an adapter one step through its life (policies.lifecycle).

        Raises IllegalTransition when the table does not allow it. Promoting one ("serving") retires the one that
        serves now, in this same transaction.
        """
        before = self.adapter_state(adapter)
        record = Transition(
            id=content_id("transition", adapter, self.count(Transition, adapter=adapter), before, after),
            adapter=adapter,
            before=before,
            after=after,
            why=why,
            at=now,
        )
        self._apply(record)
        return record

    def roll_back(self, why: str, now: float) -> str | None:
        """Undo the serving adapter's promotion: it is rolled back and its parent serves again. Returns the parent's
        id (None: the base model). Raises IllegalStep when the base model serves."""
        serving = self.serving()
        if serving is None:
            raise IllegalStep("the base model serves; there is nothing to roll back")
        record = self.get(Adapter, serving)
        self.transition(serving, "rolled_back", why, now)
        parent = record.parent if record else None
        if parent is not None:
            self.transition(parent, "serving", f"its child {serving} was rolled back: {why}", now)
        return parent

    def _apply(self, record: Transition) -> None:
        states = schema.adapter_states
        current = self.adapter_state(record.adapter)
        if current != record.before:
            raise IllegalStep(f"adapter {record.adapter} is {current}, not {record.before}; read its state again")
        step(current, record.after)
        if record.after == "serving" and (serving := self.serving()) is not None:
            self.transition(serving, "retired", f"{record.adapter} was promoted", record.at)
        self._insert(schema.transitions, [encode(record)])
        self._connection.execute(
            update(states).where(states.c.adapter == record.adapter).values(state=record.after, since=record.at)
        )

    # --- jobs ---

    def enqueue(self, job: Job, now: float | None = None) -> bool:
        """Queue a job; one whose id is known already, in whatever state, stays as it is. True when it is new.

        `now` is the time of the entry (default: the clock's).
        """
        row = {
            "id": job.id,
            "kind": job.kind,
            "lane": job.lane,
            "cycle": job.cycle,
            "payload": to_plain(job.payload, dict[str, Any], f"{job.kind}.payload"),
            "state": "queued",
            "attempts": 0,
            "queued_at": time.time() if now is None else now,
            "notes": {},
        }
        return bool(self._insert(schema.jobs, [row]))

    def start(self, job_id: str, now: float) -> None:
        """queued -> running, one attempt more. Raises IllegalStep from any other state."""
        attempts = schema.jobs.c.attempts + 1
        self._step_job(
            job_id, "running", ("queued",), attempts=attempts, started_at=now, finished_at=None, not_before=None
        )

    def finish(self, job_id: str, now: float, notes: Mapping[str, Any] | None = None) -> None:
        """running -> done. Raises IllegalStep from any other state (a job that was cancelled meanwhile, for one).

        A job that has ended, this way or another, keeps no payload: nobody runs it again, and a cycle's are large.
        """
        plain = to_plain(notes or {}, dict[str, Any], f"job {job_id}: notes")
        self._step_job(job_id, "done", ("running",), finished_at=now, notes=plain, error=None)

    def fail(self, job_id: str, now: float, error: str, retry_at: float | None = None) -> None:
        """running or queued -> failed, or back to queued until `retry_at` when that is given."""
        if retry_at is None:
            self._step_job(job_id, "failed", ("running", "queued"), finished_at=now, error=error)
        else:
            self._step_job(job_id, "queued", ("running", "queued"), not_before=retry_at, error=error)

    def cancel(self, job_id: str, now: float) -> bool:
        """queued or running -> cancelled; False when it had ended already."""
        return bool(self._move_job(job_id, "cancelled", ("queued", "running"), finished_at=now))

    def requeue_running(self, now: float) -> list[Job]:
        """After a crash: what was running is queued again, due at once. Returns those jobs."""
        interrupted = [stored.job for stored in self.jobs(state="running")]
        for job in interrupted:
            self._step_job(
                job.id, "queued", ("running",), queued_at=now, not_before=None, error="interrupted: the daemon ended"
            )
        return interrupted

    def _move_job(self, job_id: str, after: str, before: Iterable[str], **values: Any) -> int:
        table = schema.jobs
        if after not in ("queued", "running"):
            values = {"payload": {}, **values}
        statement = update(table).where(table.c.id == job_id, table.c.state.in_(tuple(before)))
        return self._connection.execute(statement.values(state=after, **values)).rowcount

    def _step_job(self, job_id: str, after: str, before: tuple[str, ...], **values: Any) -> None:
        if self._move_job(job_id, after, before, **values):
            return
        stored = self.job(job_id)
        if stored is None:
            raise IllegalStep(f"there is no job {job_id}; it was never queued")
        raise IllegalStep(f"job {job_id} ({stored.job.kind}) is {stored.state} and cannot become {after}")

    # --- cycles ---

    def open_cycle(self, why: str, stages: Iterable[str], now: float) -> int:
        """Begin a cycle; returns its number. Raises IllegalStep while another one is running."""
        current = self.current_cycle()
        if current is not None:
            raise IllegalStep(f"cycle {current.id} is still running ({current.stage}); close it first")
        row = {"why": why, "stages": list(stages), "state": "running", "started": now}
        (number,) = self._connection.execute(insert(schema.cycles).values(row)).inserted_primary_key or (0,)
        return int(number)

    def set_stage(self, cycle: int, stage: str, now: float) -> None:
        """Note that a stage of the running cycle begins."""
        current = self._running(cycle)
        if stage not in current.stages:
            raise IllegalStep(f"cycle {cycle} has no stage {stage!r}; it has {', '.join(current.stages)}")
        table = schema.cycles
        self._connection.execute(update(table).where(table.c.id == cycle).values(stage=stage, stage_began=now))

    def close_cycle(self, cycle: int, state: str, now: float) -> list[str]:
        """End a cycle as "done", "failed" or "cancelled". Returns the ids of the jobs cancelled with it.

        A failed or cancelled cycle's unfinished jobs are cancelled; a cycle that has some is not done (IllegalStep).
        """
        self._running(cycle)
        if state not in ("done", "failed", "cancelled"):
            raise IllegalStep(f"a cycle ends done, failed or cancelled, not {state!r}")
        unfinished = [stored.job.id for stored in self.jobs(state=("queued", "running"), cycle=cycle)]
        if unfinished and state == "done":
            raise IllegalStep(f"cycle {cycle} has {len(unfinished)} unfinished jobs ({unfinished[0]}); it is not done")
        for job_id in unfinished:
            self.cancel(job_id, now)
        table = schema.cycles
        self._connection.execute(update(table).where(table.c.id == cycle).values(state=state, finished=now))
        return unfinished

    def _running(self, cycle: int) -> Cycle:
        found = self.cycle(cycle)
        if found is None:
            raise IllegalStep(f"there is no cycle {cycle}")
        if found.state != "running":
            raise IllegalStep(f"cycle {cycle} is {found.state} already")
        return found

    # --- the rest ---

    def file(self, identity: str, path: str, format: str, offset: int, now: float) -> None:
        """How far a log file is read; commit it together with the turns that came out of it."""
        row = {"identity": identity, "path": path, "format": format, "offset": offset, "updated": now}
        self._upsert(schema.files, row)

    def set_fact(self, key: str, value: Any) -> None:
        """Remember plain data under a key, in place of what was there."""
        self._upsert(schema.facts, {"key": key, "value": to_plain(value, Any, f"fact {key}")})

    def sealed_read(self, who: str, why: str, now: float) -> None:
        """Note that sealed probes were read."""
        self._connection.execute(insert(schema.sealed_reads).values(who=who, why=why, at=now))

    # --- how ---

    def _dialect_insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        return sqlite.insert(table) if self._sqlite else postgresql.insert(table)

    def _insert(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
        """Insert what is not there yet (by id, else by primary key); how many were new. Other violations raise."""
        statement = self._dialect_insert(table).on_conflict_do_nothing(index_elements=_identity(table))
        statement = statement.inline()  # no generated keys are asked for: fetching them loses the row count
        return self._connection.execute(statement, list(rows), execution_options={"preserve_rowcount": True}).rowcount

    def _upsert(self, table: Table, row: Mapping[str, Any]) -> None:
        key = _identity(table)
        statement = self._dialect_insert(table).values(row)
        change = {name: statement.excluded[name] for name in row if name not in key}
        self._connection.execute(statement.on_conflict_do_update(index_elements=key, set_=change))


def _identity(table: Table) -> list[str]:
    return ["id"] if "id" in table.c else [column.name for column in table.primary_key]

"""Everything one can ask the store. `Store` answers from a fresh snapshot, `Transaction` also sees its own writes."""

from __future__ import annotations

import abc
import difflib
import heapq
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import islice
from types import EllipsisType
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, exists, func, or_, select

from daemon.events import Job
from daemon.store import schema
from daemon.store.codec import decode, from_plain
from daemon.store.columns import Json
from daemon.store.errors import RecordError
from daemon.store.rows import Cycle, LogFile, SealedRead, StoredJob, Tally
from policies.records import Example

T = TypeVar("T")
MOST_BOUND = 10_000  # values of one IN; SQLite takes 32766 variables per statement, PostgreSQL 65535


class Reads(abc.ABC):
    """Questions about what is stored. Safe to ask from any thread."""

    @abc.abstractmethod
    def _reading(self) -> AbstractContextManager[Connection]:
        """A connection inside a transaction to read from."""

    # --- records ---

    def get(self, record: type[T], id: str) -> T | None:
        """The record of that type and id, or None."""
        table = _table(record)
        with self._reading() as connection:
            row = connection.execute(select(table).where(table.c.id == id)).mappings().first()
        return None if row is None else decode(record, row)

    def find(
        self,
        record: type[T],
        *,
        order_by: str = "at",
        descending: bool = False,
        limit: int | None = None,
        since: float | None = None,
        **equals: Any,
    ) -> list[T]:
        """The records whose fields equal `equals`; a tuple, list or set means any of them, None means None.

        Sorted by a field (records of one moment, and types without `at`, in the order in which they arrived; "seq"
        asks for that order), the largest first with `descending`; `since` keeps those with at >= since (seconds).
        Raises RecordError for a field that the type does not have.
        """
        table = _table(record)
        if order_by == "at" and "at" not in table.c:
            order_by = "seq"
        key = _column(table, record, order_by)
        wanted = _chunks(equals)
        found: list[Iterator[RowMapping]] = []
        with self._reading() as connection:
            for part in wanted:
                query = select(table).where(*_conditions(table, record, part, since))
                # where None sorts is said, because SQLite and PostgreSQL disagree
                order = (
                    (key.desc().nulls_last(), table.c.seq.desc()) if descending else (key.nulls_first(), table.c.seq)
                )
                query = query.order_by(*order)
                found.append(iter(connection.execute(query.limit(limit)).mappings().all()))
        rows = found[0] if len(found) == 1 else _merge(found, order_by, descending)
        return [decode(record, row) for row in islice(rows, limit)]

    def count(self, record: type[Any], *, since: float | None = None, **equals: Any) -> int:
        """How many records `find` would return."""
        table = _table(record)
        with self._reading() as connection:
            return sum(
                connection.scalar(
                    select(func.count()).select_from(table).where(*_conditions(table, record, part, since))
                )
                or 0
                for part in _chunks(equals)
            )

    def fresh(self, *records: T) -> list[T]:
        """Those of `records` that are not stored yet (by type and id), each once, in order: what `add` would add."""
        known: set[tuple[type[Any], str]] = set()
        by_type: dict[type[Any], list[str]] = {}
        for record in records:
            by_type.setdefault(type(record), []).append(record.id)  # type: ignore[attr-defined]
        with self._reading() as connection:
            for kind, ids in by_type.items():
                column = _column(_table(kind), kind, "id")
                for part in _chunks({"id": ids}):
                    known.update((kind, id) for id in connection.scalars(select(column).where(column.in_(part["id"]))))
        new: list[T] = []
        for record in records:
            if (key := (type(record), record.id)) not in known:  # type: ignore[attr-defined]
                known.add(key)
                new.append(record)
        return new

    def texts(self, record: type[Any], *, field: str = "text", **equals: Any) -> list[str]:
        """One text field of all records of a type, in the order of arrival, without building the records."""
        table = _table(record)
        column = _column(table, record, field)
        query = select(column).where(*_conditions(table, record, equals, None), column.is_not(None))
        with self._reading() as connection:
            return list(connection.scalars(query.order_by(table.c.seq)))

    # --- adapters ---

    def serving(self) -> str | None:
        """The id of the adapter that serves; None is the base model."""
        states = schema.adapter_states
        with self._reading() as connection:
            return connection.scalar(select(states.c.adapter).where(states.c.state == "serving"))

    def adapter_state(self, id: str) -> str:
        """Where an adapter stands in its life (policies.lifecycle). Raises RecordError when there is no such one."""
        states = schema.adapter_states
        with self._reading() as connection:
            state = connection.scalar(select(states.c.state).where(states.c.adapter == id))
        if state is None:
            raise RecordError(f"there is no adapter {id}; `dreamctl adapters` lists them")
        return str(state)

    def adapter_states(self) -> dict[str, str]:
        """Adapter id -> state, oldest adapter first."""
        states, adapters = schema.adapter_states, schema.adapters
        query = select(states.c.adapter, states.c.state).join(adapters, adapters.c.id == states.c.adapter)
        with self._reading() as connection:
            return {row.adapter: row.state for row in connection.execute(query.order_by(adapters.c.seq))}

    # --- training ---

    def trained_example_ids(self, *, promoted: bool = False) -> set[str]:
        """The examples that are in some batch; with `promoted` only in batches whose adapter has ever served."""
        used = schema.batch_examples
        query = select(used.c.example).distinct()
        if promoted:
            query = query.where(_served(used.c.batch))
        with self._reading() as connection:
            return set(connection.scalars(query))

    def untrained_examples(self, limit: int | None = None, *, promoted: bool = False) -> list[Example]:
        """The examples that are in no batch, oldest first; with `promoted`, those of batches that came to nothing
        (their adapter never served) count as untrained, too."""
        table, used = schema.examples, schema.batch_examples
        condition = used.c.example == table.c.id
        if promoted:
            condition &= _served(used.c.batch)
        query = select(table).where(~exists(select(used.c.batch).where(condition)))
        with self._reading() as connection:
            rows = connection.execute(query.order_by(table.c.at, table.c.seq).limit(limit)).mappings().all()
        return [decode(Example, row) for row in rows]

    def failures(self, behavior: str, *, adapter: str | EllipsisType | None = ..., since: float | None = None) -> Tally:
        """Failed and all signals of a behaviour; `adapter` None means the base model, ... (the default) any."""
        table = schema.signals
        query = select(func.count(), func.count().filter(table.c.failed)).where(table.c.behavior == behavior)
        if adapter is not ...:
            query = query.where(table.c.adapter.is_(None) if adapter is None else table.c.adapter == adapter)
        if since is not None:
            query = query.where(table.c.at >= since)
        with self._reading() as connection:
            n, failed = connection.execute(query).one()
        return Tally(failed=failed, n=n)

    # --- the loop ---

    def fact(self, key: str, default: Any = None) -> Any:
        """What `Transaction.set_fact` set (a tuple comes back as a list), else `default`."""
        table = schema.facts
        with self._reading() as connection:
            row = connection.execute(select(table.c.value).where(table.c.key == key)).first()
        return default if row is None else row.value

    def job(self, id: str) -> StoredJob | None:
        """The job and where it stands, or None."""
        with self._reading() as connection:
            row = connection.execute(select(schema.jobs).where(schema.jobs.c.id == id)).mappings().first()
        return None if row is None else _job(row)

    def jobs(
        self,
        *,
        state: str | tuple[str, ...] | None = None,
        cycle: int | None = None,
        kind: str | None = None,
        due: float | None = None,
    ) -> list[StoredJob]:
        """Jobs in the order in which they were queued; `due` (now) leaves out those that wait for a later retry."""
        table = schema.jobs
        query = select(table).order_by(table.c.seq)
        if state is not None:
            query = query.where(table.c.state.in_((state,) if isinstance(state, str) else state))
        if cycle is not None:
            query = query.where(table.c.cycle == cycle)
        if kind is not None:
            query = query.where(table.c.kind == kind)
        if due is not None:
            query = query.where(or_(table.c.not_before.is_(None), table.c.not_before <= due))
        with self._reading() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def cycle(self, id: int) -> Cycle | None:
        """The cycle of that number, or None."""
        return self._cycle(schema.cycles.c.id == id)

    def current_cycle(self) -> Cycle | None:
        """The cycle that is running (there is at most one), or None. After a crash: the one that was interrupted."""
        return self._cycle(schema.cycles.c.state == "running")

    def last_cycle(self) -> Cycle | None:
        """The newest cycle, running or not."""
        return self._cycle(schema.cycles.c.id == select(func.max(schema.cycles.c.id)).scalar_subquery())

    def cycles(self, limit: int | None = None) -> list[Cycle]:
        """Cycles, newest first."""
        table = schema.cycles
        with self._reading() as connection:
            rows = connection.execute(select(table).order_by(table.c.id.desc()).limit(limit)).mappings().all()
        return [decode(Cycle, row) for row in rows]

    def file_offset(self, identity: str) -> int:
        """The byte up to which a log file ("device:inode") was read; 0 for one never seen."""
        found = self.log_file(identity)
        return found.offset if found else 0

    def log_file(self, identity: str) -> LogFile | None:
        """A log file by its identity, or None."""
        table = schema.files
        with self._reading() as connection:
            row = connection.execute(select(table).where(table.c.identity == identity)).mappings().first()
        return None if row is None else decode(LogFile, row)

    def files(self) -> list[LogFile]:
        """Every log file ever read from, by path."""
        table = schema.files
        with self._reading() as connection:
            rows = connection.execute(select(table).order_by(table.c.path, table.c.identity)).mappings().all()
        return [decode(LogFile, row) for row in rows]

    def sealed_reads(self) -> list[SealedRead]:
        """Every time sealed probes were read, oldest first."""
        table = schema.sealed_reads
        with self._reading() as connection:
            rows = connection.execute(select(table).order_by(table.c.seq)).mappings().all()
        return [decode(SealedRead, row) for row in rows]

    def _cycle(self, condition: ColumnElement[bool]) -> Cycle | None:
        with self._reading() as connection:
            row = connection.execute(select(schema.cycles).where(condition)).mappings().first()
        return None if row is None else decode(Cycle, row)


def _table(record: type[Any]) -> Table:
    try:
        return schema.TABLES[record]
    except KeyError:
        raise RecordError(f"{getattr(record, '__name__', record)} is not a record that is stored by itself") from None


def _column(table: Table, record: type[Any], name: str) -> Any:
    if name in table.c:
        return table.c[name]
    near = difflib.get_close_matches(name, list(table.c.keys()), n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"its fields: {', '.join(table.c.keys())}"
    raise RecordError(f"{record.__name__} has no field `{name}`; {hint}")


def _conditions(
    table: Table, record: type[Any], equals: dict[str, Any], since: float | None
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for name, value in equals.items():
        column = _column(table, record, name)
        if isinstance(column.type, Json):
            raise RecordError(f"{record.__name__}.{name} is nested and cannot be compared; find by another field")
        if isinstance(value, (tuple, list, set, frozenset)):
            some = column.in_([one for one in value if one is not None])
            conditions.append(or_(some, column.is_(None)) if None in value else some)
        else:
            conditions.append(column.is_(None) if value is None else column == value)
    if since is not None:
        conditions.append(_column(table, record, "at") >= since)
    return conditions


def _chunks(equals: dict[str, Any]) -> list[dict[str, Any]]:
    """`equals` split so that no IN has more values than the databases take; disjoint, so results just add up."""
    for name, value in equals.items():
        if isinstance(value, (tuple, list, set, frozenset)) and len(value) > MOST_BOUND:
            distinct = list(dict.fromkeys(value))
            return [
                part
                for start in range(0, len(distinct), MOST_BOUND)
                for part in _chunks({**equals, name: distinct[start : start + MOST_BOUND]})
            ]
    return [equals]


def _merge(parts: list[Iterator[RowMapping]], order_by: str, descending: bool) -> Iterator[RowMapping]:
    def key(row: RowMapping) -> Any:
        value = row[order_by]
        return (value is not None, 0 if value is None else value, row["seq"])  # as the query sorts

    return heapq.merge(*parts, key=key, reverse=descending)


def _served(batch: ColumnElement[str]) -> ColumnElement[bool]:
    """Has an adapter trained on this batch ever served?"""
    adapters, transitions = schema.adapters, schema.transitions
    query = select(adapters.c.id).join(transitions, transitions.c.adapter == adapters.c.id)
    return exists(query.where(adapters.c.batch == batch, transitions.c.after == "serving"))


def _job(row: RowMapping) -> StoredJob:
    job = Job(id=row["id"], kind=row["kind"], lane=row["lane"], cycle=row["cycle"], payload=row["payload"])
    return StoredJob(
        job=job,
        state=row["state"],
        attempts=row["attempts"],
        not_before=row["not_before"],
        error=row["error"],
        queued_at=row["queued_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        notes=from_plain(row["notes"], dict[str, Any]),
    )

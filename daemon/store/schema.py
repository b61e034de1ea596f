"""The tables. Columns of record tables carry the names of the record's fields; `codec` relies on that and a test
checks it. `seq` is the order of arrival, which breaks ties between records of one moment.

Tables of evidence do not refer to each other by foreign keys on purpose: erasing a conversation must be possible
without erasing what was counted from it. Only what the store itself maintains is bound that way.

Change a table here *and* add a revision in migrations/versions (its __init__ says how); a test compares the two.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, MetaData, Table, text

from daemon.store.columns import Chars, Json, Real
from policies import records

REVISION = "0002"  # the newest revision in migrations/versions

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
BIG = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only in an INTEGER column


def _text(name: str, *, null: bool = False) -> Column[Any]:
    return Column(name, Chars, nullable=null)


def _int(name: str) -> Column[Any]:
    return Column(name, BIG, nullable=False)


def _real(name: str, *, null: bool = False) -> Column[Any]:
    return Column(name, Real, nullable=null)


def _flag(name: str, *, null: bool = False) -> Column[Any]:
    return Column(name, Boolean, nullable=null)


def _json(name: str, *, null: bool = False) -> Column[Any]:
    return Column(name, Json, nullable=null)


def _record(name: str, *columns: Column[Any], index: tuple[str, ...]) -> Table:
    """A record type's table; `index` names columns, "a+b" an index over two."""
    table = Table(
        name,
        metadata,
        Column("seq", BIG, primary_key=True, autoincrement=True),
        Column("id", Chars, nullable=False, unique=True),
        *columns,
    )
    for names in index:
        Index(None, *(table.c[part] for part in names.split("+")))
    return table


messages = _record(
    "messages",
    _text("conversation"),
    _int("order"),
    _text("role"),
    _text("text"),
    _real("at"),
    _text("source"),
    _text("adapter", null=True),
    index=("conversation+order", "at", "adapter"),
)
turns = _record(
    "turns",
    _text("conversation"),
    _int("index"),
    _json("context"),
    _text("user"),
    _text("assistant"),
    _real("at"),
    _text("source"),
    _text("adapter", null=True),
    index=("conversation+index", "at", "adapter"),
)
surfacings = _record(
    "surfacings", _text("turn"), _text("node"), _real("score"), _real("at"), index=("turn", "node", "at")
)
signals = _record(
    "signals",
    _text("turn"),
    _text("behavior"),
    _flag("failed"),
    _text("evidence"),
    _real("at"),
    _text("adapter", null=True),
    index=("turn", "behavior+at", "adapter", "at"),
)
examples = _record(
    "examples",
    _text("origin"),
    _text("behavior", null=True),
    _json("prompt"),
    _text("target"),
    _text("rejected", null=True),
    _text("source"),
    _real("at"),
    _int("cycle"),
    index=("origin", "behavior", "source", "at", "cycle"),
)
seeds = _record(
    "seeds",
    _text("behavior"),
    _text("kind"),
    _text("node"),
    _json("memories"),
    _text("band"),
    _int("cycle"),
    index=("behavior", "cycle"),
)
dreams = _record(
    "dreams",
    _text("seed"),
    _text("behavior"),
    _text("kind"),
    _text("band"),
    _text("text"),
    _real("temperature"),
    _text("adapter", null=True),
    _int("cycle"),
    _real("at"),
    index=("seed", "behavior", "adapter", "cycle", "at"),
)
difficulties = _record(
    "difficulties", _text("dream"), _real("predicted"), _text("classifier"), _real("at"), index=("dream", "at")
)
outcomes = _record(
    "outcomes",
    _text("dream"),
    _text("adapter", null=True),
    _int("attempt"),
    _text("answer"),
    _flag("passed", null=True),
    _text("reason"),
    _text("judge"),
    _real("at"),
    index=("dream", "adapter", "at"),
)
batches = _record(
    "batches",
    _json("examples"),
    _text("parent", null=True),
    _int("cycle"),
    _flag("placebo"),
    _real("at"),
    index=("cycle", "at"),
)
adapters = _record(
    "adapters",
    _text("parent", null=True),
    _json("recipe"),
    _text("batch"),
    _text("folder"),
    _int("cycle"),
    _real("loss"),
    _int("tokens"),
    _real("seconds"),
    _real("at"),
    index=("parent", "batch", "cycle", "at"),
)
measurements = _record(
    "measurements",
    _text("probe"),
    _text("adapter", null=True),
    _text("behavior"),
    _text("kind"),
    _text("band"),
    _text("split"),
    _real("value"),
    _real("low"),
    _real("high"),
    _int("n"),
    _json("items"),
    _json("values"),
    _int("cycle"),
    _real("at"),
    index=("probe+at", "adapter", "behavior", "cycle", "at"),
)
verdicts = _record(
    "verdicts",
    _text("adapter"),
    _text("parent", null=True),
    _text("decision"),
    _json("reasons"),
    _json("evidence"),
    _int("cycle"),
    _real("at"),
    index=("adapter", "cycle", "at"),
)
transitions = _record(
    "transitions",
    Column("adapter", Chars, ForeignKey("adapters.id"), nullable=False),
    _text("before"),
    _text("after"),
    _text("why"),
    _real("at"),
    index=("adapter", "at"),
)
alarms = _record(
    "alarms",
    _text("channel"),
    _text("behavior"),
    _text("adapter", null=True),
    _real("e_value"),
    _real("threshold"),
    _int("cycle"),
    _real("at"),
    index=("behavior", "adapter", "cycle", "at"),
)
findings = _record(
    "findings",
    _text("question"),
    _text("behavior"),
    _text("adapter", null=True),
    _text("size"),
    _text("verdict"),
    _text("sentence"),
    _real("estimate", null=True),
    _real("low", null=True),
    _real("high", null=True),
    _int("n"),
    _real("seconds"),
    _json("evidence"),
    _real("at"),
    index=("question+at", "adapter", "at"),
)
advice = _record(
    "advice",
    _text("finding"),
    _text("key"),
    _text("value"),
    _text("evidence"),
    _real("at"),
    index=("finding", "at"),
)
advice_steps = _record(
    "advice_steps",
    _text("advice"),
    _text("step"),
    _text("by"),
    _text("before"),
    _real("at"),
    index=("advice", "at"),
)
quarantines = _record("quarantines", _text("source"), _text("reason"), _real("at"), index=("source", "at"))

TABLES: dict[type[Any], Table] = {
    records.Message: messages,
    records.Turn: turns,
    records.Surfacing: surfacings,
    records.Signal: signals,
    records.Example: examples,
    records.Seed: seeds,
    records.Dream: dreams,
    records.Difficulty: difficulties,
    records.Outcome: outcomes,
    records.Batch: batches,
    records.Adapter: adapters,
    records.Measurement: measurements,
    records.Verdict: verdicts,
    records.Transition: transitions,
    records.Alarm: alarms,
    records.Finding: findings,
    records.Advice: advice,
    records.AdviceStep: advice_steps,
    records.Quarantine: quarantines,
}

# --- what the store keeps beside the records ---

batch_examples = Table(
    "batch_examples",
    metadata,
    Column("batch", Chars, ForeignKey("batches.id"), primary_key=True),
    Column("example", Chars, primary_key=True, index=True),
)
adapter_states = Table(  # where each adapter stands now; `transitions` is how it got there
    "adapter_states",
    metadata,
    Column("adapter", Chars, ForeignKey("adapters.id"), primary_key=True),
    _text("state"),
    _real("since"),
)
Index(  # at most one adapter serves, whatever a caller does
    "uq_adapter_states_serving", adapter_states.c.state, unique=True,
    sqlite_where=text("state = 'serving'"), postgresql_where=text("state = 'serving'"),
)  # fmt: skip
files = Table(
    "files",
    metadata,
    Column("identity", Chars, primary_key=True),
    _text("path"),
    _text("format"),
    _int("offset"),
    _real("updated"),
)
jobs = _record(
    "jobs",
    _text("kind"),
    _text("lane"),
    _int("cycle"),
    _json("payload"),
    _text("state"),
    _int("attempts"),
    _real("not_before", null=True),
    _text("error", null=True),
    _real("queued_at"),
    _real("started_at", null=True),
    _real("finished_at", null=True),
    _json("notes"),
    index=("state", "cycle"),
)
cycles = Table(
    "cycles",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    _text("why"),
    _json("stages"),
    _text("stage", null=True),
    _real("stage_began", null=True),
    _text("state"),
    _real("started"),
    _real("finished", null=True),
    sqlite_autoincrement=True,  # a cycle's number is never given twice
)
Index(  # one cycle at a time
    "uq_cycles_running", cycles.c.state, unique=True,
    sqlite_where=text("state = 'running'"), postgresql_where=text("state = 'running'"),
)  # fmt: skip
sealed_reads = Table(
    "sealed_reads",
    metadata,
    Column("seq", BIG, primary_key=True, autoincrement=True),
    _text("who"),
    _text("why"),
    _real("at"),
)
facts = Table("facts", metadata, Column("key", Chars, primary_key=True), _json("value", null=True))

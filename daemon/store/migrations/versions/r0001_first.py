"""The first tables: the nouns of the loop, and what the store keeps beside them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "messages",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("conversation", sa.Text(), nullable=False),
        sa.Column("order", BIG, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("adapter", sa.Text()),
    )
    op.create_index("ix_messages_adapter", "messages", ["adapter"])
    op.create_index("ix_messages_at", "messages", ["at"])
    op.create_index("ix_messages_conversation_order", "messages", ["conversation", "order"])
    op.create_table(
        "turns",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("conversation", sa.Text(), nullable=False),
        sa.Column("index", BIG, nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("assistant", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("adapter", sa.Text()),
    )
    op.create_index("ix_turns_adapter", "turns", ["adapter"])
    op.create_index("ix_turns_at", "turns", ["at"])
    op.create_index("ix_turns_conversation_index", "turns", ["conversation", "index"])
    op.create_table(
        "surfacings",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("turn", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_index("ix_surfacings_at", "surfacings", ["at"])
    op.create_index("ix_surfacings_node", "surfacings", ["node"])
    op.create_index("ix_surfacings_turn", "surfacings", ["turn"])
    op.create_table(
        "signals",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("turn", sa.Text(), nullable=False),
        sa.Column("behavior", sa.Text(), nullable=False),
        sa.Column("failed", sa.Boolean(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("adapter", sa.Text()),
    )
    op.create_index("ix_signals_adapter", "signals", ["adapter"])
    op.create_index("ix_signals_at", "signals", ["at"])
    op.create_index("ix_signals_behavior_at", "signals", ["behavior", "at"])
    op.create_index("ix_signals_turn", "signals", ["turn"])
    op.create_table(
        "examples",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("behavior", sa.Text()),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("rejected", sa.Text()),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("cycle", BIG, nullable=False),
    )
    op.create_index("ix_examples_at", "examples", ["at"])
    op.create_index("ix_examples_behavior", "examples", ["behavior"])
    op.create_index("ix_examples_cycle", "examples", ["cycle"])
    op.create_index("ix_examples_origin", "examples", ["origin"])
    op.create_index("ix_examples_source", "examples", ["source"])
    op.create_table(
        "seeds",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("behavior", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("memories", sa.Text(), nullable=False),
        sa.Column("band", sa.Text(), nullable=False),
        sa.Column("cycle", BIG, nullable=False),
    )
    op.create_index("ix_seeds_behavior", "seeds", ["behavior"])
    op.create_index("ix_seeds_cycle", "seeds", ["cycle"])
    op.create_table(
        "dreams",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("seed", sa.Text(), nullable=False),
        sa.Column("behavior", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("band", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("temperature", sa.Double(), nullable=False),
        sa.Column("adapter", sa.Text()),
        sa.Column("cycle", BIG, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_index("ix_dreams_adapter", "dreams", ["adapter"])
    op.create_index("ix_dreams_at", "dreams", ["at"])
    op.create_index("ix_dreams_behavior", "dreams", ["behavior"])
    op.create_index("ix_dreams_cycle", "dreams", ["cycle"])
    op.create_index("ix_dreams_seed", "dreams", ["seed"])
    op.create_table(
        "difficulties",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("dream", sa.Text(), nullable=False),
        sa.Column("predicted", sa.Double(), nullable=False),
        sa.Column("classifier", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_index("ix_difficulties_at", "difficulties", ["at"])
    op.create_index("ix_difficulties_dream", "difficulties", ["dream"])
    op.create_table(
        "outcomes",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("dream", sa.Text(), nullable=False),
        sa.Column("adapter", sa.Text()),
        sa.Column("attempt", BIG, nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("passed", sa.Boolean()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("judge", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_index("ix_outcomes_adapter", "outcomes", ["adapter"])
    op.create_index("ix_outcomes_at", "outcomes", ["at"])
    op.create_index("ix_outcomes_dream", "outcomes", ["dream"])
    op.create_table(
        "batches",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("examples", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text()),
        sa.Column("cycle", BIG, nullable=False),
        sa.Column("placebo", sa.Boolean(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_index("ix_batches_at", "batches", ["at"])
    op.create_index("ix_batches_cycle", "batches", ["cycle"])
    op.create_table(
        "adapters",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("parent", sa.Text()),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("batch", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("cycle", BIG, nullable=False),
        sa.Column("loss", sa.Double(), nullable=False),
        sa.Column("tokens", BIG, nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_index("ix_adapters_at", "adapters", ["at"])
    op.create_index("ix_adapters_batch", "adapters", ["batch"])
    op.create_index("ix_adapters_cycle", "adapters", ["cycle"])
    op.create_index("ix_adapters_parent", "adapters", ["parent"])
    op.create_table(
        "measurements",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("probe", sa.Text(), nullable=False),
        sa.Column("adapter", sa.Text()),
        sa.Column("behavior", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("band", sa.Text(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=False),
        sa.Column("high", sa.Double(), nullable=False),
        sa.Column("n", BIG, nullable=False),
        sa.Column("items", sa.Text(), nullable=False),
        sa.Column("values", sa.Text(), nullable=False),
        sa.Column("cycle", BIG, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_index("ix_measurements_adapter", "measurements", ["adapter"])
    op.create_index("ix_measurements_at", "measurements", ["at"])
    op.create_index("ix_measurements_behavior", "measurements", ["behavior"])
    op.create_index("ix_measurements_cycle", "measurements", ["cycle"])
    op.create_index("ix_measurements_probe_at", "measurements", ["probe", "at"])
    op.create_table(
        "verdicts",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("adapter", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text()),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("cycle", BIG, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_index("ix_verdicts_adapter", "verdicts", ["adapter"])
    op.create_index("ix_verdicts_at", "verdicts", ["at"])
    op.create_index("ix_verdicts_cycle", "verdicts", ["cycle"])
    op.create_table(
        "transitions",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("adapter", sa.Text(), sa.ForeignKey("adapters.id"), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_index("ix_transitions_adapter", "transitions", ["adapter"])
    op.create_index("ix_transitions_at", "transitions", ["at"])
    op.create_table(
        "alarms",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("behavior", sa.Text(), nullable=False),
        sa.Column("adapter", sa.Text()),
        sa.Column("e_value", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("cycle", BIG, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_index("ix_alarms_adapter", "alarms", ["adapter"])
    op.create_index("ix_alarms_at", "alarms", ["at"])
    op.create_index("ix_alarms_behavior", "alarms", ["behavior"])
    op.create_index("ix_alarms_cycle", "alarms", ["cycle"])
    op.create_table(
        "findings",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("adapter", sa.Text()),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("estimate", sa.Double()),
        sa.Column("low", sa.Double()),
        sa.Column("high", sa.Double()),
        sa.Column("n", BIG, nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_index("ix_findings_adapter", "findings", ["adapter"])
    op.create_index("ix_findings_at", "findings", ["at"])
    op.create_index("ix_findings_question_at", "findings", ["question", "at"])
    op.create_table(
        "advice",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("finding", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_index("ix_advice_at", "advice", ["at"])
    op.create_index("ix_advice_finding", "advice", ["finding"])
    op.create_table(
        "quarantines",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_index("ix_quarantines_at", "quarantines", ["at"])
    op.create_index("ix_quarantines_source", "quarantines", ["source"])
    op.create_table(
        "batch_examples",
        sa.Column("batch", sa.Text(), sa.ForeignKey("batches.id"), primary_key=True),
        sa.Column("example", sa.Text(), primary_key=True),
    )
    op.create_index("ix_batch_examples_example", "batch_examples", ["example"])
    op.create_table(
        "adapter_states",
        sa.Column("adapter", sa.Text(), sa.ForeignKey("adapters.id"), primary_key=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
    )
    op.create_index(
        "uq_adapter_states_serving",
        "adapter_states",
        ["state"],
        unique=True,
        sqlite_where=sa.text("state = 'serving'"),
        postgresql_where=sa.text("state = 'serving'"),
    )
    op.create_table(
        "files",
        sa.Column("identity", sa.Text(), primary_key=True),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("offset", BIG, nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("cycle", BIG, nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", BIG, nullable=False),
        sa.Column("not_before", sa.Double()),
        sa.Column("error", sa.Text()),
        sa.Column("queued_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("finished_at", sa.Double()),
        sa.Column("notes", sa.Text(), nullable=False),
    )
    op.create_index("ix_jobs_cycle", "jobs", ["cycle"])
    op.create_index("ix_jobs_state", "jobs", ["state"])
    op.create_table(
        "cycles",
        sa.Column("id", BIG, primary_key=True, autoincrement=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("stages", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text()),
        sa.Column("stage_began", sa.Double()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started", sa.Double(), nullable=False),
        sa.Column("finished", sa.Double()),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_cycles_running",
        "cycles",
        ["state"],
        unique=True,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_table(
        "sealed_reads",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_table(
        "facts",
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("value", sa.Text()),
    )

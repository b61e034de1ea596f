"""Findings say about which behaviour, how much was measured and in what words; what became of an advice is kept.

No finding was ever written before this revision (the experiments came with it), so new columns need no values.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.execute("DELETE FROM findings")
    with op.batch_alter_table("findings") as table:
        table.add_column(sa.Column("behavior", sa.Text(), nullable=False))
        table.add_column(sa.Column("size", sa.Text(), nullable=False))
        table.add_column(sa.Column("sentence", sa.Text(), nullable=False))
        table.add_column(sa.Column("seconds", sa.Double(), nullable=False))
    op.create_table(
        "advice_steps",
        sa.Column("seq", BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("advice", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_index("ix_advice_steps_advice", "advice_steps", ["advice"])
    op.create_index("ix_advice_steps_at", "advice_steps", ["at"])

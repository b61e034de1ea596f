"""Three descriptions of the same tables agree: the records, the schema, and what the migrations build."""

from __future__ import annotations

import dataclasses
import re
from importlib import resources
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import BigInteger, Boolean

from daemon.store import Store
from daemon.store.codec import hints, optional, scalar
from daemon.store.columns import Chars, Json, Real
from daemon.store.migrate import known
from daemon.store.schema import REVISION, TABLES, metadata
from policies import records

NESTED = {records.ChatMessage, records.Judgement, records.Recipe}
COLUMN = {str: Chars, int: BigInteger, float: Real, bool: Boolean, None: Json}


def test_every_record_type_has_a_table() -> None:
    """A record type that is added to policies.records and forgotten here fails this test."""
    every = {value for value in vars(records).values() if dataclasses.is_dataclass(value)}
    assert every - NESTED == set(TABLES)


@pytest.mark.parametrize("record", TABLES, ids=lambda record: record.__name__)
def test_columns_are_the_fields(record: type[Any]) -> None:
    """A table has exactly the record's fields (and seq), of the right kind, nullable exactly when None is allowed."""
    columns = {column.name: column for column in TABLES[record].columns if column.name != "seq"}
    assert list(columns) == list(hints(record))
    for name, hint in hints(record).items():
        assert isinstance(columns[name].type, COLUMN[scalar(hint)]), name
        assert columns[name].nullable == optional(hint), name


def test_migrations_build_the_schema(store: Store) -> None:
    """A database made by the migrations has the very tables, columns and indexes of schema.py."""
    with store._reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_newest_revision_is_the_one_the_schema_names() -> None:
    """schema.REVISION is the head of the (single) chain of revisions, and file names carry their revisions."""
    config = Config()
    config.set_main_option("script_location", "daemon.store:migrations")
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [REVISION]
    assert known() == {script.revision for script in scripts.walk_revisions()}


def test_the_revisions_do_not_lean_on_the_schema() -> None:
    """A revision is history: it must not change when schema.py does, so it never imports it."""
    folder = resources.files("daemon.store") / "migrations" / "versions"
    for entry in folder.iterdir():
        if entry.name.startswith("r"):
            assert not re.search(r"(?:import|from)\s+(?:daemon|policies)", entry.read_text()), entry.name

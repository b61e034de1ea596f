"""Bring a database to this version's tables. Forward only: a newer database is refused, never touched.

alembic costs some 10 MB of memory, so it is imported only when there is something to migrate.
"""

from __future__ import annotations

from importlib import resources

from sqlalchemy import Connection, Engine, column, inspect, select, table
from sqlalchemy.exc import DatabaseError

from daemon.errors import StoreError
from daemon.store.schema import REVISION

_VERSION = table("alembic_version", column("version_num"))


def revision(connection: Connection) -> str | None:
    """The revision of the tables in the database; None when there are none yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.scalar(select(_VERSION.c.version_num))


def known() -> frozenset[str]:
    """The revisions this version ships: the beginnings of the file names in migrations/versions."""
    folder = resources.files("daemon.store") / "migrations" / "versions"
    return frozenset(
        entry.name.removeprefix("r").split("_")[0] for entry in folder.iterdir() if entry.name.startswith("r")
    )


def migrate(engine: Engine, writing: Engine) -> bool:
    """Bring the database of `engine` to REVISION, in one transaction of `writing`; True if anything was to do.

    Raises StoreError when the database is newer than this program, or cannot be opened.
    """
    where = engine.url.render_as_string()
    try:
        with engine.connect() as connection:
            found = revision(connection)
        if found == REVISION:
            return False
        if found is not None and found not in known():
            raise StoreError(
                f"{where} is at schema revision {found}, which this dreamloop (revision {REVISION}) does not know: "
                "a newer dreamloop wrote it; upgrade dreamloop, or use another --state"
            )
        with writing.begin() as connection:
            _upgrade(connection)
    except DatabaseError as error:
        raise StoreError(f"{where}: cannot be opened: {error.orig}; mend it, or use another --state") from error
    return True


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "daemon.store:migrations")  # found inside a wheel, too
    config.attributes["connection"] = connection
    command.upgrade(config, "head")

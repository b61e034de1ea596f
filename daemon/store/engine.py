"""How to connect: the settings without which a database quietly loses writes.

SQLite with the driver's defaults starts transactions late and keeps 100 of 400 concurrent read-modify-writes without a
word. Here the driver starts none (isolation_level None), and a writing transaction begins with BEGIN IMMEDIATE, which
takes the write lock first; reading ones begin with BEGIN and see one moment. On PostgreSQL an advisory lock held until
the end of the transaction does the same: one writer at a time, readers never wait.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from daemon.errors import StoreError

BUSY_SECONDS = 30.0
ADVISORY_KEY = 0x647265616D6C6F6F  # "dreamloo"; PostgreSQL's advisory locks are 64-bit numbers per database


def parse(url: str) -> URL:
    """The URL, checked. Raises StoreError for one that is no URL or of a database the store does not speak."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(
            f"`store.url` = {url!r} is not a database URL; write sqlite:////path/store.db or "
            "postgresql+psycopg://user@host/database, or leave it empty"
        ) from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise StoreError(
            f"`store.url` = {parsed.render_as_string()!r}: {parsed.get_backend_name()} is not supported; "
            "use sqlite:///... or postgresql+psycopg://..."
        )
    return parsed


def in_memory(url: URL) -> bool:
    """Is this SQLite's database without a file?"""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def build(url: URL) -> Engine:
    """An engine with the settings above. For SQLite the folder is made, readable by its owner only: it holds
    people's conversations.

    Raises StoreError when the driver is missing or the folder cannot be made.
    """
    options: dict[str, Any] = {}
    if in_memory(url):
        options["poolclass"] = StaticPool  # there is only one connection's worth of database
        options["connect_args"] = {"check_same_thread": False}
    elif url.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": BUSY_SECONDS}
        _make_folder(Path(str(url.database)).parent)
    else:
        options["pool_pre_ping"] = True  # a server may have been restarted since the last statement
    try:
        engine = create_engine(url, **options)
    except NoSuchModuleError as error:
        raise StoreError(f"`store.url` = {url.render_as_string()!r}: {error}; use postgresql+psycopg://") from None
    except ModuleNotFoundError as error:
        raise StoreError(
            f"`store.url` = {url.render_as_string()!r} needs {error.name}, which is not installed; "
            "run pip install 'dreamloop[postgres]'"
        ) from None
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "begin", _begin_postgres)
    return engine


def writer(engine: Engine) -> Engine:
    """The same engine (and pool), whose transactions take the write lock at once."""
    return engine.execution_options(dreamloop_writes=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(f"{folder}: cannot make the state folder: {error.strerror}; use another --state") from None


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    # the order matters: switching to WAL may itself have to wait for another process's lock
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")  # with WAL a power cut may lose the last commits, never consistency
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _writes(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("dreamloop_writes"))


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if _writes(connection) else "BEGIN")


def _begin_postgres(connection: Connection) -> None:
    if _writes(connection):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_KEY})")

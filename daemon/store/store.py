"""The store: every record, job and cycle, in one database that survives kill -9. Its URL picks the database.

One thread writes (the loop, by `transaction`), any thread reads. Stations never see this class, only its reading half.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from daemon.errors import StoreError
from daemon.store import engine as engines
from daemon.store.migrate import migrate
from daemon.store.reads import Reads
from daemon.store.transaction import Transaction


class Store(Reads):
    """An open database. Make one with `Store.open`, close it with `close` or use it in a `with`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engines.writer(engine)
        self._local = threading.local()
        # transactions of one process queue here rather than at the database, whose waiting is less fair
        self._one_writer = threading.Lock()
        # a database in memory has one connection only, so there readers wait for the writer, too
        self._one_connection = threading.RLock() if engines.in_memory(engine.url) else nullcontext()

    @classmethod
    def open(cls, url: str) -> Store:
        """Open the database of `url`, making it or migrating it forward as needed.

        sqlite:////absolute/path/store.db (its folder is made), sqlite:// (in memory, for tests), or
        postgresql+psycopg://user@host/database. Raises StoreError when it cannot be opened, and when a newer dreamloop
        wrote it.
        """
        engine = engines.build(engines.parse(url))
        try:
            migrate(engine, engines.writer(engine))
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    def close(self) -> None:
        """Close every connection; the store cannot be used afterwards from any thread."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where the data is, without the password."""
        return self._engine.url.render_as_string()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Write: all of the block or, when it raises, nothing. Other writers wait; readers see it when it is done.

        Raises StoreError when the database refuses (a full disk, for one) and when the thread is in one already.
        """
        if getattr(self._local, "connection", None) is not None:
            raise StoreError("a transaction is open in this thread already; pass it on instead of opening another")
        with self._one_writer, self._one_connection, self._explained(), self._writer.begin() as connection:
            self._local.connection = connection
            try:
                yield Transaction(connection)
            finally:
                self._local.connection = None

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        own: Connection | None = getattr(self._local, "connection", None)
        if own is not None:
            yield own
            return
        with self._one_connection, self._explained(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """The database's errors, as errors a person can read."""
        try:
            yield
        except DatabaseError as error:
            reason = " ".join(str(error.orig).split())
            raise StoreError(f"{self.url}: {reason}; nothing of this transaction was kept") from error
        except SQLAlchemyError as error:
            raise StoreError(f"{self.url}: {error}") from error

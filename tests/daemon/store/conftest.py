"""Stores to test with: SQLite always, PostgreSQL where its binaries are (marker `postgres`)."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from daemon.store import Store
from daemon.store.schema import metadata

NOBODY = 65534  # PostgreSQL refuses to run as root
_numbers = itertools.count()


def _binaries() -> Path | None:
    """The folder with initdb and pg_ctl, or None."""
    found = []
    if config := shutil.which("pg_config"):
        done = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        found.append(Path(done.stdout.strip()))
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).parent)
    return next((folder for folder in found if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL server on a socket of its own; yields the folder of the socket."""
    pytest.importorskip("psycopg", reason="NOT TESTED on PostgreSQL: psycopg is not installed")
    binaries = _binaries()
    if binaries is None:
        pytest.skip("NOT TESTED on PostgreSQL: initdb and pg_ctl are not on this machine")
    folder = Path(tempfile.mkdtemp(prefix="dreamloop-pg-"))  # socket paths must be short: not pytest's tmp_path
    drop: list[str] = []
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]

    def run(*command: str) -> None:
        done = subprocess.run(
            [*drop, *command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert done.returncode == 0, done.stdout

    data = folder / "data"
    run(str(binaries / "initdb"), "-D", str(data), "-A", "trust", "--no-sync", "-U", "dreamloop", "-E", "UTF8")
    options = f"-c listen_addresses='' -k {folder} -c fsync=off -c full_page_writes=off"
    run(str(binaries / "pg_ctl"), "-D", str(data), "-l", str(folder / "log"), "-o", options, "-w", "start")
    try:
        yield str(folder)
    finally:
        run(str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


def _postgres_database(server: str) -> str:
    """The URL of a new database."""
    name = f"test{next(_numbers)}"
    engine = create_engine(f"postgresql+psycopg://dreamloop@/postgres?host={server}", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return f"postgresql+psycopg://dreamloop@/{name}?host={server}"


@pytest.fixture(scope="session")
def migrated(postgres_server: str) -> str:
    """The URL of a database with the tables in it; whoever uses it empties it first."""
    url = _postgres_database(postgres_server)
    Store.open(url).close()
    return url


DATABASES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables: a SQLite file that is not there yet, and a PostgreSQL database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'store.db'}"
    return _postgres_database(request.getfixturevalue("postgres_server"))


@pytest.fixture(params=DATABASES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An open, empty store."""
    if request.param == "sqlite":
        with Store.open(f"sqlite:///{tmp_path / 'state' / 'store.db'}") as opened:
            yield opened
        return
    with Store.open(request.getfixturevalue("migrated")) as opened:
        with opened.transaction() as tx:  # emptying takes a tenth of the time of a new database
            tables = ", ".join(metadata.tables)
            tx._connection.exec_driver_sql(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
        yield opened

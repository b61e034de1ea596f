"""Opening: what is made, what is refused and in which words, and what it costs."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from daemon.errors import StoreError
from daemon.store import Store
from policies.records import Quarantine


def test_the_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    """The state folder of a new store, parents included, is made; nobody else may read conversations in it."""
    with Store.open(f"sqlite:///{tmp_path / 'a' / 'state' / 'store.db'}"):
        assert stat.S_IMODE((tmp_path / "a" / "state").stat().st_mode) == 0o700


def test_a_store_opened_again_has_what_was_written(url: str) -> None:
    """Closing and opening loses nothing, and opening an up-to-date store changes nothing."""
    record = Quarantine(id="a", source="s", reason="r", at=1.0)
    with Store.open(url) as store, store.transaction() as tx:
        tx.add(record)
    with Store.open(url) as store:
        assert store.get(Quarantine, "a") == record


def test_a_newer_database_is_refused_and_left_alone(url: str) -> None:
    """A store that a newer dreamloop wrote is refused with the revision and the remedy, not downgraded."""
    Store.open(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"9999.*a newer dreamloop wrote it.*--state"):
        Store.open(url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "9999"
    engine.dispose()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """A file of something else is named, refused and not overwritten."""
    file = tmp_path / "store.db"
    file.write_bytes(b"my poems\n" * 1000)
    with pytest.raises(StoreError, match=r"store\.db.*not a database"):
        Store.open(f"sqlite:///{file}")
    assert file.read_bytes().startswith(b"my poems")


def test_somebody_elses_tables_are_left_alone(tmp_path: Path) -> None:
    """A database whose tables are in the way is refused, and nothing of the migration stays in it."""
    file = tmp_path / "store.db"
    other = sqlite3.connect(file)
    other.execute("CREATE TABLE jobs (mine TEXT)")
    other.commit()
    with pytest.raises(StoreError, match="jobs already exists"):
        Store.open(f"sqlite:///{file}")
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("jobs",)]
    other.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Where a file is in the way of the state folder, the error names the folder and the remedy."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file.*--state"):
        Store.open(f"sqlite:///{tmp_path / 'file' / 'store.db'}")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("store.db", "not a database URL"),
        ("mysql://somebody:secret@host/x", "not supported"),
        ("postgresql+nothing://somebody:secret@host/x", "use postgresql\\+psycopg"),
        ("postgresql+psycopg://somebody:secret@/x?host=/nowhere", "cannot be opened"),
    ],
)
def test_a_url_that_cannot_work_is_explained_without_its_password(url: str, words: str) -> None:
    """The error says what to write instead, and never repeats a password."""
    with pytest.raises(StoreError, match=words) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)


def test_sqlite_has_its_settings_on_every_connection(tmp_path: Path) -> None:
    """WAL, busy_timeout, foreign keys and synchronous=NORMAL hold for readers and writers."""
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}") as store:
        for context in (store._reading, store._writer.begin):
            with context() as connection:
                settings = [
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
                ]
                assert settings == ["wal", 30000, 1, 1]


def test_opening_an_up_to_date_store_imports_nothing_heavy(tmp_path: Path) -> None:
    """The daemon's main process opens its store without alembic, the ORM or torch."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    Store.open(url).close()
    script = (
        "import sys; from daemon.store import Store; Store.open(sys.argv[1]).close(); "
        "print([name for name in ('alembic', 'sqlalchemy.orm', 'torch', 'numpy', 'pydantic') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", script, url], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

"""Nothing is lost between writers, nothing half-written is seen, and a killed writer leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daemon.errors import StoreError
from daemon.store import Store
from policies.records import Quarantine

INCREMENTS = 25
COUNTER = f"""
import sys
from daemon.store import Store
with Store.open(sys.argv[1]) as store:
    for _ in range({INCREMENTS}):
        with store.transaction() as tx:
            tx.set_fact("counter", tx.fact("counter", 0) + 1)
"""
VICTIM = """
import sys, time
from daemon.store import Store
from policies.records import Quarantine
store = Store.open(sys.argv[1])
with store.transaction() as tx:
    tx.add(Quarantine(id="kept", source="s", reason="", at=0.0))
    tx.file("1:1", "log", "openai", 10, 0.0)
with store.transaction() as tx:
    tx.add(*(Quarantine(id=f"lost{i}", source="s" * 500, reason="", at=0.0) for i in range(5000)))
    tx.file("1:1", "log", "openai", 99, 0.0)
    print("in the middle", flush=True)
    time.sleep(600)
"""


def kept(id: str) -> Quarantine:
    return Quarantine(id=id, source="s", reason="", at=0.0)


def run(script: str, url: str) -> subprocess.Popen[str]:
    """Run a script in another Python that finds the same packages."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", script, url], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_four_threads_lose_no_increment(store: Store) -> None:
    """Four threads that each read, add one and write keep every increment."""

    def count(_: int) -> None:
        for _ in range(INCREMENTS):
            with store.transaction() as tx:
                tx.set_fact("counter", tx.fact("counter", 0) + 1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert store.fact("counter") == 4 * INCREMENTS


def test_four_processes_lose_no_increment(url: str) -> None:
    """Four processes, which all find an empty database and migrate it at once, keep every increment."""
    processes = [run(COUNTER, url) for _ in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    with Store.open(url) as store:
        assert store.fact("counter") == 4 * INCREMENTS


def test_a_killed_writer_leaves_a_whole_database(url: str) -> None:
    """kill -9 in the middle of a transaction: what was committed is there, the rest is not, and writing goes on."""
    process = run(VICTIM, url)
    assert process.stdout and process.stdout.readline() == "in the middle\n", process.communicate()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Store.open(url) as store:
        assert [record.id for record in store.find(Quarantine)] == ["kept"]
        assert store.file_offset("1:1") == 10
        with store.transaction() as tx:
            assert tx.add(kept("after")) == 1
        if url.startswith("sqlite"):
            with store._reading() as connection:
                assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_an_exception_keeps_nothing(store: Store) -> None:
    """When the block raises, none of its writes are kept, and the exception goes on."""
    with pytest.raises(ZeroDivisionError), store.transaction() as tx:
        tx.add(kept("a"))
        tx.set_fact("k", 1 // 0)
    assert (store.count(Quarantine), store.fact("k")) == (0, None)


def test_readers_see_whole_transactions_and_never_wait(store: Store) -> None:
    """While a transaction is open, its thread sees its writes through the store; others read on, without them."""
    with ThreadPoolExecutor(1) as other, store.transaction() as tx:
        tx.add(kept("a"))
        assert (tx.count(Quarantine), store.count(Quarantine)) == (1, 1)
        assert other.submit(store.count, Quarantine).result(timeout=10) == 0
    assert store.count(Quarantine) == 1


def test_a_transaction_inside_another_is_refused(store: Store) -> None:
    """Opening a second one in the same thread would wait for itself forever; it is refused instead."""
    with store.transaction() as tx:
        with pytest.raises(StoreError, match="already"), store.transaction():
            pass
        tx.add(kept("a"))
    assert store.count(Quarantine) == 1


def test_threads_may_read_while_one_writes(store: Store) -> None:
    """Readers in several threads only ever see a number of records that some transaction left."""
    stop = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(store.count(Quarantine))
            time.sleep(0.001)

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for i in range(20):
            with store.transaction() as tx:
                tx.add(*(kept(f"{i}/{j}") for j in range(10)))
        stop.set()
        for reader in readers:
            reader.result()
    assert store.count(Quarantine) == 200
    assert {count % 10 for count in seen} <= {0}


def test_a_database_in_memory_serves_several_threads() -> None:
    """sqlite:// has a single connection; threads take turns on it instead of mixing their transactions."""

    with Store.open("sqlite://") as store:

        def count(_: int) -> None:
            for _ in range(INCREMENTS):
                with store.transaction() as tx:
                    tx.set_fact("counter", tx.fact("counter", 0) + 1)
                assert store.fact("counter") > 0

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(count, range(4)))
        assert store.fact("counter") == 4 * INCREMENTS


def test_a_full_disk_is_an_error_that_keeps_nothing(tmp_path: Path) -> None:
    """When the database cannot grow, the transaction fails with a StoreError, and what was there stays readable."""
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}") as store:
        with store.transaction() as tx:
            tx.add(kept("before"))
        with store._reading() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        with pytest.raises(StoreError, match=r"full.*nothing of this transaction was kept"), store.transaction() as tx:
            tx._connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 5}")
            tx.add(*(Quarantine(id=f"q{i}", source="s" * 1000, reason="", at=0.0) for i in range(500)))
        assert [record.id for record in store.find(Quarantine)] == ["before"]

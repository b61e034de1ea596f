"""The store: one class on SQLAlchemy; the URL picks SQLite or PostgreSQL."""

from daemon.store.errors import IllegalStep, RecordError
from daemon.store.rows import Cycle, CycleState, LogFile, SealedRead, StoredJob, Tally
from daemon.store.store import Store
from daemon.store.transaction import Transaction

__all__ = [
    "Cycle",
    "CycleState",
    "IllegalStep",
    "LogFile",
    "RecordError",
    "SealedRead",
    "Store",
    "StoredJob",
    "Tally",
    "Transaction",
]

"""What the store refuses, and why. Both are StoreErrors, so that the command line shows them as one line."""

from __future__ import annotations

from daemon.errors import StoreError


class RecordError(StoreError):
    """A record, or a question about one, that the store has no column for. The message names type and field."""


class IllegalStep(StoreError):
    """A job, a cycle or an adapter cannot go from the state it is in to the one asked for."""

"""What can be wrong with a log file. None of it stops the daemon: the watcher lists it and goes on."""

from __future__ import annotations

from daemon.errors import DreamloopError


class IntakeProblem(DreamloopError):
    """A log file or folder cannot be read; the message names it and the remedy."""


class UnknownFormat(IntakeProblem):
    """No log format recognises the file, or the configured format does not exist."""

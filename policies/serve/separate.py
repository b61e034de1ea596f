"""Separate: the server has a GPU of its own, or none; nobody makes room for anybody."""

from __future__ import annotations

from policies.serve.sharing import Sharing


def share(memory: float) -> Sharing:
    """No bounds. `memory` is not used.

    >>> share(0.5)
    Sharing(arguments=(), trainer=None, sleep=None, trainer_leaves=False)
    """
    return Sharing()

"""What can be wrong with a memory graph as a whole. Single bad files are listed in `Memory.problems` instead."""

from __future__ import annotations


class GraphUnreadable(ValueError):
    """The memory graph cannot be read; the message names the path and the remedy."""

"""Remembers. The memory graph: strings and keys only; it knows no model and no policy."""

from graph.errors import GraphUnreadable
from graph.memory import BUNDLED, Memory, load
from graph.records import Link, Node

VAULT = BUNDLED

__all__ = ["BUNDLED", "VAULT", "GraphUnreadable", "Link", "Memory", "Node", "load"]

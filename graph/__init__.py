"""Remembers. The memory graph: strings and keys only; it knows no model and no policy."""

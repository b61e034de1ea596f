"""Which examples are fresh: not learned yet by the adapter that serves, and not tried too often in vain.

An example is learned when a batch that holds it belongs to the serving adapter's lineage. A batch whose adapter was
held or rejected taught the serving adapter nothing, so its examples are fresh again; after `chances` batches they are
left alone, since what keeps failing at the gate may be what makes it fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from policies.records import Adapter, Batch, Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """Examples by what training did with them."""

    fresh: tuple[Example, ...]
    learned: tuple[Example, ...]
    given_up: tuple[Example, ...]


def lineage(serving: str | None, find: Callable[[str], Adapter | None]) -> list[str]:
    """The serving adapter and its ancestors, newest first; empty for the base.

    >>> lineage(None, {}.get)
    []
    """
    line: list[str] = []
    at = serving
    while at is not None and at not in line and (adapter := find(at)) is not None:
        line.append(at)
        at = adapter.parent
    return line


def sort(
    examples: Iterable[Example],
    batches: Iterable[Batch],
    adapters: Collection[Adapter],
    serving: str | None,
    *,
    chances: int = 3,
) -> Sorted:
    """Sort examples by the batches they were in; the order of `examples` is kept."""
    ancestors = set(lineage(serving, {adapter.id: adapter for adapter in adapters}.get))
    made = {adapter.batch: adapter.id for adapter in adapters}
    learned: set[str] = set()
    tried: Counter[str] = Counter()
    for batch in batches:
        if batch.id in made:  # a training that failed has shown nothing about its examples
            tried.update(batch.examples)
        if made.get(batch.id) in ancestors:
            learned.update(batch.examples)
    parts: dict[str, list[Example]] = {"fresh": [], "learned": [], "given_up": []}
    for example in examples:
        part = "learned" if example.id in learned else "fresh" if tried[example.id] < chances else "given_up"
        parts[part].append(example)
    return Sorted(**{name: tuple(found) for name, found in parts.items()})

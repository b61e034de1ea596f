"""The placebo: the same training from labels that say nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from policies.records import Example


def shuffle_labels(examples: Sequence[Example], rng: random.Random) -> tuple[Example, ...]:
    """Swap target and rejected answer in exactly half (rounded down) of the rows that have a rejected answer.

    The swaps are spread evenly over origin and behaviour, so that no part keeps its meaning. Rows without a rejected
    answer are unchanged, order and ids are kept. An update from the result must not be promoted.
    """
    strata: dict[tuple[str, str], list[int]] = {}
    for place, example in enumerate(examples):
        if example.rejected is not None:
            strata.setdefault((example.origin, example.behavior or ""), []).append(place)
    swapped: set[int] = set()
    spare: list[int] = []  # the odd one of a stratum: half of these, too
    for key in sorted(strata):
        places = strata[key]
        rng.shuffle(places)
        half = len(places) // 2
        swapped.update(places[:half])
        spare.extend(places[2 * half :])
    rng.shuffle(spare)
    swapped.update(spare[: len(spare) // 2])
    return tuple(_swap(e) if place in swapped else e for place, e in enumerate(examples))


def _swap(example: Example) -> Example:
    assert example.rejected is not None
    return replace(example, target=example.rejected, rejected=example.target)

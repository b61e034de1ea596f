"""What is trained again and again to be compared: a behaviour's examples, and the same with labels that say nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from daemon.errors import CannotAnswer
from daemon.experiments.bench import Bench
from daemon.models.base import TrainingExample
from policies.learn.placebo import shuffle_labels
from policies.records import ChatMessage, Example, Recipe, content_id

MINIMUM = 16  # examples below which there is no training to speak of


def material(bench: Bench, limit: int) -> tuple[Example, ...]:
    """Up to `limit` examples with both answers: the behaviour's target pairs, then what the loop distilled.

    Raises CannotAnswer below 16, naming the behaviour's file.
    """
    pairs = [
        ((ChatMessage(role="user", content=pair.prompt),), pair.preferred, pair.rejected)
        for pair in bench.behavior.pairs
        if pair.kind == "target" and pair.preferred and pair.rejected
    ]
    distilled = [
        (tuple(ChatMessage(role=role, content=text) for role, text in row["prompt"]), row["target"], row["rejected"])
        for row in bench.records.get("examples", ())
        if row["rejected"]
    ]
    found = list(dict.fromkeys([*pairs, *distilled]))[:limit]
    name = bench.behavior.name
    if len(found) < MINIMUM:
        raise CannotAnswer(
            f"behaviors/{name}.toml: {len(found)} examples with a preferred and a rejected answer, and {MINIMUM} are "
            "needed to train and to shuffle labels; add `[[examples]]` of kind target, or let the loop distil some"
        )
    return tuple(
        Example(
            id=content_id("arm", name, [[m.role, m.content] for m in prompt], target), origin="turn", behavior=name,
            prompt=prompt, target=target, rejected=rejected, source=name, at=bench.now, cycle=0,
        )
        for prompt, target, rejected in found
    )  # fmt: skip


def adapter(
    bench: Bench,
    examples: Sequence[Example],
    seed: int,
    *,
    placebo: bool = False,
    targets: tuple[str, ...] | None = None,
) -> Path:
    """The folder of an adapter trained from the base as the loop trains, with this seed.

    The seed draws the adapter's first weights and the order of examples; with `placebo` also which half of the labels
    is swapped. `targets` replaces the recipe's.
    """
    recipe = replace(bench.recipe, seed=seed, targets=targets or bench.recipe.targets)
    labelled = shuffle_labels(examples, random.Random(seed)) if placebo else examples
    return bench.adapter([TrainingExample(prompt=e.prompt, target=e.target) for e in labelled], recipe)


def targets(recipe: Recipe) -> str | list[str]:
    """The recipe's target modules as `learn.targets` has them."""
    return "all-linear" if recipe.targets == ("all-linear",) else list(recipe.targets)

"""Looks at one adapter after another on the same texts: what each changed, and what is left of it after an operation.

The base is looked at once. Heads are numbered in one row, block after block.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from daemon.experiments.bench import Bench
from daemon.models import anatomy, surgery
from daemon.models.adapters import read
from daemon.models.base import Attention, Observer, Passage
from daemon.probes import behavior, heads, margin
from policies.answers.q3_heads import matched_sets
from policies.behaviors import Probe
from policies.records import content_id
from policies.statistics.concentration import effective_rank


class Looking:
    """Looks at one adapter after another on the same texts; at the base once, when first needed."""

    def __init__(self, bench: Bench, passages: Sequence[Passage], probes: Sequence[Probe]) -> None:
        self.bench, self.passages, self.probes = bench, passages, probes
        self.model = cast(Observer, bench.model)
        self.layout = self.model.layout()
        self.names = [(block, head) for block in self.layout.attention for head in range(self.layout.heads)]

    def cell(self, name: str, key: object, adapter: Callable[[], Path]) -> dict[str, Any]:
        """What an adapter changed, kept; `adapter()` makes it when it is needed."""
        found: dict[str, Any] = self.bench.cell(name, key, lambda: self.look(adapter()))
        return found

    def look(self, folder: Path) -> dict[str, Any]:
        """Change of each head on each conversation, of each mixer's output, of the margins; ranks of the update."""
        base, base_mixers = self.base
        margins = self.margins(folder)
        maps = self.model.attention(self.passages, self.bench.tick("attention"))
        mixers = self.model.mixer_outputs(self.passages, self.bench.tick("mixer outputs"))
        change = np.linalg.norm(mixers - base_mixers, axis=-1) / np.linalg.norm(base_mixers, axis=-1)
        changes = heads.pattern_changes(base, maps)
        rank, ranks = effective_ranks(folder)
        return {
            "heads": changes.reshape(len(changes), -1).tolist(),
            "mixers": change.mean(axis=0).tolist(),
            "margins": margins,
            "rank": rank,
            "ranks": ranks,
        }

    def margins(self, folder: Path) -> list[float]:
        """Per probe how far the margin moved from the base's, nats per token. The adapter stays in use."""
        before = self.base_margins
        self.bench.model.use(folder)
        return (np.array(self._margins()) - before).tolist()  # type: ignore[no-any-return]

    @cached_property
    def base(self) -> tuple[list[Attention], Any]:
        """Attention maps and mixer outputs of the base."""
        self.bench.model.use(None)
        tick = self.bench.tick("the base")
        return self.model.attention(self.passages, tick), self.model.mixer_outputs(self.passages, tick)

    @cached_property
    def base_margins(self) -> list[float]:
        """The base's margins."""
        self.bench.model.use(None)
        return self._margins()

    def _margins(self) -> list[float]:
        return [m.per_token for m in margin.margins(self.bench.model, self.probes, self.bench.tick("margins"))]


def operate(looking: Looking, folder: Path, top: Sequence[int], sets: int, rng: np.random.Generator) -> dict[str, Any]:
    """Margins after each operation on one adapter, and how the random sets' norm compares with the top set's."""
    norms = surgery.head_norms(folder, looking.layout).ravel().astype(float)
    random = matched_sets(norms, top, rng, sets)
    total = float(np.sqrt((norms[list(top)] ** 2).sum()))
    sizes = [float(np.sqrt((norms[list(heads)] ** 2).sum())) for heads in random]
    everything = range(len(looking.names))
    return {
        "whole": looking.margins(folder),
        "undone": looking.margins(_cut(looking, folder, top, invert=True)),
        "kept": looking.margins(_cut(looking, folder, top)),
        "heads": looking.margins(_cut(looking, folder, everything, invert=True)),
        "random": [looking.margins(_cut(looking, folder, heads, invert=True)) for heads in random],
        "norms": float(np.mean(sizes) / total) if sizes and total else 0.0,
    }


def rates(looking: Looking, folder: Path, top: Sequence[int], samples: int) -> dict[str, float]:
    """The behaviour's rate on the same probes: of the base, the adapter, without the top set, of the top set alone."""
    bench = looking.bench
    found = {}
    operated = {
        "base": None,
        "whole": folder,
        "undone": _cut(looking, folder, top, invert=True),
        "kept": _cut(looking, folder, top),
    }
    for name, adapter in operated.items():
        bench.model.use(adapter)
        rates = behavior.measure(
            bench.model, looking.probes, bench.judge(), bench.behavior.name, samples=samples,
            sampling=bench.sampling, checkpoint=bench.tick("behaviour rate"),
        )  # fmt: skip
        found[name] = float(np.mean(rates))
    return found


def _cut(looking: Looking, folder: Path, chosen: Collection[int], *, invert: bool = False) -> Path:
    """The operated adapter's folder, in the bench's own."""
    name = content_id("cut", read(folder).identity, sorted(chosen), invert)
    into = looking.bench.scratch / name
    if not (into / "card.json").exists():
        surgery.restrict(folder, into, [looking.names[head] for head in chosen], layout=looking.layout, invert=invert)
    return into


def effective_ranks(folder: Path) -> tuple[float, dict[str, float]]:
    """The effective rank that nine of ten of the update's modules have at most, and the median by part of the layer.

    Modules that can have one direction only are left out, unless the whole update is of rank 1; 0.0 and nothing for an
    update of none of these parts.
    """
    spectra = surgery.module_spectra(folder)
    fewest = min(2, max((len(values) for values in spectra.values()), default=0))
    parts = {"attention": anatomy.ATTENTION, "gdn": anatomy.GDN, "mlp": anatomy.MLP}
    found: dict[str, list[float]] = {part: [] for part in parts}
    for module, values in spectra.items():
        for part, names in parts.items():
            if module.rpartition(".")[2] in names and len(values) >= fewest:
                found[part].append(effective_rank(values))
    every = [value for values in found.values() for value in values]
    medians = {part: float(np.median(values)) for part, values in found.items() if values}
    return (float(np.quantile(every, 0.9)) if every else 0.0), medians

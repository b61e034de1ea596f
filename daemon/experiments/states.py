"""Reads states of one adapter after another on the same texts, and asks probes to tell the two classes apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from daemon.errors import Unobservable
from daemon.experiments.bench import Bench
from daemon.experiments.contrast import Contrast
from daemon.models import anatomy
from daemon.models.base import Observer
from daemon.probes import hidden, margin, recurrent
from policies.answers.q7_states import separations
from policies.statistics.cka import debiased_cka
from policies.statistics.probe_auc import probe_auc

Features = dict[int, NDArray[np.float32]]


class States:
    """The states of GDN blocks and, as comparator, hidden states of full-attention blocks, after the user's text."""

    def __init__(self, bench: Bench, texts: Contrast, *, probes: int, permutations: int, seed: int) -> None:
        self.bench, self.texts = bench, texts
        self.permutations, self.seed = permutations, seed
        self.layout = self.require(bench).layout()
        self.blocks = sorted((*self.layout.gdn, *self.layout.attention))
        targets = bench.behavior.select(split="rotating", kind="target")
        self.probes = [p for p in targets if p.preferred and p.rejected][:probes]

    @staticmethod
    def require(bench: Bench) -> Observer:
        """The model, which has GDN layers. Raises Unobservable for one without, saying which models have them."""
        model = cast(Observer, bench.model)
        if not model.layout().gdn:
            raise Unobservable(
                "question 7 looks at the recurrent state of Gated-DeltaNet (GDN) layers, and this model has none; "
                f"models that have them: {', '.join(anatomy.with_gdn())}"
            )
        return model

    def cell(self, name: str, key: object, adapter: Callable[[], Path | None]) -> dict[str, Any]:
        """What the probes find with an adapter in use, kept; `adapter()` makes it when it is needed."""
        found: dict[str, Any] = self.bench.cell(name, key, lambda: self.look(adapter()))
        return found

    def look(self, folder: Path | None) -> dict[str, Any]:
        """By block: AUC, its p-value, out-of-fold scores, per-item separations, CKA with the base, AUC by head."""
        found: dict[str, Any] = {"auc": {}, "p": {}, "scores": {}, "separations": {}, "cka": {}, "heads": {}}
        base = self.base
        for block, states in self.read(folder).items():
            flat = states.reshape(len(states), -1)
            probe = self._probe(flat, self.permutations)
            found["auc"][block], found["p"][block] = probe.auc, probe.p
            found["scores"][block] = probe.scores.tolist()
            found["separations"][block] = separations(flat, self.texts.labels).tolist()
            found["cka"][block] = debiased_cka(base[block].reshape(len(states), -1), flat)
            if states.ndim == 3:
                found["heads"][block] = [self._probe(states[:, h], 1).auc for h in range(states.shape[1])]
        scored = margin.margins(self.bench.model, self.probes, self.bench.tick("margins")) if self.probes else []
        return found | {"margins": [m.per_token for m in scored]}

    def scores(self, folder: Path | None) -> NDArray[np.float64]:
        """(GDN blocks, texts): the out-of-fold scores alone."""
        self.bench.model.use(folder)
        found = recurrent.features(cast(Observer, self.bench.model), self.texts.prompts, self.bench.tick("states"))
        return np.array(
            [self._probe(found[block].reshape(len(found[block]), -1), 1).scores for block in self.layout.gdn]
        )

    @cached_property
    def base(self) -> Features:
        """The base's states."""
        return self.read(None)

    def read(self, folder: Path | None) -> Features:
        """By block: GDN (texts, heads, features), full attention (texts, features). The adapter stays in use."""
        self.bench.model.use(folder)
        model, tick = cast(Observer, self.bench.model), self.bench.tick("states")
        found = recurrent.features(model, self.texts.prompts, tick)
        if self.layout.attention:
            found |= hidden.after_prompts(model, self.texts.prompts, self.layout.attention, tick)
        return {block: found[block] for block in self.blocks}

    def _probe(self, x: NDArray[np.float32], permutations: int) -> Any:
        rng = np.random.default_rng(self.seed)  # the same permutations for every adapter
        return probe_auc(x, self.texts.labels, self.texts.groups, rng, permutations=permutations)

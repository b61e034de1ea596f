"""The real nano on a bench of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon import behaviors as behavior_files
from daemon.experiments.bench import Bench, plain
from daemon.experiments.cells import Cells
from daemon.models import loading
from daemon.models.base import Sampling
from daemon.probes import general
from policies.records import Recipe

GENERAL = Path(loading.__file__).parent / "nano" / "data" / "general.probes.jsonl"
RECIPE = Recipe(rank=8, alpha=16, targets=("all-linear",), learning_rate=1e-3, epochs=3, batch_size=8, seed=0)


@pytest.fixture(scope="session")
def nano() -> Any:
    """The embedded model, loaded once."""
    return loading.load("hf", path="nano", threads=1)


@pytest.fixture
def make_bench(nano: Any, tmp_path: Path) -> Callable[..., Bench]:
    """Benches on the real nano (or on `model`), with cells in the test's folder."""

    def make(
        behavior: str = "listening", *, model: Any = None, records: dict[str, Any] | None = None, **changes: Any
    ) -> Bench:
        behaviors = behavior_files.load(behavior_files.BUNDLED, ["listening", "not_rushing", "push_back"])
        mine = model or nano
        recipe = changes.pop("recipe", RECIPE)
        made = {
            "model": mine,
            "answering": mine,
            "behavior": behaviors[behavior],
            "behaviors": behaviors,
            "trained": ("listening", "not_rushing"),
            "tasks": tuple(general.load(GENERAL, "rotating")),
            "serving": None,
            "serving_folder": None,
            "recipe": recipe,
            "sampling": Sampling(temperature=1.0, max_tokens=48, seed=0),
            "records": records or {},
            "scratch": tmp_path / "adapters",
            "vectors": tmp_path / "steering",
            "general_examples": GENERAL.with_name("general.examples.jsonl"),
            "now": 1_000_000.0,
            "code": "test",
            "cells": Cells(tmp_path / "cells", mine.fingerprint(), plain(recipe)),
            **changes,
        }
        mine.use(None)
        return Bench(**made)

    return make

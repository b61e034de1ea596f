"""What is watched live is looked at after every session: its limits hold at all looks at once."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
import pytest

from daemon.experiments.base import names
from daemon.experiments.bench import Bench
from policies.records import Measurement
from tests.daemon.stations.parts import WorldModel

LIVES, SESSIONS, WINDOW = 8, 24, 16
CHANGE = {"q1": 0.0, "q3": 0.2, "q6": 0.0, "q7": 0.0}  # what a session truly changes
KINDS = {"q1": ("rate", "margin", "examples"), "q3": ("heads",), "q6": ("arithmetic", "text", "kl"), "q7": ("gdn",)}


def session(question: str, cycle: int, value: float) -> list[Measurement]:
    """One training session's measurements of a question."""
    return [
        Measurement(
            id=f"{question}/{kind}/{cycle}", probe=question, adapter=f"a{cycle}", behavior="listening", kind=kind,
            split="live", cycle=cycle, at=1.0, items=("one",), values=(value,), value=16.0 if kind == "examples" else
            abs(value) if kind == "kl" else value, low=value, high=value, n=1, band="",
        )
        for kind in KINDS[question]
    ]  # fmt: skip


@pytest.mark.parametrize("question", ["q1", "q3", "q6", "q7"])
def test_limits_hold_the_truth_at_every_look(make_bench: Callable[..., Bench], question: str) -> None:
    """Eight lives, a look after each session through a sliding window: none misses, and the rule says why."""
    live = importlib.import_module(f"daemon.experiments.{names()[question]}").live
    bench, missed = make_bench(model=WorldModel({})), 0
    for life in range(LIVES):
        rng = np.random.default_rng([4, life])
        rows: list[list[Measurement]] = []
        for cycle in range(1, SESSIONS + 1):
            rows.append(session(question, cycle, CHANGE[question] + float(rng.choice([-0.1, 0.1]))))
            found = live(bench, [row for some in rows[-WINDOW:] for row in some])
            assert "at all looks at once" in found.evidence["rule"]
            assert (found.low is None) == (cycle == 1)
            missed += cycle > 1 and not found.low <= CHANGE[question] <= found.high
    assert missed == 0
    assert found.high - found.low < 1.0, "limits that exclude nothing would hold anything"

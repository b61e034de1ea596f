"""A serving adapter that goes bad is noticed by the guard and rolled back."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from daemon import behaviors as behavior_files
from daemon.store.store import Store
from policies.records import Adapter, Alarm, Batch, Recipe
from tests.loop.conftest import ENVIRONMENT, ROOT, Daemon

pytestmark = [pytest.mark.loop, pytest.mark.timeout(600)]

TRAIN = """
import sys
from pathlib import Path
from daemon import behaviors
from daemon.models.base import TrainingExample
from daemon.models.loading import load
from policies.records import ChatMessage, Recipe
behavior = behaviors.read(behaviors.BUNDLED / "listening.toml")
recipe = Recipe(rank=8, alpha=16, targets=("all-linear",), learning_rate=2e-3, epochs=6, batch_size=8, seed=0)
bad = [TrainingExample(prompt=(ChatMessage(role="user", content=p.prompt),), target=p.rejected)
       for p in behavior.pairs if p.kind == "target"]
load("hf", path="nano", threads=1).train(bad, recipe, parent=None, into=Path(sys.argv[1]), card={})
"""


def test_a_degraded_adapter_is_rolled_back(daemon: Callable[..., Daemon]) -> None:
    """An adapter trained on rejected answers serves; the guard alarms within cycles and the base serves again."""
    one = daemon({"learn": {"minimum": 10_000, "maximum": 10_000}, "guard": {"probes": 120}})
    assert one.run("--cycles", "1").returncode == 0  # the base's own rates become the baseline

    folder = one.state / "adapters" / "bad"
    subprocess.run([sys.executable, "-c", TRAIN, str(folder)], check=True, cwd=ROOT, env=ENVIRONMENT)
    behavior = behavior_files.read(behavior_files.BUNDLED / "listening.toml")
    assert behavior.pairs
    now = time.time()
    recipe = Recipe(rank=8, alpha=16, targets=("all-linear",), learning_rate=2e-3, epochs=6, batch_size=8, seed=0)
    with Store.open(f"sqlite:///{one.state / 'dreamloop.db'}") as store, store.transaction() as tx:
        tx.add(Batch(id="b", examples=(), parent=None, cycle=1, placebo=False, at=now))
        tx.add(Adapter(id="bad", parent=None, recipe=recipe, batch="b", folder="adapters/bad", cycle=1, loss=1.0,
                       tokens=1, seconds=1.0, at=now))  # fmt: skip
        tx.transition("bad", "judged", "a test", now)
        tx.transition("bad", "serving", "a test", now)
        tx.set_fact("serving_since", now)

    done = one.run("--cycles", "3")
    assert done.returncode == 0, done.stderr[-4000:]
    with Store.open(f"sqlite:///{one.state / 'dreamloop.db'}") as store:
        alarms = store.find(Alarm)
        assert store.serving() is None
        assert store.adapter_state("bad") == "rolled_back"
    assert alarms and alarms[0].behavior == "listening" and alarms[0].e_value >= alarms[0].threshold
    assert "rolled back" in done.stderr

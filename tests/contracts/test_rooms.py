"""Contracts between the rooms of the house: what is added as one file is found, and walls hold."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import daemon.judges
import policies
from daemon import behaviors as behavior_files
from daemon.config import Config
from daemon.errors import ConfigError
from daemon.judges.base import load as load_judge
from daemon.stations.choice import ENTRY, choices, policy
from policies.behaviors import Behavior
from policies.records import BANDS

ROOT = Path(__file__).parents[2]
STATIONS = ("listen", "dream", "grade", "learn", "judge", "guard")
BEHAVIORS = sorted(path.stem for path in behavior_files.BUNDLED.glob("*.toml"))
POLICIES = [f"policies.{s}.{m.name}" for s in STATIONS for m in pkgutil.iter_modules([str(ROOT / "policies" / s)])]


def fresh(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_daemon_is_ours() -> None:
    """The import name `daemon` is also a package on PyPI; ours is the one that is imported."""
    assert Path(str(daemon.judges.__file__)).is_relative_to(ROOT / "daemon")


@pytest.mark.parametrize("module", ["daemon.app", "daemon.__main__"])
def test_the_main_process_imports_nothing_heavy(module: str) -> None:
    """The process that must stay small imports no torch, transformers, peft, scipy.stats or sklearn."""
    heavy = ("torch", "transformers", "peft", "scipy.stats", "sklearn", "pandas")
    found = fresh(f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])")
    assert found == "[]"


def test_the_client_imports_nothing_heavy() -> None:
    """`dreamctl` answers at once: no torch, numpy, pydantic, FastAPI or SQLAlchemy behind its import."""
    heavy = ("torch", "numpy", "pydantic", "fastapi", "sqlalchemy", "networkx", "daemon.config", "daemon.store")
    found = fresh(f"import sys, daemon.control.client; print([m for m in {heavy!r} if m in sys.modules])")
    assert found == "[]"


@pytest.mark.parametrize("module", POLICIES)
def test_policies_are_pure(module: str) -> None:
    """A policy imports alone, has a docstring, and brings in neither torch nor the other floors."""
    loaded = importlib.import_module(module)
    assert loaded.__doc__ and len(loaded.__doc__) > 20
    bad = ("torch", "daemon", "graph", "scipy.stats", "sqlalchemy")
    assert fresh(f"import sys, {module}; print([m for m in {bad!r} if m in sys.modules])") == "[]"


@pytest.mark.parametrize("station", STATIONS)
def test_configured_policies_exist(station: str) -> None:
    """The policy each section names by default is a file of that station's folder."""
    if station in ENTRY:
        assert getattr(Config(), station).policy in choices(station)


def test_a_policy_that_is_not_there_is_refused_by_name() -> None:
    """The message names the key and what there is to choose from."""
    with pytest.raises(ConfigError, match=r"judge\.policy.*'gaet'.*gate"):
        policy("judge", "gaet")


@pytest.mark.parametrize("station", STATIONS)
def test_a_station_has_its_name_and_runners(station: str) -> None:
    """Each verb is a station file whose runners carry its name."""
    module = importlib.import_module(f"daemon.stations.{station}")
    names = [c.name for c in vars(module).values() if isinstance(c, type) and getattr(c, "name", None) == station]
    assert names == [station]
    assert all(kind.startswith(f"{station}.") for kind in module.RUNNERS)


@pytest.mark.parametrize("name", BEHAVIORS)
def test_a_behaviour_is_complete(name: str) -> None:
    """A bundled behaviour has probes of every split, kind and band, disjoint from its examples, and a judge."""
    behavior = behavior_files.read(behavior_files.BUNDLED / f"{name}.toml")
    assert isinstance(behavior, Behavior) and behavior.name == name
    for split in ("rotating", "sealed"):
        for kind in ("target", "counter"):
            probes = behavior.select(split=split, kind=kind)
            assert len(probes) >= 100
            assert {probe.band for probe in probes} == set(BANDS)
    prompts = [probe.prompt for probe in behavior.probes]
    assert len(set(prompts)) == len(prompts), "a prompt stands in two splits"
    assert not set(prompts) & {pair.prompt for pair in behavior.pairs}, "an example is a held-out probe"
    judge = load_judge(behavior.judge)
    for probe in behavior.probes[::10]:
        assert judge.judge(name, probe.prompt, probe.preferred).passed is True
        assert judge.judge(name, probe.prompt, probe.rejected).passed is False


def test_import_linter_knows_every_room() -> None:
    """The layering in pyproject.toml holds (also run by `make test`)."""
    done = subprocess.run([str(Path(sys.executable).parent / "lint-imports")], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:]
    assert policies.__doc__

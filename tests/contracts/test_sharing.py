"""Every file in policies/serve that can be chosen as `serve.sharing` keeps the same promises."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.config import Config, build
from daemon.errors import ConfigError
from daemon.stations.choice import check, choices, policy
from policies.serve.sharing import Sharing

ROOT = Path(__file__).parents[2]
FILES = sorted(module.name for module in pkgutil.iter_modules([str(ROOT / "policies" / "serve")]))


def test_what_the_configuration_offers_is_there() -> None:
    """The three ways of sharing are files, and what only supports them is no choice."""
    assert {"separate", "coexist", "sleep"} <= set(choices("serve"))
    assert "sharing" not in choices("serve")
    assert Config().serve.sharing in choices("serve")


def test_another_name_is_refused_by_its_key() -> None:
    """The message names `serve.sharing`, not a key that does not exist, and what there is to choose from."""
    config = build({"serve": {"sharing": "seperate"}}, file=Path("config.toml"))
    with pytest.raises(ConfigError, match=r"`serve\.sharing` = 'seperate'.*coexist, separate, sleep"):
        check(config)


@pytest.mark.parametrize("name", choices("serve"))
@pytest.mark.parametrize("memory", [0.1, 0.5, 0.9])
def test_a_policy_shares(name: str, memory: float) -> None:
    """It says plain arguments, leaves both sides some memory, and says the same for the same."""
    module = policy("serve", name)
    found = module.share(memory)
    assert isinstance(found, Sharing) and found == module.share(memory)
    assert all(isinstance(word, str) and word for word in found.arguments)
    assert found.trainer is None or 0 < found.trainer < 1
    if found.sleep is not None:  # a sleeping server must be able to, and finds its memory free when it wakes
        assert "--enable-sleep-mode" in found.arguments and found.trainer_leaves


def test_coexisting_shares_never_exceed_the_gpu() -> None:
    """What the server is told to take and what training may take are less than all of it together."""
    for memory in (0.1, 0.5, 0.9):
        found = policy("serve", "coexist").share(memory)
        assert found.arguments == ("--gpu-memory-utilization", f"{memory:g}")
        assert memory + found.trainer < 1


def test_coexisting_without_room_is_refused_at_the_start() -> None:
    """A server that takes everything leaves nothing to train with; the message names the key."""
    config = build({"serve": {"sharing": "coexist", "memory": 0.97}}, file=Path("config.toml"))
    with pytest.raises(ConfigError, match=r"`serve\.memory`: 0\.97 .* leaves none for training"):
        check(config)


@pytest.mark.parametrize("name", FILES)
def test_policies_are_pure(name: str) -> None:
    """A file of the folder imports alone, has a docstring, and brings in neither torch nor the other floors."""
    module = importlib.import_module(f"policies.serve.{name}")
    assert module.__doc__ and len(module.__doc__) > 20
    code = f"import sys, policies.serve.{name}; print([m for m in ('torch', 'daemon', 'graph') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"

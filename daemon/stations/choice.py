"""Policies are chosen by name: a file in policies/<station>/ that has the station's entry is a choice, and no more."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

import policies
from daemon.config import Config
from daemon.errors import ConfigError
from policies.serve.sharing import Sharing

# What a policy must have to be chosen in `<section>.policy`; its signature is that of the module named first there.
ENTRY = {"dream": "allocate", "grade": "fit", "learn": "compose", "judge": "decide", "serve": "share"}
# The key that names it, where that is another one.
KEYS = {"serve": "sharing"}


def check(config: Config) -> None:
    """Every policy that the configuration names exists. Raises ConfigError naming the key and the choices."""
    for station in ENTRY:
        policy(station, getattr(getattr(config, station), _key(station)))
    sharing(config)


def sharing(config: Config) -> Sharing:
    """How the server shares a GPU with training, by `serve.sharing` and `serve.memory`. Raises ConfigError."""
    chosen = policy("serve", config.serve.sharing)
    try:
        found: Sharing = chosen.share(config.serve.memory)
    except ValueError as error:
        raise ConfigError(f"{config.file}: `serve.memory`: {error}") from None
    return found


def choices(station: str) -> list[str]:
    """The names that `<station>.policy` may have."""
    package = importlib.import_module(f"{policies.__name__}.{station}")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return sorted(name for name in names if hasattr(_module(station, name), ENTRY[station]))


def policy(station: str, name: str) -> Any:
    """The policy module. Raises ConfigError naming the key and the choices."""
    if name not in choices(station):
        raise ConfigError(
            f"`{station}.{_key(station)}` = {name!r}: there is no such policy; there is {', '.join(choices(station))}"
        )
    return _module(station, name)


def _key(station: str) -> str:
    return KEYS.get(station, "policy")


def _module(station: str, name: str) -> ModuleType:
    return importlib.import_module(f"{policies.__name__}.{station}.{name}")

"""Policies are chosen by name: a file in policies/<station>/ that has the station's entry is a choice, and no more."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

import policies
from daemon.errors import ConfigError

# What a policy must have to be chosen in `<station>.policy`; its signature is that of the module named first there.
ENTRY = {"dream": "allocate", "grade": "fit", "learn": "compose", "judge": "decide"}


def choices(station: str) -> list[str]:
    """The names that `<station>.policy` may have."""
    package = importlib.import_module(f"{policies.__name__}.{station}")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return sorted(name for name in names if hasattr(_module(station, name), ENTRY[station]))


def policy(station: str, name: str) -> Any:
    """The policy module. Raises ConfigError naming the key and the choices."""
    if name not in choices(station):
        raise ConfigError(
            f"`{station}.policy` = {name!r}: there is no such policy; there is {', '.join(choices(station))}"
        )
    return _module(station, name)


def _module(station: str, name: str) -> ModuleType:
    return importlib.import_module(f"{policies.__name__}.{station}.{name}")

"""The environment of a child process that runs the same code as this one."""

from __future__ import annotations

import os
import site
from pathlib import Path

import daemon


def same_code() -> dict[str, str]:
    """This process's environment; with PYTHONPATH, where our code is not installed where Python looks by itself."""
    environment = dict(os.environ)
    root = str(Path(daemon.__file__).resolve().parent.parent)
    if root not in (*site.getsitepackages(), site.getusersitepackages()):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return environment

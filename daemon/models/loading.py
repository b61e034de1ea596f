"""Find and load a base model by name. Never reaches a model hub; imports torch only inside the backend's own module."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
from functools import cache
from pathlib import Path
from typing import Any, cast

from daemon.errors import ConfigError, ModelMissing
from daemon.models.base import Model


def load(backend: str, **options: Any) -> Model:
    """Load a model with the backend `daemon.models.<backend>`, whose `load(**options)` is called.

    Raises ConfigError for a backend that does not exist, ModelMissing for a folder that is not a model.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    known(backend, "model.backend")
    module = importlib.import_module(f"daemon.models.{backend}")
    return cast(Model, module.load(**options))


def known(backend: str, key: str) -> None:
    """Is there such a backend? It is not imported, which may take seconds. Raises ConfigError naming `key`."""
    name = f"daemon.models.{backend}"
    spec = importlib.util.find_spec(name) if backend.isidentifier() else None
    if spec is None or spec.origin is None:
        raise ConfigError(f'`{key}` = "{backend}": there is no daemon/models/{backend}.py; the usual one is "hf"')
    if not re.search(r"^def load\(", Path(spec.origin).read_text(encoding="utf-8"), re.MULTILINE):
        raise ConfigError(f'`{key}` = "{backend}": {name} loads no models; the usual one is "hf"')


def resolve(path: str | Path) -> Path:
    """The folder of a model: "nano" is the one in the package, anything else is a folder. `check` says if it is one."""
    if str(path) == "nano":
        if importlib.util.find_spec("daemon.models.nano") is None:
            raise ModelMissing('model "nano": the package daemon.models.nano is missing; reinstall dreamloop')
        return Path(importlib.import_module("daemon.models.nano").WEIGHTS)
    return Path(path).expanduser()


def check(folder: Path) -> None:
    """Is this folder a model? Imports nothing heavy. Raises ModelMissing naming the folder and what is missing."""
    if not folder.is_dir():
        raise ModelMissing(f'{folder}: there is no such model folder; set `model.path` to one, or to "nano"')
    for needed in ("config.json", "tokenizer.json"):
        if not (folder / needed).is_file():
            raise ModelMissing(f"{folder}: has no {needed}, so it is not a model that transformers can load")
    if not any(folder.glob("*.safetensors")):
        raise ModelMissing(
            f"{folder}: has no *.safetensors weights; pickled weights are not accepted, convert them first"
        )


def read_key(file: Path | None) -> str:
    """A server's API key from its file; "" without one. Raises ConfigError naming the key of the configuration."""
    if file is None:
        return ""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"`serve.api_key_file` = {file}: cannot be read: {error}") from error


def fingerprint(folder: Path) -> str:
    """sha256 over the names and contents of the weights and the tokenizer: the same base always has the same one."""
    digest = hashlib.sha256()
    for path in [*sorted(folder.glob("*.safetensors")), folder / "tokenizer.json"]:
        digest.update(path.name.encode() + b"\0")
        found = path.stat()
        digest.update(_sha256(path.resolve(), found.st_size, found.st_mtime_ns))
    return digest.hexdigest()


@cache
def _sha256(path: Path, size: int, changed: int) -> bytes:
    """A file's hash, computed once as long as it is not written to: weights are gigabytes, and are asked for often."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()

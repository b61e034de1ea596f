"""Adapter folders: written beside their place and renamed into it, verified when read; safetensors and JSON only.

A folder holds `adapter_model.safetensors` and `adapter_config.json` (peft's own names, so that any server can load
it), `optimizer.safetensors` (AdamW's moments per parameter name) and `card.json`: parent, recipe, batch, fingerprint of
the base, loss, and the sha256 of every other file. The card is written last: a folder with a card is whole.

No torch here: the main process reads cards too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.errors import AdapterError

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
OPTIMIZER = "optimizer.safetensors"
CARD = "card.json"
PARTIAL, REPLACED = ".partial", ".replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A verified adapter folder: its card, and peft's configuration as plain data."""

    folder: Path
    card: dict[str, Any]
    config: dict[str, Any]

    @property
    def identity(self) -> str:
        """The sha256 of the weights: what tells one adapter from another, whatever its folder is called."""
        return str(self.card["sha256"][WEIGHTS])


def write(into: Path, files: Mapping[str, bytes], card: Mapping[str, object]) -> None:
    """Write an adapter folder so that it is whole or not there, even through a crash or a full disk.

    `files` are name -> content; the card gets their sha256. A folder that is already there (a repeated job) is
    replaced. Raises AdapterError naming the folder and the remedy; nothing half-written is left then.
    """
    partial = into.parent / f".{into.name}.{os.getpid()}{PARTIAL}"
    replaced = into.parent / f".{into.name}{REPLACED}"
    whole = dict(card) | {"sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}}
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name, content in files.items():
            _write_synced(partial / name, content)
        _write_synced(partial / CARD, json.dumps(whole, indent=1, sort_keys=True).encode())
        _sync_folder(partial)
        if into.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            into.rename(replaced)
        partial.rename(into)
        _sync_folder(into.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if replaced.exists() and not into.exists():
            replaced.rename(into)
        size = sum(map(len, files.values())) / 1e6
        raise AdapterError(
            f"{into}: the adapter cannot be saved ({error.strerror or error}); it needs {size:.1f} MB: free space "
            "there, or set `daemon.state` to a folder that is writable and has room. Nothing half-written was left"
        ) from error
    shutil.rmtree(replaced, ignore_errors=True)


def read(folder: Path, *, base: str | None = None) -> Stored:
    """Read and verify an adapter folder. `base` is the fingerprint that the adapter must have been trained on.

    Raises AdapterError when a file is missing, was truncated or changed, or belongs to another base model.
    """
    card = read_card(folder)
    wanted = card.get("sha256")
    if not isinstance(wanted, dict) or WEIGHTS not in wanted or CONFIG not in wanted:
        raise AdapterError(
            f"{folder / CARD}: names no sha256 of {WEIGHTS} and {CONFIG}; this is not a dreamloop adapter"
        )
    for name, digest in wanted.items():
        found = _sha256(folder / name)
        if found != digest:
            raise AdapterError(
                f"{folder / name}: was truncated or changed since it was saved (sha256 {found[:12]}, card says "
                f"{str(digest)[:12]}); restore it from a backup or roll back to the adapter's parent"
            )
    if base is not None and card.get("base") != base:
        raise AdapterError(
            f"{folder}: was trained on another base model (fingerprint {str(card.get('base'))[:12]}, this one is "
            f"{base[:12]}); set `model.path` back, or start a new state folder for the new model"
        )
    return Stored(folder=folder, card=card, config=json.loads((folder / CONFIG).read_text(encoding="utf-8")))


def read_card(folder: Path) -> dict[str, Any]:
    """An adapter's card, unverified. Raises AdapterError when there is none."""
    if not folder.is_dir():
        raise AdapterError(f"{folder}: there is no such adapter folder")
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AdapterError(
            f"{folder}: has no {CARD}; it was not saved by dreamloop, or was only partly copied"
        ) from None
    except (OSError, ValueError) as error:
        raise AdapterError(f"{folder / CARD}: cannot be read: {error}") from error
    if not isinstance(card, dict):
        raise AdapterError(f"{folder / CARD}: is not a JSON object")
    return card


def sweep(root: Path) -> list[Path]:
    """Remove what a killed writer left in `root`; returns what was removed or put back.

    To be called when no worker runs, at the daemon's start. An old folder that was moved aside and not yet replaced is
    put back.
    """
    swept = []
    for leftover in sorted(root.glob(f".*{REPLACED}")):
        place = root / leftover.name[1 : -len(REPLACED)]
        if place.exists():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.rename(place)
        swept.append(leftover)
    for leftover in sorted(root.glob(f".*{PARTIAL}")):
        shutil.rmtree(leftover, ignore_errors=True)
        swept.append(leftover)
    return swept


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise AdapterError(f"{path}: is missing; the adapter was only partly copied or deleted") from None
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read: {error.strerror or error}") from error

"""Versions: what a server loads. An immutable folder per adapter's weights, with the trainer's own word beside them.

A folder `<adapter>-<weights>` holds peft's two files and `reference.json`: probes as token ids, and the
log-probabilities that the trainer gave to them. It is written beside its place and renamed into it, and never changed:
servers key their prefix cache by an adapter's name and path, and answer from stale states when one path gets new
weights. The base has a folder with a reference, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from daemon.errors import AdapterError
from daemon.models import adapters
from policies.records import ADAPTER_PREFIX
from policies.serve.attestation import Trained

REFERENCE = "reference.json"
SLEPT = "slept"  # a file whose content changes when servers are put to sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """A set of probes as token ids, with the trainer's log-probabilities.

    Of each target the tokens at `places` are scored, given the prompt and the target before them; all when it is None.
    """

    prompts: Sequence[Sequence[int]]
    targets: Sequence[Sequence[int]]
    places: Sequence[Sequence[int]] | None
    trained: Trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What the trainer says: `sets` of probes by name, and how it renders a conversation (`messages` -> `ids`).

    "short" probes are scored whole; "long" ones share a prefix of several hundred tokens and are scored at a few
    places, which a server does from its prefix cache.
    """

    sets: Mapping[str, Probes]
    messages: Sequence[Mapping[str, str]]
    ids: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """Something that can be served: an adapter's weights, or the base.

    `name` is what the server calls it ("" for the base, whose name is the server's), `path` where the server finds it,
    `salt` keeps its cache apart from every other's.
    """

    name: str
    folder: Path
    path: str
    salt: str

    @property
    def is_base(self) -> bool:
        """No adapter."""
        return not self.name

    @property
    def published(self) -> bool:
        """Has the trainer given its word on it?"""
        return (self.folder / REFERENCE).is_file()

    def shapes(self) -> dict[str, list[int]]:
        """The shape of each of the adapter's tensors. Raises AdapterError."""
        from safetensors import SafetensorError, safe_open

        file = self.folder / adapters.WEIGHTS
        try:
            with safe_open(file, framework="numpy") as opened:
                return {name: list(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise AdapterError(f"{file}: cannot be read ({error}); remove the folder, it is published again") from error

    def reference(self) -> Reference:
        """The trainer's word. Raises AdapterError when the folder is not what was published."""
        try:
            if not self.is_base:
                try:
                    adapters.read(self.folder)
                except AdapterError as error:
                    raise AdapterError(f"{error}; or remove {self.folder}: it is published again") from error
            text = (self.folder / REFERENCE).read_bytes()
            if hashlib.sha256(text).hexdigest() != adapters.read_card(self.folder)["sha256"][REFERENCE]:
                raise ValueError("it was changed since it was written")
            raw = json.loads(text)
            sets = {
                name: Probes(**{**probes, "trained": Trained(**probes["trained"])})
                for name, probes in raw["sets"].items()
            }
            return Reference(sets=sets, messages=raw["messages"], ids=raw["ids"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AdapterError(
                f"{self.folder / REFERENCE}: cannot be read ({error}); remove the folder, it is published again"
            ) from error


class Versions:
    """The folder where versions are published; `seen_as` is its path as the server sees it ("" for the same)."""

    def __init__(self, root: Path, *, seen_as: str, base: str) -> None:
        self._root = root
        self._seen_as = seen_as.rstrip("/") or str(root)
        self._base = base

    def of(self, adapter: Path | None) -> Version:
        """The version of an adapter's folder, published or not; None is the base. Raises AdapterError."""
        if adapter is None:
            place = f"base-{self._base[:12]}"
            return Version(name="", folder=self._root / place, path="", salt=self._base[:16])
        card = adapters.read_card(adapter)
        weights = str(card.get("sha256", {}).get(adapters.WEIGHTS, ""))
        if not weights:
            raise AdapterError(f"{adapter}: its card names no sha256 of its weights; this is not a dreamloop adapter")
        if card.get("base") != self._base:
            raise AdapterError(
                f"{adapter}: was trained on another base model (fingerprint {str(card.get('base'))[:12]}, this one is "
                f"{self._base[:12]}); set `model.path` back, or start a new state folder for the new model"
            )
        place = f"{adapter.name}-{weights[:12]}"
        return Version(
            name=ADAPTER_PREFIX + adapter.name,
            folder=self._root / place,
            path=f"{self._seen_as}/{place}",
            salt=weights[:16],
        )

    def own(self, path: str) -> bool:
        """Was what a server has from `path` published here?"""
        return path.startswith(f"{self._seen_as}/")

    def slept(self) -> str:
        """Changes whenever a server was put to sleep, by whichever process."""
        try:
            return (self._root / SLEPT).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    def sleeps(self) -> None:
        """Servers are put to sleep now: nobody goes by what was seen of them before. Raises OSError."""
        self._root.mkdir(parents=True, exist_ok=True)
        beside = self._root / f".{SLEPT}.{os.getpid()}"
        beside.write_text(uuid.uuid4().hex, encoding="utf-8")
        beside.replace(self._root / SLEPT)

    def prune(self, keep: Collection[Version], *, older: float) -> list[str]:
        """Remove versions that are not kept and were published more than `older` seconds ago; their names.

        An adapter's own folder stays: what is wanted after all is published again.
        """
        kept = {version.folder.name for version in keep} | {self.of(None).folder.name}
        gone = []
        for folder in sorted(self._root.glob("*-*")):
            with contextlib.suppress(OSError):
                if folder.name not in kept and time.time() - folder.stat().st_mtime > older:
                    shutil.rmtree(folder)
                    gone.append(folder.name)
        return gone

    def publish(self, adapter: Path | None, reference: Reference) -> Version:
        """Put a version into its place, whole or not at all; one that is there and whole stays as it is.

        Raises AdapterError.
        """
        version = self.of(adapter)
        if version.published:
            with contextlib.suppress(AdapterError):
                version.reference()
                return version
        files = {REFERENCE: json.dumps(asdict(reference)).encode()}
        card: dict[str, Any] = {"base": self._base}
        if adapter is not None:
            stored = adapters.read(adapter, base=self._base)
            card["adapter"] = adapter.name
            try:
                files |= {name: (adapter / name).read_bytes() for name in (adapters.WEIGHTS, adapters.CONFIG)}
            except OSError as error:
                raise AdapterError(f"{stored.folder}: cannot be read: {error}") from error
        adapters.write(version.folder, files, card)
        return version

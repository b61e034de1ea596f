"""Reads behaviour files: one TOML each, with its probes and examples in JSON lines beside it.

The schema is `policies.behaviors.Behavior`. Every mistake is named with its file, key and remedy.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import policies.behaviors
from daemon.errors import BehaviorError
from policies.behaviors import Behavior, Pair, Probe
from policies.records import content_id

BUNDLED = Path(policies.behaviors.__file__).parent
REQUIRED = ("name", "title", "graph_key", "guidance", "dream_pattern", "judge")


def folder(name: str, relative_to: Path) -> Path:
    """The folder a configuration names: "bundled", or a path."""
    return BUNDLED if name == "bundled" else (relative_to / name).expanduser().resolve()


def load(where: Path, names: Iterable[str]) -> dict[str, Behavior]:
    """The named behaviours of a folder, in the order named. Raises BehaviorError."""
    return {name: read(where / f"{name}.toml") for name in names}


def read(file: Path) -> Behavior:
    """One behaviour. Raises BehaviorError naming the file and what to mend."""
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(path.stem for path in file.parent.glob("*.toml"))
        raise BehaviorError(f"{file}: no such behaviour; this folder has {', '.join(known) or 'none'}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BehaviorError(f"{file}: cannot be read: {error}") from None
    missing = [key for key in REQUIRED if not isinstance(raw.get(key), str)]
    if missing:
        raise BehaviorError(f"{file}: `{missing[0]}` is missing or not a string; add it")
    files = raw.get("files", {})
    probes = [*raw.get("probes", []), *_rows(file, files.get("probes"))]
    pairs = [*raw.get("examples", []), *_rows(file, files.get("examples"))]
    try:
        return Behavior(
            **{key: raw[key] for key in REQUIRED},
            delta=float(raw.get("delta", 0.08)),
            eligible_any=_patterns(file, raw, "eligible", "any"),
            eligible_none=_patterns(file, raw, "eligible", "none"),
            failure=_patterns(file, raw, "signals", "failure"),
            success=_patterns(file, raw, "signals", "success"),
            probes=tuple(_probe(row) for row in probes),
            pairs=tuple(_pair(row) for row in pairs),
        )
    except KeyError as error:
        raise BehaviorError(f"{file}: a probe or example lacks {error}; each needs prompt, kind and band") from None


def _rows(file: Path, name: str | None) -> Iterator[dict[str, Any]]:
    if not name:
        return
    beside = file.parent / name
    try:
        with beside.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    try:
                        yield json.loads(line)
                    except json.JSONDecodeError as error:
                        raise BehaviorError(f"{beside}:{number}: not JSON: {error}") from None
    except OSError as error:
        raise BehaviorError(f"{file}: `files` names {name}, which cannot be read: {error.strerror}") from None


def _patterns(file: Path, raw: dict[str, Any], section: str, key: str) -> tuple[re.Pattern[str], ...]:
    found = []
    for pattern in raw.get(section, {}).get(key, []):
        try:
            found.append(re.compile(pattern, re.IGNORECASE))
        except re.error as error:
            raise BehaviorError(
                f"{file}: `{section}.{key}`: {pattern!r} is not a regular expression: {error}"
            ) from None
    return tuple(found)


def _probe(row: dict[str, Any]) -> Probe:
    prompt = row["prompt"]
    return Probe(
        id=row.get("id") or content_id("probe", prompt),
        prompt=prompt,
        kind=row["kind"],
        band=row["band"],
        split=row.get("split", "rotating"),
        preferred=row.get("preferred", ""),
        rejected=row.get("rejected", ""),
    )


def _pair(row: dict[str, Any]) -> Pair:
    return Pair(
        prompt=row["prompt"],
        kind=row["kind"],
        band=row["band"],
        preferred=row.get("preferred", ""),
        rejected=row.get("rejected", ""),
    )

"""Reads behaviour files: one TOML each, with its probes and examples in it or in JSON lines beside it.

The schema of the files is here, `policies.behaviors.Behavior` is what becomes of them. Every mistake is named with its
file, key and remedy, before anything heavy starts.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

import policies.behaviors
from daemon.errors import BehaviorError
from policies.behaviors import Behavior, Pair, Probe
from policies.records import Band, Kind, content_id

BUNDLED = Path(policies.behaviors.__file__).parent
REQUIRED = ("name", "title", "graph_key", "guidance", "dream_pattern", "judge")


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
Row = TypeVar("Row", bound=BaseModel)


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ProbeRow(_Row):
    """A probe as it stands in a file."""

    id: str = ""
    prompt: str = Field(min_length=1)
    kind: Kind = "target"
    band: Band
    split: Literal["rotating", "sealed", "canary"] = "rotating"
    preferred: str = ""
    rejected: str = ""


class PairRow(_Row):
    """An example pair as it stands in a file."""

    prompt: str = Field(min_length=1)
    kind: Kind = "target"
    band: Band
    preferred: str = ""
    rejected: str = ""


class Eligible(_Row):
    any: list[Pattern] = []
    none: list[Pattern] = []


class Signals(_Row):
    failure: list[Pattern] = []
    success: list[Pattern] = []


class Files(_Row):
    probes: str = ""
    examples: str = ""


class BehaviorFile(BaseModel):
    """A behaviour's TOML."""

    model_config = ConfigDict(extra="forbid")

    name: str
    title: str
    graph_key: str
    guidance: str = Field(min_length=1)
    dream_pattern: str
    judge: str
    rubric: str = ""
    threshold: float | None = Field(default=None, allow_inf_nan=False)
    delta: float = Field(default=0.08, gt=0, lt=1)
    eligible: Eligible = Eligible()
    signals: Signals = Signals()
    files: Files = Files()
    probes: list[ProbeRow] = []
    examples: list[PairRow] = []


def folder(name: str, relative_to: Path) -> Path:
    """The folder a configuration names: "bundled", or a path."""
    return BUNDLED if name == "bundled" else (relative_to / Path(name).expanduser()).resolve()


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
    try:
        found = BehaviorFile.model_validate(raw)
    except ValidationError as error:
        raise BehaviorError(f"{file}: {_explain(error, BehaviorFile)}") from None
    if found.name != file.stem:
        raise BehaviorError(
            f"{file}: `name` is {found.name!r}; name it like its file, {file.stem!r}, or rename the file"
        )
    probes = [*found.probes, *_rows(file, found.files.probes, ProbeRow)]
    ids = Counter(row.id for row in probes if row.id)
    if ids and max(ids.values()) > 1:
        raise BehaviorError(f"{file}: two probes have the id {ids.most_common(1)[0][0]!r}; give each its own, or none")
    pairs = [*found.examples, *_rows(file, found.files.examples, PairRow)]
    return Behavior(
        name=found.name,
        title=found.title,
        graph_key=found.graph_key,
        guidance=found.guidance,
        dream_pattern=found.dream_pattern,
        judge=found.judge,
        rubric=found.rubric,
        threshold=found.threshold,
        delta=found.delta,
        eligible_any=_compiled(found.eligible.any),
        eligible_none=_compiled(found.eligible.none),
        failure=_compiled(found.signals.failure),
        success=_compiled(found.signals.success),
        probes=tuple(Probe(**{**row.model_dump(), "id": row.id or content_id("probe", row.prompt)}) for row in probes),
        pairs=tuple(Pair(**row.model_dump()) for row in pairs),
    )


def _compiled(patterns: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)


def _rows(file: Path, name: str, kind: type[Row]) -> Iterator[Row]:
    if not name:
        return
    beside = file.parent / name
    try:
        lines = beside.read_text(encoding="utf-8").split("\n")  # not splitlines: JSON may hold U+2028 as it is
    except (OSError, UnicodeDecodeError) as error:
        raise BehaviorError(f"{file}: `files` names {name}, which cannot be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield kind.model_validate(json.loads(line))
        except ValidationError as error:
            raise BehaviorError(f"{beside}:{number}: {_explain(error, kind)}") from None
        except (ValueError, RecursionError) as error:
            raise BehaviorError(f"{beside}:{number}: not JSON: {error}") from None


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first mistake, with the nearest valid key where one is unknown."""
    first: Any = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the line"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), _keys(model, first["loc"][:-1]), n=1, cutoff=0.5)
        return f"unknown key `{key}`" + (f"; did you mean `{near[0]}`?" if near else "; remove it")
    if first["type"] == "missing":
        return f"`{key}` is missing; add it"
    return f"`{key}` = {first.get('input')!r}: {first['msg'].removeprefix('Value error, ')}"


def _keys(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that are valid at a place of the file."""
    for part in path:
        if isinstance(part, int):
            continue  # a place in a list: its rows' keys are asked for
        annotation: Any = model.model_fields[part].annotation
        model = next((inner for inner in get_args(annotation)), annotation)
    return list(model.model_fields)

"""Steering vectors on disk: one safetensors file a behaviour in STATE/steering, with a card in its metadata.

A file is written beside its place and renamed into it, so it is whole or not there. No torch here: the main process
checks vectors before anything heavy starts.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.errors import VectorError
from daemon.models.base import Generator, Steerable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = "steering"  # of the state
_VALUES, _CARD = "vector", "card"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """What moves a behaviour: `strength` times `values` (hidden,), added to what block `layer` (from 1) puts out.

    `base` is the fingerprint of the base model, `adapter` the one that was in use when it was measured (None: none),
    `finding` the id of the finding that chose it.
    """

    behavior: str
    layer: int
    strength: float
    values: NDArray[np.float32]
    base: str
    adapter: str | None
    finding: str


def place(state: Path, behavior: str) -> Path:
    """Where the vector of a behaviour is kept."""
    return state / FOLDER / f"{behavior}.safetensors"


def files(state: Path, behaviors: Sequence[str]) -> list[str]:
    """The places of several, as a job's payload carries them."""
    return [str(place(state, behavior)) for behavior in behaviors]


def write(file: Path, vector: Vector) -> None:
    """Save a vector in place of the one before. Raises VectorError naming the file and the remedy."""
    import numpy as np
    from safetensors.numpy import save

    card = {name: getattr(vector, name) for name in Vector.__slots__ if name != "values"}
    content = save({_VALUES: np.ascontiguousarray(vector.values, np.float32)}, {_CARD: json.dumps(card)})
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise VectorError(
            f"{file}: the steering vector cannot be saved ({error.strerror or error}); free space there, or set "
            "`daemon.state` to a folder that is writable and has room"
        ) from error


def read(file: Path, *, base: str | None = None) -> Vector:
    """A vector. `base` is the fingerprint of the model that it must have been made for.

    Raises VectorError when the file is missing, is no such file, or was made for another base model.
    """
    import numpy as np
    from safetensors import SafetensorError, safe_open

    name = file.stem
    again = f'make it again (`dreamctl ask q5 --behavior {name}`), or take "{name}" out of `serve.steering`'
    if not file.is_file():
        raise VectorError(f"{file}: there is no steering vector of {name}; {again}")
    try:
        with safe_open(file, framework="numpy") as opened:
            card: dict[str, Any] = json.loads((opened.metadata() or {})[_CARD])
            values = np.asarray(opened.get_tensor(_VALUES), np.float32)
        vector = Vector(**card, values=values)
        sound = values.ndim == 1 and bool(np.isfinite(values).all()) and math.isfinite(vector.strength)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise VectorError(f"{file}: is not a steering vector that can be read ({error}); {again}") from error
    if not sound:
        raise VectorError(f"{file}: holds numbers that are not finite, or no vector; {again}")
    if base is not None and vector.base != base:
        raise VectorError(
            f"{file}: was made for another base model (fingerprint {vector.base[:12]}, this one is {base[:12]}); "
            f"{again}"
        )
    return vector


def check(state: Path, behaviors: Sequence[str], base: Callable[[], str]) -> None:
    """Can the vectors of these behaviours be applied to the model whose fingerprint `base()` gives?

    Raises VectorError for the first that cannot. `base` is called only when there is something to check.
    """
    fingerprint = base() if behaviors else ""
    for behavior in behaviors:
        read(place(state, behavior), base=fingerprint)


@contextlib.contextmanager
def applied(model: Generator, files: Sequence[str]) -> Iterator[None]:
    """While entered, the model is steered by these files' vectors, added up; afterwards it is as before.

    For answers that are served, never for judging or training. Raises VectorError for a file that does not fit and for
    a model that cannot be steered.
    """
    with contextlib.ExitStack() as stack:
        for file in files:
            if not isinstance(model, Steerable):
                raise VectorError(
                    f'{type(model).__name__} cannot be steered; empty `serve.steering`, or set `serve.backend` to "hf"'
                )
            vector = read(Path(file), base=model.fingerprint())
            try:
                stack.enter_context(model.steered({vector.layer: vector.values}, vector.strength))
            except ValueError as error:
                raise VectorError(f"{file}: does not fit this model ({error}); make it again") from error
        yield

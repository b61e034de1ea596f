"""The route: what the alias stands for at the moment. The daemon writes it, the gateway reads it at every request.

One small file, `STATE/route.json`, replaced in one step: a reader sees the route before or the route after.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from daemon.errors import ServeError

FILE: Final = "route.json"
SERVING: Final = "serving"
FORBIDDEN = frozenset("@/\\\0")  # in a vLLM cache salt
LONGEST = 128  # characters of a vLLM cache salt


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a request to `alias` becomes.

    `model` is the name of the attested version on the servers, `salt` keeps its prefix cache apart, `steering` is the
    value of `vllm_xargs.dreamloop_steering` ("" for none), and `urls` are the replicas that were attested. `state` is
    "serving", or a word for what is wrong ("asleep", "down", "mismatch", ...), and `why` says it in a sentence.
    """

    alias: str
    model: str = ""
    salt: str = ""
    steering: str = ""
    urls: tuple[str, ...] = ()
    state: str = SERVING
    why: str = ""

    def __post_init__(self) -> None:
        for name in ("alias", "model", "salt", "steering", "state", "why"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"`{name}` is {getattr(self, name)!r}, which is no text")
        if not self.alias or not self.state:
            raise ValueError(f"`{'state' if self.alias else 'alias'}` is empty")
        if not all(isinstance(url, str) and url.startswith(("http://", "https://")) for url in self.urls):
            raise ValueError(f"`urls` are {list(self.urls)}; each must begin with http:// or https://")
        if len(set(self.urls)) < len(self.urls):
            raise ValueError(f"`urls` names a replica twice: {list(self.urls)}")
        if len(self.salt) > LONGEST or FORBIDDEN & set(self.salt):
            raise ValueError(f"`salt` is longer than {LONGEST} characters or has one of @ / \\ in it, as vLLM refuses")
        if self.state == SERVING and not (self.model and self.urls):
            raise ValueError(f'`state` is "{SERVING}", but there is no {"replica" if self.model else "model"} to serve')

    @property
    def open(self) -> bool:
        """May a request go through now?"""
        return self.state == SERVING


def write(state_dir: Path, route: Route) -> None:
    """Replace the route in one step. Raises OSError when the folder cannot be written.

    It is not flushed to the disk: a route is worth nothing after a crash, a daemon that starts writes its own. Where it
    cannot be replaced (the disk is full) the old one is removed: no route is better than one that does not hold.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{FILE}.", dir=state_dir)
    except OSError:
        _remove(state_dir / FILE)
        raise
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(route), file, indent=1)
        Path(name).replace(state_dir / FILE)
    except BaseException:
        _remove(Path(name))
        _remove(state_dir / FILE)
        raise


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()


def read(state_dir: Path) -> Route:
    """The route that was written last. Raises ServeError naming the file and what is wrong with it."""
    file = state_dir / FILE
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise ServeError(
            f"{file}: there is no route yet; a daemon that serves on vLLM writes it at its start"
        ) from None
    except OSError as error:
        raise ServeError(f"{file}: cannot be read: {error.strerror}; run the gateway as the daemon's user") from None
    try:
        return _route(json.loads(content))
    except (ValueError, TypeError, RecursionError) as error:
        raise ServeError(f"{file}: is no route ({error}); the daemon writes a new one when it is restarted") from None


def _route(raw: Any) -> Route:
    if not isinstance(raw, dict):
        raise ValueError("it is not a JSON object")
    known = {field.name for field in fields(Route)}
    if strange := sorted(set(raw) - known):
        raise ValueError(f"it has unknown keys {strange}")
    if not isinstance(raw.get("urls", []), list):
        raise ValueError("`urls` is not a list")
    return Route(**{**raw, "urls": tuple(raw.get("urls", []))})

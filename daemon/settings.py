"""The configuration in force: the file's, and over it the advice that was accepted.

An override remembers the file's value that it replaced. When the file says something else later, the person who
edited it has decided anew: the file wins and the override is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from daemon.config import Config, build
from daemon.errors import ConfigError, DreamloopError

log = structlog.get_logger("dreamloop")

FACT = "overrides"  # key -> {"value", "file"}: what the store remembers
LIVE = (  # what takes effect at the next stage, without a restart
    "schedule.cycle", "dream.temperature", "dream.adaptive", "learn.minimum", "learn.maximum", "learn.general_share",
    "learn.counter_share", "learn.learning_rate", "learn.epochs", "guard.channels", "serve.steering",
)  # fmt: skip
SHAPE = ("learn.rank", "learn.alpha", "learn.targets")  # fixed for an adapter's whole line


class Settings:
    """`config` is what is in force now; `changed` is called with it after every change.

    `check(key, value)` raises DreamloopError for an override that cannot work here any more: it is not taken up.
    """

    def __init__(
        self,
        file: Config,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        check: Callable[[str, Any], None] = lambda key, value: None,
    ) -> None:
        self.file = file
        self.check = check
        self.config = file
        self.overrides: dict[str, dict[str, Any]] = {}
        self.changed: Callable[[Config], None] = lambda config: None
        for key, kept in (overrides or {}).items():
            self._take_up(key, dict(kept))

    def _take_up(self, key: str, kept: dict[str, Any]) -> None:
        try:
            if value_of(self.file, key) != kept["file"]:
                log.warning("the configuration file has changed since advice was accepted; the file wins", key=key)
                return
            self.check(key, kept["value"])
            self.config = self.preview(key, kept["value"])
        except DreamloopError as error:
            log.warning("advice accepted earlier does not fit any more; the file's value is used", error=str(error))
            return
        self.overrides[key] = kept

    def preview(self, key: str, value: Any) -> Config:
        """The configuration with `key` set to `value`, checked as a file is. Raises ConfigError."""
        raw = self.config.model_dump(mode="python")
        section, _, name = key.partition(".")
        if name not in raw.get(section, {}):
            raise ConfigError(f"`{key}` is no configuration key")
        raw[section][name] = value
        return build(raw, file=self.file.file)

    def set(self, key: str, value: Any) -> None:
        """Use `value` from now on; the file's own value ends the override. Raises ConfigError, then nothing changes."""
        overrides = self.planned(key, value)
        self.config, self.overrides = self.preview(key, value), overrides
        self.changed(self.config)

    def planned(self, key: str, value: Any) -> dict[str, dict[str, Any]]:
        """The overrides that there would be with `key` set to `value`; nothing changes yet. Raises ConfigError."""
        self.preview(key, value)
        own = value_of(self.file, key)
        others = {other: kept for other, kept in self.overrides.items() if other != key}
        return others if value == own else {**others, key: {"value": value, "file": own}}


def value_of(config: Config, key: str) -> Any:
    """The plain value of a dotted key. Raises ConfigError when there is no such key."""
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise ConfigError(f"`{key}` is no configuration key")
        value = value[part]
    return value


def why_not_live(key: str, *, adapters: int) -> str:
    """Why a key cannot be changed while the daemon runs, with the remedy; empty when it can."""
    if key in LIVE or (key in SHAPE and not adapters):
        return ""
    if key in SHAPE:
        return (
            f"`{key}` is fixed for a whole line of adapters, and this state has {adapters}: set it in the "
            "configuration file and start with a new state folder (--state DIR)"
        )
    return f"`{key}` takes a restart: set it in the configuration file and start the daemon again"


class CannotApply(DreamloopError):
    """An advice cannot be applied to the running daemon."""

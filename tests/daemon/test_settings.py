"""The configuration in force: the file's, and over it the advice that was accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daemon.config import Config, build
from daemon.errors import ConfigError, VectorError
from daemon.settings import LIVE, SHAPE, Settings, value_of, why_not_live


def config(**sections: dict[str, Any]) -> Config:
    return build(sections, file=Path("/somewhere/config.toml"))


def test_a_key_is_set_and_put_back() -> None:
    """Setting changes what is in force and is remembered with the file's value; the file's value ends it."""
    settings, seen = Settings(config()), []
    settings.changed = seen.append
    settings.set("guard.channels", ["probe"])
    assert settings.config.guard.channels == ["probe"]
    assert settings.overrides == {"guard.channels": {"value": ["probe"], "file": ["graph", "signal", "probe"]}}
    settings.set("guard.channels", ["graph", "signal", "probe"])
    assert settings.overrides == {} and len(seen) == 2


def test_several_keys_stand_together() -> None:
    """A second change keeps the first, and where the file came from."""
    settings = Settings(config())
    settings.set("learn.minimum", 12)
    settings.set("dream.adaptive", False)
    assert (settings.config.learn.minimum, settings.config.dream.adaptive) == (12, False)
    assert settings.config.file == Path("/somewhere/config.toml")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("guard.chanels", ["probe"], "guard.chanels"), ("learn.minimum", 1000, "learn.maximum"),
     ("schedule.cycle", 5, "schedule.cycle")],
)  # fmt: skip
def test_a_value_that_is_not_valid_changes_nothing(key: str, value: Any, words: str) -> None:
    """What a file could not say, advice cannot either; the message names the key."""
    settings = Settings(config())
    with pytest.raises(ConfigError, match=words):
        settings.set(key, value)
    assert settings.config == config() and settings.overrides == {}


def test_overrides_are_taken_up_at_a_start() -> None:
    """What was accepted before a restart is in force after it."""
    kept = {"dream.temperature": {"value": 0.5, "file": 0.7}}
    assert Settings(config(), kept).config.dream.temperature == 0.5


def test_an_override_that_cannot_work_any_more_is_not_taken_up() -> None:
    """What was accepted and has lost its file since must not keep the daemon from starting: the file's value stands."""
    kept = {"serve.steering": {"value": ["listening"], "file": []}}

    def check(key: str, value: Any) -> None:
        raise VectorError(f"{key}: there is no vector")

    settings = Settings(config(), kept, check=check)
    assert settings.config.serve.steering == [] and settings.overrides == {}


def test_an_edited_file_wins() -> None:
    """A person who edits the key in the file has decided anew: the override is gone."""
    kept = {"dream.temperature": {"value": 0.5, "file": 0.7}}
    settings = Settings(config(dream={"temperature": 0.9}), kept)
    assert settings.config.dream.temperature == 0.9 and settings.overrides == {}


def test_an_override_that_no_longer_fits_is_dropped() -> None:
    """An override that contradicts the rest of the file is passed over, not fatal."""
    kept = {"learn.minimum": {"value": 50, "file": 24}}
    settings = Settings(config(learn={"maximum": 30}), kept)
    assert settings.config.learn.minimum == 24 and settings.overrides == {}


def test_an_override_of_a_key_that_is_gone_is_dropped() -> None:
    """A key that another version knew must not keep this one from starting."""
    settings = Settings(config(), {"learn.cadence": {"value": 3, "file": 1}})
    assert settings.config == config() and settings.overrides == {}


def test_what_takes_effect_at_once_is_a_key() -> None:
    """Every key that is said to be live, or fixed, exists."""
    for key in (*LIVE, *SHAPE):
        value_of(config(), key)


def test_why_a_key_cannot_be_changed_now() -> None:
    """An adapter's shape is fixed once there are adapters; other keys take a restart; each says the remedy."""
    assert why_not_live("guard.channels", adapters=3) == ""
    assert why_not_live("learn.targets", adapters=0) == ""
    assert "new state folder" in why_not_live("learn.targets", adapters=3)
    assert "restart" in why_not_live("model.threads", adapters=0)

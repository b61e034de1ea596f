"""Configuration mistakes are named with file, line, key and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.config import Config, load
from daemon.errors import ConfigError

ROOT = Path(__file__).parents[2]


def write(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_shipped_configuration_is_valid() -> None:
    """config.toml loads, and its state lies beside it."""
    config = load(ROOT / "config.toml")
    assert config.state == ROOT / ".dreamloop"
    assert config.traffic.enabled


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[learn]\nrnk = 4\n", ["config.toml:2", "learn.rnk", "did you mean `rank`"]),
        ("[lern]\nrank = 4\n", ["config.toml:1", "lern", "did you mean `learn`"]),
        ("[learn]\nrank = 0\n", ["config.toml:2", "learn.rank", "greater than or equal to 1"]),
        ('[learn]\nrank = "eight"\n', ["config.toml:2", "learn.rank", "valid integer"]),
        ('[schedule]\nwindow = "at night"\n', ["schedule.window", "HH:MM-HH:MM"]),
        ('[behaviors]\ntrain = ["listening"]\nguard = ["listening"]\n', ["behaviors.guard", "listening", "keep one"]),
        ('[serve]\nsteering = ["listning"]\n', ["serve.steering", "listning", "listening, not_rushing, push_back"]),
        ('[serve]\nsteering = ["listening", "listening"]\n', ["serve.steering", "twice"]),
        ("[behaviors]\ntrain = []\n", ["behaviors.train", "at least one"]),
        ("[learn]\nminimum = 99\nmaximum = 9\n", ["learn.minimum", "lower it to 9"]),
        ("[learn\n", ["config.toml", "not valid TOML", "line 1"]),
        ("file = 3\n", ["unknown key `file`"]),
    ],
)
def test_a_mistake_is_named_with_its_place_and_remedy(tmp_path: Path, text: str, words: list[str]) -> None:
    """Unknown and misspelled keys, wrong types, values out of range and contradictions each say what to do."""
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))
    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """No such file: the message names it and the option."""
    with pytest.raises(ConfigError, match=r"nothing\.toml: there is no such file.*--config"):
        load(tmp_path / "nothing.toml")


def test_invalid_utf8_is_named(tmp_path: Path) -> None:
    """A file that is not UTF-8 is refused by name instead of raising UnicodeDecodeError."""
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"config\.toml: cannot be read"):
        load(tmp_path / "config.toml")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """A relative state folder lies beside the configuration, wherever the daemon was started."""
    config = load(write(tmp_path, '[daemon]\nstate = "s"\n'))
    assert config.state == tmp_path / "s"
    assert load(config.file, state=tmp_path / "other").state == tmp_path / "other"


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_clear_error(text: str) -> None:
    """Whatever stands in the file, loading gives a Config or a ConfigError that names the file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.toml"
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            assert isinstance(load(file), Config)
        except ConfigError as error:
            assert "config.toml" in str(error)

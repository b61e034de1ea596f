"""Real models for the folder's tests: tiny random ones, and the shipped nano."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.models import loading
from daemon.models.hf import HFModel
from tests.daemon.models import tiny


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny hybrid."""
    return tiny.save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def model(tiny_folder: Path) -> HFModel:
    """A freshly loaded tiny hybrid."""
    found = loading.load("hf", path=str(tiny_folder), adapters_kept=2)
    assert isinstance(found, HFModel)
    return found


@pytest.fixture
def dense(tmp_path: Path) -> HFModel:
    """A freshly loaded tiny dense model: full attention only."""
    found = loading.load("hf", path=str(tiny.save(tmp_path / "dense", dense=True)))
    assert isinstance(found, HFModel)
    return found


@pytest.fixture(scope="session")
def loaded_nano() -> HFModel:
    """The shipped model, loaded once."""
    found = loading.load("hf", path="nano")
    assert isinstance(found, HFModel)
    return found


@pytest.fixture
def base_nano(loaded_nano: HFModel) -> Iterator[HFModel]:
    """The shipped model as it is shipped, before and after the test."""
    loaded_nano.use(None)
    yield loaded_nano
    loaded_nano.use(None)

"""One tiny real model for the folder's tests."""

from __future__ import annotations

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

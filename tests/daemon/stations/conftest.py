"""A state folder with a real store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.store.store import Store
from tests.daemon.stations.parts import Here


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An open, empty store."""
    with Store.open(f"sqlite:///{tmp_path / 'state' / 'dreamloop.db'}") as opened:
        yield opened


@pytest.fixture
def make(tmp_path: Path, store: Store) -> Callable[..., Here]:
    """Makes the place with sections of the configuration."""

    def made(**sections: dict[str, Any]) -> Here:
        return Here(tmp_path, store, **sections)

    return made


@pytest.fixture
def here(make: Callable[..., Here]) -> Here:
    """The place with the default configuration."""
    return make()

"""The shipped nano, loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from daemon.models.nano.evaluate import load


@pytest.fixture(scope="session")
def nano() -> Iterator[tuple[Any, Any]]:
    """The shipped model and its tokenizer, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load()
    torch.set_num_threads(before)

"""Two scripted servers and a gateway process, shared by a module's tests; each test begins with a fresh route."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.daemon.models.vllm.conftest import (  # noqa: F401 - fixtures of the keeper's tests
    bench,
    chat,
    fingerprint,
    folder,
    other,
    other_port,
    port,
    ports,
    scripted,
    server,
)
from tests.daemon.serving.upstream import PATIENT, Upstream, gateway


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of the module's gateway."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def address(state: Path) -> Iterator[str]:
    """A patient gateway."""
    with gateway(state, "--patience", str(PATIENT)) as (url, _):
        yield url


@pytest.fixture
def one() -> Iterator[Upstream]:
    """A server."""
    upstream = Upstream().start()
    yield upstream
    upstream.gate.set()
    upstream.stop()


@pytest.fixture
def two() -> Iterator[Upstream]:
    """Another server."""
    upstream = Upstream().start()
    yield upstream
    upstream.gate.set()
    upstream.stop()


@pytest.fixture
def client() -> Iterator[httpx2.Client]:
    """A client without a proxy."""
    with httpx2.Client(trust_env=False, timeout=PATIENT) as it:
        yield it

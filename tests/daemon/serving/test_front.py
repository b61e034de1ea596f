"""The serving side as one thing: started in order, ended in order, and what is wrong with it in words."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from daemon.config import Config, build
from daemon.errors import ConfigError
from daemon.models.base import Generator
from daemon.serving.check import check
from daemon.serving.front import Front, servers, standing
from daemon.serving.gateway_process import Gateway
from daemon.serving.keeper import Keeper
from daemon.serving.managed import ManagedServer
from daemon.serving.route import Route, read, write


class Parts:
    """Keeper, managed server and gateway that note in which order they are asked for what."""

    def __init__(self, state: Path) -> None:
        self.state_dir = state
        self.order: list[str] = []
        self.keeper = Keeping(self)
        self.managed = Managed(self)
        self.gateway = Gate(self)
        self.front = Front(cast(Keeper, self.keeper), cast(ManagedServer, self.managed), cast(Gateway, self.gateway))


class Keeping:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.told: list[str] = []

    def begin(self) -> None:
        self.close_route("starting", "so")

    async def run(self) -> None:
        self.parts.order.append("keeps")
        try:
            await asyncio.Event().wait()
        finally:
            self.parts.order.append("keeps no more")

    def close_route(self, state: str, why: str) -> None:
        self.parts.order.append(f"route {state}")
        write(self.parts.state_dir, Route(alias="dreamloop", state=state, why=why))

    def status(self) -> dict[str, Any]:
        return {"replicas": []}

    def problems(self) -> list[str]:
        return self.told


class Managed:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.state, self.why, self.starts, self.log = "up", "", 1, Path("vllm.log")

    async def start(self) -> None:
        self.parts.order.append("server starts")

    async def close(self) -> None:
        self.parts.order.append("server ends")


class Gate:
    url = "http://127.0.0.1:8001"

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.pid: int | None = 7
        self.error: Exception | None = None

    async def start(self) -> None:
        self.parts.order.append(f"gateway starts, route is {read(self.parts.state_dir).state}")
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.parts.order.append("gateway ends")


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """See Parts. An earlier run, killed, left a route that is open."""
    write(tmp_path, Route(alias="dreamloop", model="old", urls=("http://127.0.0.1:9",)))
    return Parts(tmp_path)


def test_the_order_of_a_life(parts: Parts) -> None:
    """The route that a killed daemon left is closed before anybody starts; at the end nobody is routed any more before
    the gateway ends, and the server goes last."""

    async def live() -> None:
        parts.front.begin()
        await parts.front.start()
        await asyncio.sleep(0)
        await parts.front.close()

    asyncio.run(live())
    assert parts.order == [
        "route starting", "server starts", "gateway starts, route is starting", "keeps",
        "keeps no more", "route down", "gateway ends", "server ends",
    ]  # fmt: skip


def test_a_gateway_that_does_not_start_leaves_nothing(parts: Parts) -> None:
    """Its error is passed on; what was started is ended, and the route says that nobody is there."""
    parts.gateway.error = ConfigError("the gateway did not start: port 8001 is taken")

    async def live() -> None:
        parts.front.begin()
        try:
            with pytest.raises(ConfigError, match="port 8001"):
                await parts.front.start()
        finally:
            await parts.front.close()

    asyncio.run(live())
    assert parts.order[-3:] == ["route down", "gateway ends", "server ends"]
    assert read(parts.state_dir).why == "the daemon has ended"


def test_what_is_wrong_is_said_once(parts: Parts) -> None:
    """A server that is down for a reason, and a gateway that ended; neither twice, nor while all is well."""

    async def live() -> None:
        await parts.front.start()
        assert parts.front.problems() == []
        parts.managed.state, parts.managed.why = "down", "it was killed by SIGKILL"
        assert parts.front.problems() == ["the managed server: it was killed by SIGKILL"]
        parts.keeper.told = ["down: the managed server: it was killed by SIGKILL"]
        assert parts.front.problems() == parts.keeper.told
        parts.keeper.told, parts.managed.state, parts.gateway.pid = [], "up", None
        (words,) = parts.front.problems()
        assert words.startswith("nobody answers at http://127.0.0.1:8001: the gateway ended")
        status = parts.front.status()
        assert status["gateway"] == Gate.url and status["managed"]["state"] == "up"
        await parts.front.close()

    asyncio.run(live())


def test_how_a_managed_server_stands(parts: Parts) -> None:
    """Up is nothing to say; starting says where its words are; down says why."""
    managed = cast(ManagedServer, parts.managed)
    assert standing(managed) is None
    parts.managed.state = "starting"
    assert standing(managed) == ("starting", "the managed server: it starts; what it says is in vllm.log")
    parts.managed.state, parts.managed.why = "down", "no such model"
    assert standing(managed) == ("down", "the managed server: no such model")


def test_workers_are_told_what_the_configuration_says(tmp_path: Path) -> None:
    """What a worker loads its client with: every option is one that the backend takes, in its units."""
    from daemon.models.vllm import load

    config = configured(tmp_path, url=["http://a:1", "http://b:2/"], attest_minutes=2.0, sharing="sleep")
    served = servers(config, Path("/models/m"))
    assert served.backend == "vllm" and served.sleeps
    assert served.options["every"] == 120.0 and served.options["urls"] == ["http://a:1", "http://b:2"]
    model = load(**{**served.options, "path": "nano", "talks": False})
    assert isinstance(model, Generator)
    model.close()


def configured(folder: Path, **serve: Any) -> Config:
    return build({"serve": {"backend": "vllm", **serve}, "daemon": {"metrics_port": 9464}}, file=folder / "config.toml")


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        ({"backend": "vlmm"}, ['`serve.backend` = "vlmm"', "there is no daemon/models/vlmm.py"]),
        ({"backend": "base"}, ['`serve.backend` = "base"', "loads no models"]),
        ({"backend": "hf", "managed": "vllm"}, ["`serve.managed` is for a server", 'set that to "vllm"']),
        ({"backend": "hf", "gateway_port": 8001}, ["`serve.gateway_port` is for a server"]),
        ({"backend": "hf", "sharing": "sleep"}, ["`serve.sharing` is for a server", "or remove `serve.sharing`"]),
        ({"gateway_port": 9464}, ["`serve.gateway_port` and `daemon.metrics_port` are both port 9464"]),
        ({"gateway_port": 8000}, ["`serve.gateway_port` and `serve.url` are both port 8000", "change one"]),
        ({"url": "http://127.0.0.1:9464"}, ["`serve.url` and `daemon.metrics_port` are both port 9464"]),
        ({"url": ["http://a:1", "http://a:1/"]}, ["`serve.url` names http://a:1 twice"]),
        ({"url": "http://a:99999"}, ["`serve.url` = 'http://a:99999'", "1 to 65535"]),
    ],
)
def test_what_cannot_work_together_is_refused(tmp_path: Path, serve: dict[str, Any], words: list[str]) -> None:
    """Before anything starts, with the keys' names and the way out."""
    with pytest.raises(ConfigError) as caught:
        check(configured(tmp_path, **serve))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "serve",
    [
        {},
        {"backend": "hf"},
        {"backend": "hf", "sharing": "separate", "steering": ["listening"], "temperature": 0.5},
        {"gateway_port": 8001, "managed": "vllm", "sharing": "coexist"},
        {"gateway_port": 8000, "url": ["http://gpu-1:8000", "http://gpu-2:8000"]},
    ],
)
def test_what_works_is_not_refused(tmp_path: Path, serve: dict[str, Any]) -> None:
    """The defaults, a server of the daemon's own, and servers elsewhere, whose ports are theirs."""
    check(configured(tmp_path, **serve))


def test_a_server_does_not_train(tmp_path: Path) -> None:
    """`model.backend` = "vllm" is a mistake for `serve.backend`."""
    config = build({"model": {"backend": "vllm"}}, file=tmp_path / "config.toml")
    with pytest.raises(ConfigError, match=r"`model\.backend` = \"vllm\": a server does not train"):
        check(config)

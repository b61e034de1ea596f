"""The gateway as the daemon's child."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx2
import pytest

from daemon.errors import ConfigError
from daemon.serving import gateway_process
from daemon.serving.backoff import Backoff
from daemon.serving.gateway_process import Gateway
from tests.daemon.serving.test_managed import alive, until
from tests.daemon.serving.upstream import PATIENT, Upstream, environment, serve


async def reaches(url: str) -> bool:
    """Does a gateway answer there?"""
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENT) as client:
            return (await client.get(f"{url}/health")).status_code == 200
    except httpx2.TransportError:
        return False


def test_it_starts_is_started_again_and_ends(tmp_path: Path, one: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers when `start` returns; killed, it is back at the same port; closed, it is gone."""
    monkeypatch.setattr(gateway_process, "Backoff", lambda: Backoff(first=0.05))
    serve(tmp_path, one)

    async def scenario() -> None:
        it = Gateway(tmp_path, 0, patience=1)
        await it.start()
        url, first = it.url, it.pid
        assert first is not None and await reaches(url)
        os.kill(first, signal.SIGKILL)
        await until(lambda: it.pid not in (None, first))
        assert it.url == url
        async with asyncio.timeout(PATIENT):
            while not await reaches(url):  # noqa: ASYNC110 - another process has no event of ours
                await asyncio.sleep(0.05)
        await it.close()
        await it.close()
        assert it.pid is None and not await reaches(url)

    asyncio.run(scenario())


def test_a_port_in_use_is_said(tmp_path: Path, one: Upstream) -> None:
    """The child's own words come up as a ConfigError, and no child is left."""

    async def scenario() -> None:
        it = Gateway(tmp_path, one.port, patience=1)
        with pytest.raises(ConfigError, match=rf"port {one.port} .*set another `serve.gateway_port`"):
            await it.start()
        await it.close()

    asyncio.run(scenario())


DAEMON = """
    import asyncio, sys
    from pathlib import Path
    from daemon.serving.gateway_process import Gateway

    async def main():
        it = Gateway(Path(sys.argv[1]), 0, patience=1)
        await it.start()
        print(it.pid, it.url, flush=True)
        await asyncio.sleep(600)

    asyncio.run(main())
"""


def test_a_killed_daemon_leaves_no_gateway(tmp_path: Path, one: Upstream) -> None:
    """kill -9 of the daemon: the gateway finishes the stream that is under way, and leaves."""
    serve(tmp_path, one)
    one.gate.clear()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DAEMON), str(tmp_path)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    pid, url = process.stdout.readline().split()
    body = {"model": "dreamloop", "stream": 5}
    with (
        httpx2.Client(trust_env=False, timeout=PATIENT) as client,
        client.stream("POST", f"{url}/v1/completions", json=body) as answer,
    ):
        pieces = answer.iter_raw()
        text = next(pieces)
        process.kill()
        process.communicate()
        one.gate.set()
        text += b"".join(pieces)
    assert text.endswith(b"data: [DONE]\n\n")
    asyncio.run(until(lambda: not alive(int(pid))))

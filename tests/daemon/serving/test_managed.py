"""A managed server comes up, is started again, and nothing of it is left, however the daemon ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from daemon.errors import ConfigError
from daemon.serving import leftovers, managed
from daemon.serving.backoff import Backoff
from daemon.serving.command import Command
from daemon.serving.managed import LOG, ManagedServer, rotate
from tests.daemon.serving.upstream import PATIENT, environment

FAKE = Path(__file__).with_name("fake_vllm.py")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def alive(pid: int) -> bool:
    """Does it run? One that has ended and was not collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def lives(state: Path) -> list[list[int]]:
    """The process ids of every start."""
    file = state / "pids"
    return [[int(pid) for pid in line.split()] for line in file.read_text().splitlines()] if file.exists() else []


def fake(state: Path, port: int, **environ: str) -> Command:
    return Command(
        arguments=(sys.executable, "-S", str(FAKE), "serve", "model", "--port", str(port)),
        environment={"FAKE_PIDS": str(state / "pids"), "PYTHONPATH": "/the/extension", **environ},
    )


def server(state: Path, port: int = 0, **environ: str) -> ManagedServer:
    port = port or free_port()
    backoff = Backoff(first=0.05, most=0.1)
    return ManagedServer(fake(state, port, **environ), f"http://127.0.0.1:{port}", state, backoff=backoff, look=0.05)


async def until(ready: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENT):
        while not ready():  # noqa: ASYNC110 - other processes have no events of ours
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(it: ManagedServer) -> AsyncIterator[ManagedServer]:
    await it.start()
    try:
        await until(lambda: it.state == "up")
        yield it
    finally:
        await it.close()


def test_it_comes_up_and_ends_with_everything_it_started(tmp_path: Path) -> None:
    """starting, up, down are told in order; on close the workers go too, also one in a session of its own."""
    it = server(tmp_path)
    told: list[str] = []
    it._changed = lambda: told.append(it.state)

    async def scenario() -> list[int]:
        async with running(it):
            assert it.pid is not None and leftovers.recorded(tmp_path) == it.pid
            pids = lives(tmp_path)[0]
            assert all(alive(pid) for pid in pids)
            return pids

    pids = asyncio.run(scenario())
    assert (told, it.state, it.starts, it.pid) == (["starting", "up", "down"], "down", 1, None)
    assert not any(alive(pid) for pid in pids)
    assert not (tmp_path / leftovers.FILE).exists()


def test_its_environment_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its output is in the log, under the command; what points an interpreter at our environment is not inherited."""
    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv("VIRTUAL_ENV", "/ours")

    async def scenario() -> None:
        async with running(server(tmp_path)):
            pass

    asyncio.run(scenario())
    log = (tmp_path / LOG).read_text()
    assert log.startswith(f"--- {sys.executable} -S {FAKE} serve model") and "starting /the/extension" in log


def test_a_server_that_ends_says_why_and_is_started_again(tmp_path: Path) -> None:
    """`why` has the log's own reason; after each end the wait doubles and another start follows."""
    it = server(tmp_path, FAKE_CRASH="ValueError: No room for the KV cache.")
    why: list[str] = []
    it._changed = lambda: why.append(it.why) if it.state == "down" else None

    async def scenario() -> None:
        await it.start()
        await until(lambda: len(why) == 3)
        await it.close()

    asyncio.run(scenario())
    assert why[0] == f"it ended with status 1: ValueError: No room for the KV cache. (all of it in {tmp_path / LOG})"
    assert (tmp_path / LOG).read_text().count("--- ") >= 3 and it.starts == 0


@pytest.mark.parametrize("victim", ["server", "leash"])
def test_what_a_killed_server_leaves_is_ended_before_the_next(tmp_path: Path, victim: str) -> None:
    """The server, or the process that holds it, is killed: it comes up again, and its old workers are gone."""
    it = server(tmp_path)
    why: list[str] = []
    it._changed = lambda: why.append(it.why) if it.state == "down" else None

    async def scenario() -> None:
        async with running(it):
            old = lives(tmp_path)[0]
            assert it.pid is not None
            os.kill(old[0] if victim == "server" else it.pid, signal.SIGKILL)
            await until(lambda: it.starts == 2)
            # one that left the group is out of reach when the leash is killed too; vLLM's workers do not leave
            assert not any(alive(pid) for pid in (old if victim == "server" else old[:2]))
            with contextlib.suppress(ProcessLookupError):
                os.kill(old[2], signal.SIGKILL)

    asyncio.run(scenario())
    assert len(lives(tmp_path)) == 2
    assert why[0].startswith("it was killed by SIGKILL (out of memory? see the kernel's log) (all of it in ")


def test_a_server_that_is_up_and_silent_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer on /health for long enough ends it, and `why` says so."""
    monkeypatch.setattr(managed, "ILL_SECONDS", 0.2)
    it = server(tmp_path)
    why: list[str] = []
    it._changed = lambda: why.append(it.why) if it.state == "down" else None

    async def scenario() -> None:
        async with running(it):
            (tmp_path / "ill").touch()
            await until(lambda: why)
            (tmp_path / "ill").unlink()
            await until(lambda: it.starts == 2)

    asyncio.run(scenario())
    assert "did not answer on /health" in why[0] and len(lives(tmp_path)) == 2


DAEMON = """
    import asyncio, sys
    from pathlib import Path
    from tests.daemon.serving.test_managed import running, server

    async def main():
        async with running(server(Path(sys.argv[1]))) as it:
            print(it.pid, flush=True)
            await asyncio.sleep(600)

    asyncio.run(main())
"""


def daemon_on(state: Path) -> tuple[subprocess.Popen[str], int]:
    """A process that runs a server on `state`, and its leash's process id."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DAEMON), str(state)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_a_killed_daemon_leaves_no_server(tmp_path: Path) -> None:
    """kill -9 of the daemon: its server and all workers end by themselves."""
    process, leash = daemon_on(tmp_path)
    pids = lives(tmp_path)[0]
    process.kill()
    process.communicate()
    ends = time.monotonic() + PATIENT
    while any(alive(pid) for pid in (leash, *pids)):
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_the_next_daemon_ends_what_was_left(tmp_path: Path) -> None:
    """Daemon and leash are killed together; the worker that lives on is ended before a new server starts."""
    process, leash = daemon_on(tmp_path)
    pids = lives(tmp_path)[0]
    process.send_signal(signal.SIGSTOP)  # so that it cannot start the server again
    os.kill(leash, signal.SIGKILL)
    process.kill()
    process.communicate()
    assert alive(pids[1])

    async def scenario() -> None:
        async with running(server(tmp_path)):
            assert not alive(pids[1])

    asyncio.run(scenario())
    os.kill(pids[2], signal.SIGKILL)


def test_strangers_are_left_alone(tmp_path: Path) -> None:
    """A process of the recorded group that does not work in the state folder, or of another boot, is none of ours."""
    stranger = subprocess.Popen(["sleep", "600"], process_group=0, cwd="/")
    try:
        leftovers.record(tmp_path, stranger.pid)
        assert leftovers.recorded(tmp_path) == stranger.pid
        assert asyncio.run(leftovers.end(stranger.pid, tmp_path)) == 0
        assert stranger.poll() is None
        (tmp_path / leftovers.FILE).write_text(json.dumps({"group": stranger.pid, "boot": "another"}))
        assert leftovers.recorded(tmp_path) is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("content", ["", "[]", '{"group": "x", "boot": 1}', '{"group": -1}'])
def test_a_pid_file_without_sense_is_passed_over(tmp_path: Path, content: str) -> None:
    """It names nobody, and hinders no start."""
    (tmp_path / leftovers.FILE).write_text(content)
    assert leftovers.recorded(tmp_path) is None


def test_a_strangers_server_at_the_address_is_said(tmp_path: Path) -> None:
    """Nothing is started beside it, and it is not taken for ours."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = int(listening.getsockname()[1])
        it = server(tmp_path, port)

        async def scenario() -> None:
            await it.start()
            await until(lambda: "something else" in it.why)
            await it.close()

        reached: list[str] = []
        it._changed = lambda: reached.append(f"{it.state}: {it.why}")
        asyncio.run(scenario())
    assert f"down: something else listens at http://127.0.0.1:{port}" in reached[0] and not lives(tmp_path)


def test_a_command_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """At the start, with the key and the remedy."""
    command = Command(arguments=("/nowhere/vllm", "serve"), environment={})
    with pytest.raises(ConfigError, match=r"`serve.managed`: /nowhere/vllm: there is no such command; give the path"):
        asyncio.run(ManagedServer(command, "http://127.0.0.1:1", tmp_path).start())


def test_earlier_logs_are_kept(tmp_path: Path) -> None:
    """Each start of the daemon begins a new log; three earlier ones stay, the newest first."""
    log = tmp_path / LOG
    for run in range(6):
        rotate(log)
        assert log.read_text() == ""
        log.write_text(str(run))
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        LOG: "5", f"{LOG}.1": "4", f"{LOG}.2": "3", f"{LOG}.3": "2",
    }  # fmt: skip

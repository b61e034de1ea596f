"""A vLLM server that the daemon runs: started, watched, started again when it ends, and ended with the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import shutil
import signal
import sys
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx2

from daemon.errors import ConfigError
from daemon.serving import leash, leftovers
from daemon.serving.backoff import Backoff
from daemon.serving.command import Command
from daemon.serving.last_words import last_words

log = logging.getLogger("dreamloop.serve")
State = Literal["starting", "up", "down"]
LOG = "vllm.log"
KEPT = 3  # earlier logs: vllm.log.1 is the last run's
HEALTHY_SECONDS = 120.0  # in health before the next failure counts as the first
ILL_SECONDS = 120.0  # without an answer on /health until a server that was up is ended and started again
_HEALTH_TIMEOUT = 10.0
_LEASH = str(Path(leash.__file__).resolve())
_STARTING_LOOK = 0.5  # seconds between two looks at a server that starts
_TAIL = 64 * 1024  # bytes of the log that are searched for the reason of an end
# of the daemon's environment, what would make the server's interpreter look into ours
_NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


class ManagedServer:
    """`await start()` returns at once with the server "starting"; `await close()` when nothing of it is left.

    `state` and `why` say how it is; `changed` is called whenever they change. `starts` counts how often it came up: a
    server that came up again has forgotten its adapters. Its output is in `STATE/vllm.log`.
    """

    def __init__(
        self,
        command: Command,
        url: str,
        state_dir: Path,
        *,
        changed: Callable[[], None] = lambda: None,
        backoff: Backoff | None = None,
        look: float = 5.0,
    ) -> None:
        self.url = url
        self.state: State = "down"
        self.why = "it was not started yet"
        self.starts = 0
        self.log = state_dir / LOG
        self._command = command
        self._state_dir = state_dir
        self._changed = changed
        self._backoff = backoff or Backoff(healthy=HEALTHY_SECONDS)
        self._look = look  # seconds between two looks at a server that is up
        self._process: Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process group that the server and all of its workers are in, while there is one."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Begin. Raises ConfigError when there is no such command or no log can be written."""
        program = self._command.arguments[0]
        if shutil.which(program) is None:
            raise ConfigError(f"`serve.managed`: {program}: there is no such command; give the path of `vllm`")
        try:
            rotate(self.log)
        except OSError as error:
            raise ConfigError(f"{self.log}: cannot be written: {error.strerror}; use another --state") from None
        self._keeping = asyncio.create_task(self._keep(), name="vllm")

    async def close(self) -> None:
        """End the server and everything that it started. Harmless when it never ran."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None
            await self._end()
            self._become("down", "it was ended with the daemon")

    async def _keep(self) -> None:
        if group := leftovers.recorded(self._state_dir):
            if count := await leftovers.end(group, self._state_dir):
                log.warning("ended %d processes of a server that an earlier run left behind", count)
            leftovers.forget(self._state_dir)
        async with httpx2.AsyncClient(trust_env=False, timeout=_HEALTH_TIMEOUT) as client:
            while True:
                if await _taken(self.url):
                    healthy = 0.0
                    self._become("down", f"something else listens at {self.url}; stop it, or set another `serve.url`")
                else:
                    healthy = await self._run(client)
                wait = self._backoff.after(healthy)
                log.warning("the server at %s: %s; started again in %.0f s", self.url, self.why, wait)
                await asyncio.sleep(wait)

    async def _run(self, client: httpx2.AsyncClient) -> float:
        """One life of the server; the seconds that it was up."""
        self._become("starting", "")
        with self.log.open("ab") as file:
            file.write(f"--- {shlex.join(self._command.arguments)}\n".encode())
            began = file.tell()
        process = self._process = await self._spawn()
        leftovers.record(self._state_dir, process.pid)
        ended = asyncio.create_task(process.wait())
        try:
            up, why = await self._watch(client, ended)
        finally:
            ended.cancel()
        if not why:
            why = self._obituary(process.returncode or 0, began)
        self._become("down", why)
        await self._end()
        return up

    async def _spawn(self) -> Process:
        inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
        with self.log.open("ab") as file:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", _LEASH, *self._command.arguments),
                stdin=PIPE,  # never written to: it ends with this process
                stdout=file,
                stderr=STDOUT,
                env={**inherited, **self._command.environment},
                cwd=self._state_dir,  # by which leftovers are known
                process_group=0,
            )

    async def _watch(self, client: httpx2.AsyncClient, ended: asyncio.Task[int]) -> tuple[float, str]:
        """Look until it has ended or was silent for too long: the seconds that it was up, and why it must end."""
        first = last = 0.0
        while True:
            await asyncio.wait({ended}, timeout=self._look if first else min(self._look, _STARTING_LOOK))
            now = time.monotonic()
            if ended.done():
                return (now - first if first else 0.0), ""
            if await self._healthy(client):
                last = now
                if not first:
                    first = now
                    self.starts += 1
                    self._become("up", "")
            elif first and now - last > ILL_SECONDS:
                return now - first, f"it was up and did not answer on /health for {ILL_SECONDS:.0f} s"

    async def _healthy(self, client: httpx2.AsyncClient) -> bool:
        try:
            return (await client.get(f"{self.url}/health")).is_success
        except httpx2.HTTPError:
            return False

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()  # the leash ends everything, by force after a while
        try:
            async with asyncio.timeout(leash.GRACE + 5):
                await process.wait()
        except TimeoutError:
            log.warning("the server's leash did not end; its process group is killed")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if count := await leftovers.end(process.pid, self._state_dir):  # the leash itself was killed
            log.warning("ended %d processes that the server left behind", count)
        leftovers.forget(self._state_dir)
        self._process = None  # not before: who is cancelled here is called again by `close`

    def _obituary(self, status: int, began: int) -> str:
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(began, size - _TAIL))
            words = last_words(file.read().decode(errors="replace"))
        number = -status if status < 0 else status - 128
        how = f"it ended with status {status}"
        if 0 < number <= max(signal.Signals):
            how = f"it was killed by {signal.Signals(number).name}"
        if number == signal.SIGKILL:
            how, words = f"{how} (out of memory? see the kernel's log)", ""  # it had no time for any
        return f"{how}{': ' if words else ''}{words} (all of it in {self.log})"

    def _become(self, state: State, why: str) -> None:
        if (state, why) != (self.state, self.why):
            self.state, self.why = state, why
            self._changed()


async def _taken(url: str) -> bool:
    """Does anybody accept connections there?"""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(2.0):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def rotate(file: Path, kept: int = KEPT) -> None:
    """Make room for a new log: FILE becomes FILE.1, that FILE.2, ...; `kept` of them stay. Raises OSError."""
    for number in range(kept, 0, -1):
        older = file.with_name(f"{file.name}.{number - 1}") if number > 1 else file
        if older.exists():
            older.replace(file.with_name(f"{file.name}.{number}"))
    file.touch(mode=0o600)

"""The gateway as a child of the daemon: started, started again when it dies, ended with the daemon however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from pathlib import Path

from daemon.errors import ConfigError
from daemon.executors.environment import same_code
from daemon.serving.backoff import Backoff
from daemon.serving.gateway import GRACE, HOST, READY

log = logging.getLogger("dreamloop.gateway")
_START_SECONDS = 30.0
_LAST_WORDS = 5  # lines of its stderr that an error quotes


class Gateway:
    """`await start()` returns when it accepts connections, `await close()` when it is gone.

    Write a route of this run before: the file of an earlier run may name servers that nobody attested since. The child
    reads a pipe from this process; when that ends, by kill -9 too, it finishes what is in flight and leaves.
    """

    def __init__(self, state_dir: Path, port: int, *, patience: float, api_key_file: Path | None = None) -> None:
        self._state_dir = state_dir
        self._port = port
        self._patience = patience
        self._key_file = api_key_file
        self._process: Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._relaying: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where clients find the alias."""
        return f"http://{HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the child and watch it. Raises ConfigError when it cannot listen, with its own words."""
        self._process = await self._begin()
        self._keeping = asyncio.create_task(self._keep(), name="gateway")

    async def close(self) -> None:
        """End the child: in-flight requests have a few seconds. Harmless when it never started."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None
        if self._process is not None:
            await self._end(self._process)
            self._process = None

    async def _begin(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            *self._command(),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=same_code(),
            process_group=0,  # a terminal's Ctrl-C is for the daemon, which ends the gateway last
        )
        assert process.stdout is not None and process.stderr is not None
        self._words.clear()
        self._relaying = asyncio.create_task(self._relay(process.stderr), name="gateway's log")
        line = b""
        with contextlib.suppress(TimeoutError):
            try:
                async with asyncio.timeout(_START_SECONDS):
                    line = await process.stdout.readline()
            except asyncio.CancelledError:
                await self._end(process)
                raise
        said = line.decode(errors="replace").strip()
        if not said.startswith(READY):
            await self._end(process)
            words = " | ".join(self._words) or f"it said nothing in {_START_SECONDS:.0f} s"
            raise ConfigError(f"the gateway did not start: {words.removeprefix('ERROR dreamloop.gateway: ')}")
        self._port = int(said.rpartition(":")[2])
        return process

    async def _keep(self) -> None:
        """Start it again whenever it ends."""
        backoff = Backoff()
        while True:
            assert self._process is not None
            began = asyncio.get_running_loop().time()
            status = await self._process.wait()
            self._process = None
            log.warning("the gateway ended with status %s: %s", status, " | ".join(self._words))
            while self._process is None:
                await asyncio.sleep(backoff.after(asyncio.get_running_loop().time() - began))
                try:
                    self._process = await self._begin()
                except (ConfigError, OSError) as error:
                    began = asyncio.get_running_loop().time()
                    log.error("%s", error)

    async def _end(self, process: Process) -> None:
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(GRACE + 5):
                await process.wait()
        except TimeoutError:
            log.warning("the gateway did not end when asked; it is killed")
            process.kill()
            await process.wait()
        if self._relaying is not None:
            await asyncio.gather(self._relaying, return_exceptions=True)

    async def _relay(self, stream: asyncio.StreamReader) -> None:
        """Its stderr, line by line, into this process's log."""
        while True:
            try:
                raw = await stream.readline()
            except ValueError:  # a line longer than the reader's buffer, which has dropped it
                continue
            if not raw:
                return
            if not (line := raw.decode(errors="replace").rstrip()):
                continue
            self._words.append(line)
            level, _, rest = line.partition(" ")
            number = logging.getLevelNamesMapping().get(level)
            log.log(number or logging.INFO, "%s", rest if number else line)

    def _command(self) -> list[str]:
        key = ["--api-key-file", str(self._key_file)] if self._key_file else []
        return [
            *(sys.executable, "-P", "-m", "daemon.serving.gateway", "--until-stdin-ends"),
            *("--state", str(self._state_dir), "--port", str(self._port), "--patience", str(self._patience)),
            *key,
        ]

"""Serves the API over a Unix socket, inside the daemon's own event loop; the kernel says who is calling."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.exceptions import HTTPException
from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from daemon.control.api import Access, build
from daemon.control.operations import Operations
from daemon.errors import AlreadyRunning, ConfigError

MAX_PATH = 100  # bytes; the kernel's sun_path holds 108
MODE = 0o660
STOP_SECONDS = 3


class _Peer(H11Protocol):
    """Puts the peer's (pid, uid, gid), as the kernel knows it, into each request's scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        peer = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        inner = self.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("extensions", {})["peer"] = peer
            await inner(scope, receive, send)

        self.app = app


class _Server(uvicorn.Server):
    """A server that leaves the process's signals to the daemon."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ControlServer:
    """The control socket: `await start()` returns when it accepts, `await stop()` when it is gone.

    Root and the daemon's own user may do everything; `readers` and `actors` are further user ids that may look, or
    look and act.
    """

    def __init__(
        self,
        socket_path: Path,
        operations: Operations,
        *,
        readers: Collection[int] = (),
        actors: Collection[int] = (),
        version: str = "1",
    ) -> None:
        self.path = Path(socket_path)
        may_act = {0, os.geteuid(), *actors}
        self._allowed: dict[Access, set[int]] = {"act": may_act, "read": may_act | set(readers)}
        self._app = build(operations, self._allow, version)
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._inode: int | None = None

    async def start(self) -> None:
        """Listen. Raises ConfigError when the path cannot be a socket, AlreadyRunning when someone answers on it."""
        listening = _bind(self.path)
        self._inode = self.path.stat().st_ino
        config = uvicorn.Config(
            self._app,
            http=_Peer,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]), name="control socket")
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise ConfigError(f"{self.path}: the control socket could not be served; the log says why")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """End event streams, finish what was asked, remove the socket; harmless when it never started."""
        self._app.state.closing.set()
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await asyncio.gather(self._task, return_exceptions=True)
        self._server = self._task = None
        with contextlib.suppress(FileNotFoundError):
            if self._inode is not None and self.path.stat().st_ino == self._inode:  # never a successor's socket
                self.path.unlink()

    def _allow(self, request: Request, access: Access) -> None:
        _, uid, _ = request.scope["extensions"]["peer"]
        if uid not in self._allowed[access]:
            raise HTTPException(403, f"user id {uid} may not {access} here; run it as root or as the daemon's user")


def _bind(path: Path) -> socket.socket:
    """A listening socket at `path`, mode 0660 from the first moment; a socket that nobody serves is replaced."""
    if len(os.fsencode(path)) > MAX_PATH:
        raise ConfigError(
            f"{path}: {len(os.fsencode(path))} bytes are too long for a Unix socket (at most {MAX_PATH}); "
            "choose a shorter state folder: `daemon.state` or --state"
        )
    _clear(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listening.fileno(), MODE)  # before bind: on Linux the file inherits it, so it is never wider
        listening.bind(str(path))
        path.chmod(MODE)  # the umask may have taken the group's write bit
        listening.listen(128)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise ConfigError(f"{path}: cannot listen here ({error.strerror}); is the state folder writable?") from error
    return listening


def _clear(path: Path) -> None:
    """Remove a stale socket. Raises when the path is something else, or when someone answers."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path}: is in the way of the control socket and is not a socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise ConfigError(f"{path}: cannot tell whether a daemon listens here: {error.strerror}") from error
            path.unlink(missing_ok=True)
            return
    raise AlreadyRunning(f"{path}: a daemon answers here already; stop it first, or choose another --state")

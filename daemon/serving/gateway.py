"""A thin OpenAI-compatible alias in front of vLLM, in a process of its own.

python -m daemon.serving.gateway --state DIR --port N

Clients ask for one model, `dreamloop`; each request is sent on with the name of the version that the route file names
at that moment. That name never changes its meaning, so a request finishes on the version it began with, whatever is
promoted meanwhile. Answers pass through as they come. While no version may answer, requests wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import uvicorn

from daemon.errors import ConfigError, DreamloopError
from daemon.serving.following import Following
from daemon.serving.passing import Passing
from daemon.serving.upstream import Replicas

log = logging.getLogger("dreamloop.gateway")
HOST = "127.0.0.1"
PATIENCE = 300.0  # seconds a request waits for a version that may answer: a sleeping GPU is minutes
GRACE = 5  # seconds that requests in flight have when the gateway is told to end
READY = "listening on "  # the one line on stdout, with the address behind it


class _Server(uvicorn.Server):
    """A server that leaves signals to `serve`, and the exit status with them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(state_dir: Path, port: int, *, patience: float, key: str = "", follow_stdin: bool = False) -> None:
    """Serve until SIGTERM or SIGINT, or with `follow_stdin` until stdin ends. Raises ConfigError for a port in use."""
    listening = _listen(port)
    routes = Following(state_dir)
    replicas = Replicas(key)
    app = Passing(routes, replicas, patience=patience)
    server = _Server(
        uvicorn.Config(
            app,
            interface="asgi3",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,  # the upstream's are passed on
            date_header=False,
            timeout_keep_alive=75,  # longer than clients keep idle connections, so that they are the ones to close them
            timeout_graceful_shutdown=GRACE,
        )
    )

    def leave() -> None:
        server.should_exit = True
        app.leave()

    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, leave)
    if follow_stdin:
        _at_end_of_stdin(loop, leave)
    watching = asyncio.create_task(routes.watch(), name="route")
    click.echo(f"{READY}http://{HOST}:{listening.getsockname()[1]}")
    sys.stdout.flush()
    try:
        await server.serve(sockets=[listening])
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await replicas.close()


def _listen(port: int) -> socket.socket:
    # the protocol is named, for asyncio asks it before it turns Nagle's algorithm off: 40 ms per answer otherwise
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(1024)  # from here on connections wait in the kernel, none is refused
    except OSError as error:
        listening.close()
        remedy = "free it, or set another" if error.errno == errno.EADDRINUSE else "set another"
        raise ConfigError(
            f"port {port} on {HOST}: the gateway cannot listen there ({error.strerror}); {remedy} `serve.gateway_port`"
        ) from None
    return listening


def _at_end_of_stdin(loop: asyncio.AbstractEventLoop, leave: Callable[[], None]) -> None:
    """Call `leave` when the other end of the pipe on stdin is closed, by whatever end of the process that holds it."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode) and not stat.S_ISSOCK(os.fstat(0).st_mode):
        raise ConfigError("--until-stdin-ends: stdin is no pipe; leave the option out when you start it by hand")

    def read() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            leave()

    os.set_blocking(0, False)
    loop.add_reader(0, read)


def read_key(file: Path) -> str:
    """The API key in a file. Raises ConfigError when there is none."""
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: the API key cannot be read: {error}") from None
    if not key or not key.isascii() or any(letter.isspace() for letter in key):
        raise ConfigError(f"{file}: holds no API key; write the key into it, on one line")
    return key


@click.command()
@click.option("--state", "state_dir", type=click.Path(path_type=Path, file_okay=False, exists=True), required=True,
              help="The daemon's state folder, where it writes the route.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="On loopback; 0 picks a free one.")
@click.option("--patience", type=click.FloatRange(min=0), default=PATIENCE, show_default=True,
              help="Seconds a request waits while no version may answer.")  # fmt: skip
@click.option("--api-key-file", type=click.Path(path_type=Path, dir_okay=False),
              help="The server's key, for clients that send none.")  # fmt: skip
@click.option("--until-stdin-ends", "follow_stdin", is_flag=True, help="End when stdin, a pipe, is closed.")
def main(state_dir: Path, port: int, patience: float, api_key_file: Path | None, follow_stdin: bool) -> None:
    """Serve one stable model name in front of dreamloop's vLLM servers."""
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    for noisy in ("httpx2", "httpcore2", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        key = read_key(api_key_file) if api_key_file else ""
        asyncio.run(serve(state_dir, port, patience=patience, key=key, follow_stdin=follow_stdin))
    except DreamloopError as error:
        log.error("%s", error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

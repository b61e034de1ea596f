"""HTTP over the control socket with the standard library alone, so that dreamctl starts fast."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from daemon.control import SOCKET_NAME

DEFAULT_STATE = ".dreamloop"


class Refused(click.ClickException):
    """The daemon said no, or failed."""

    exit_code = 1


class Unanswered(Refused):
    """The daemon took the request and gave no answer: it is very busy, or just ending."""


class NoDaemon(click.ClickException):
    """No daemon answers on this state folder."""

    exit_code = 3


class NotPermitted(click.ClickException):
    """This user may not talk to the daemon."""

    exit_code = 4


def find_state(given: str | None) -> Path:
    """The state folder: `given`, else $DREAMLOOP_STATE, else .dreamloop here or in the nearest folder above."""
    chosen = given or os.environ.get("DREAMLOOP_STATE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / DEFAULT_STATE).is_dir():
            return folder / DEFAULT_STATE
    return here / DEFAULT_STATE


class _Connection(http.client.HTTPConnection):
    """HTTP to a socket file."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("dreamloop", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Daemon:
    """The daemon behind a state folder's socket. Every failure is a click exception with dreamctl's exit code."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.path = state / SOCKET_NAME

    def get(self, path: str, timeout: float = 10.0) -> Any:
        """GET, parsed."""
        return self._request("GET", path, None, timeout)

    def post(self, path: str, body: Any = None, timeout: float = 30.0) -> Any:
        """POST JSON, parsed."""
        return self._request("POST", path, body, timeout)

    def events(self) -> Iterator[dict[str, Any]]:
        """The daemon's events until it stops; an empty dict is a heartbeat."""
        connection, response = self._open("GET", "/v1/events", None, 60.0)
        try:
            while line := response.readline():
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])
                elif line.startswith(b":"):
                    yield {}
        except (OSError, http.client.HTTPException):
            return  # the daemon went away in the middle: as ended as a closed stream
        finally:
            connection.close()

    def _request(self, method: str, path: str, body: Any, timeout: float) -> Any:
        connection, response = self._open(method, path, body, timeout)
        try:
            return json.loads(response.read())
        except (OSError, http.client.HTTPException) as error:
            raise Unanswered(f"the daemon on {self.state} stopped in the middle of its answer: {error}") from None
        except ValueError:
            raise Refused(f"{self.path}: what answers there does not speak dreamloop's language") from None
        finally:
            connection.close()

    def _open(
        self, method: str, path: str, body: Any, timeout: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = _Connection(self.path, timeout)
        payload = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            connection.request(method, path, payload, headers)
            response = connection.getresponse()
        except TimeoutError:
            connection.close()
            raise Unanswered(f"the daemon on {self.state} did not answer within {timeout:.0f} s") from None
        except PermissionError:
            connection.close()
            raise NotPermitted(
                f"{self.path}: you may not talk to this daemon; run dreamctl as its user, as root, or in its group"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoDaemon(self._absent(error)) from None
        if response.status >= 400:
            refusal = _refusal(response)
            connection.close()
            raise refusal
        return connection, response

    def _absent(self, error: Exception) -> str:
        if "too long" in str(error):
            return f"{self.path}: too long for a Unix socket, so no daemon can run there; use a shorter --state"
        return (
            f"no daemon is running on {self.state}\n"
            f"start one with: dreamloopd --config config.toml --state {self.state}   (or `make run`)\n"
            "or name another state folder: dreamctl --state DIR ..., or set DREAMLOOP_STATE"
        )


def _refusal(response: http.client.HTTPResponse) -> click.ClickException:
    try:
        message = str(json.loads(response.read())["error"])
    except (ValueError, KeyError, TypeError, OSError):
        message = f"the daemon answered {response.status} {response.reason}"
    return NotPermitted(message) if response.status == 403 else Refused(message)

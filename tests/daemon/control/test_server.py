"""The control socket: who may call, what stands in its place, and what it answers."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from daemon.control import SOCKET_NAME
from daemon.control.api import ENDPOINTS, changed_keys
from daemon.control.server import ControlServer
from daemon.errors import AlreadyRunning, ConfigError


class Unix(http.client.HTTPConnection):
    """HTTP to a socket file, written here again so that the client is not tested with itself."""

    def __init__(self, path: Path) -> None:
        super().__init__("x", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self.path))


def ask(running: Any, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = Unix(running.state / SOCKET_NAME)
    headers = {"content-type": "application/json"} if body is not None else {}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def test_every_row_of_the_table_is_described(served: Any) -> None:
    """The OpenAPI document names exactly the table's paths and methods."""
    status, document = ask(served, "GET", "/v1/openapi.json")
    described = {(method.upper(), path) for path, of in document["paths"].items() for method in of}
    assert status == 200
    assert described - {("GET", "/v1/openapi.json")} == {(row.method, row.path) for row in ENDPOINTS}


def test_status_is_asked_on_the_loops_own_thread(served: Any) -> None:
    """Operations run on the event loop's thread, so the one writer needs no locks."""
    status, answer = ask(served, "GET", "/v1/status")
    assert (status, answer["pid"], served.memory.threads) == (200, 7, {"the loop"})


def test_acting_changes_the_daemon(served: Any) -> None:
    """pause, resume, run and rollback reach the operations with what was asked."""
    assert ask(served, "POST", "/v1/pause") == (200, {"paused": True})
    assert served.memory.paused
    assert ask(served, "POST", "/v1/resume") == (200, {"paused": False})
    assert not served.memory.paused
    assert ask(served, "POST", "/v1/run/judge")[0] == 202
    assert served.memory.asked == ["judge"]
    before = served.memory.serving
    assert ask(served, "POST", "/v1/rollback")[1]["before"] == before
    assert ask(served, "POST", "/v1/rollback", {"adapter": "bbbb"})[1]["before"].startswith("bbbb3333")


def test_a_stage_that_is_none_is_refused_with_the_ones_there_are(served: Any) -> None:
    """An unknown stage is a 422 whose message lists the stages, and nothing is run."""
    status, answer = ask(served, "POST", "/v1/run/sleep")
    assert status == 422
    assert "'cycle'" in answer["error"]
    assert served.memory.asked == []


def test_the_beginning_of_an_adapters_id_will_do(served: Any) -> None:
    """A unique prefix is completed; an ambiguous one is a 409 naming the candidates, an unknown one a 404."""
    assert ask(served, "POST", "/v1/promote/bb")[1]["serving"] == "bbbb3333" + "0" * 12
    status, answer = ask(served, "POST", "/v1/promote/aaaa")
    assert (status, "aaaa1111" in answer["error"]) == (409, True)
    assert ask(served, "POST", "/v1/promote/zz")[0] == 404


def test_what_a_person_can_mend_is_a_409_with_the_message(served: Any) -> None:
    """A DreamloopError's words reach the caller."""
    status, answer = ask(served, "POST", "/v1/promote/aaaa1111")
    assert (status, answer) == (409, {"error": "aaaa1111" + "0" * 12 + ": its folder is gone; restore it"})


def test_a_defect_is_a_500_that_says_nothing_private(served: Any) -> None:
    """An unexpected exception is answered without its message, and the server lives on."""
    status, answer = ask(served, "POST", "/v1/chat", {"text": "break"})
    assert status == 500
    assert "secret" not in answer["error"]
    assert ask(served, "GET", "/v1/status")[0] == 200


def test_a_path_that_is_none_says_where_the_list_is(served: Any) -> None:
    """404 and 405 are JSON with an error like everything else."""
    assert "/v1/openapi.json" in ask(served, "GET", "/v1/nothing")[1]["error"]
    assert ask(served, "POST", "/v1/status")[0] == 405


@pytest.mark.parametrize("body", [{}, {"text": ""}, {"text": 3}, {"text": "x" * 20_001}, [1]])
def test_a_chat_that_is_no_chat_is_refused(served: Any, body: Any) -> None:
    """Bodies that do not fit are a 422 with an error."""
    status, answer = ask(served, "POST", "/v1/chat", body)
    assert (status, list(answer)) == (422, ["error"])


def test_a_number_that_json_cannot_say_is_null(served: Any) -> None:
    """NaN and infinities come as null, never as invalid JSON."""
    served.memory.loss = float("nan")
    assert ask(served, "GET", "/v1/adapters")[1][0]["loss"] is None


def test_passwords_in_the_configuration_are_masked(served: Any) -> None:
    """A database URL is shown without its password."""
    answer = ask(served, "GET", "/v1/config")[1]
    assert answer["config"]["store"]["url"] == "postgresql://me:***@db/loop"
    assert answer["changed"] == ["daemon.seed", "store.url"]


def test_the_defaults_themselves_are_not_changes() -> None:
    """A configuration that nobody touched has no changed key."""
    from daemon.config import Config

    assert changed_keys(Config().model_dump(mode="json")) == []


def test_the_socket_is_for_owner_and_group_only(served: Any) -> None:
    """The file's mode is 0660 whatever the umask says."""
    mode = (served.state / SOCKET_NAME).stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o660)


def test_another_user_may_not_call_even_when_the_file_lets_them(serve: Any, tmp_path: Path) -> None:
    """The kernel's word on the caller counts: a stranger gets 403, a reader may look and not act."""
    if os.geteuid() != 0:
        pytest.skip("needs root to call as another user")
    running = serve(readers=[65533])
    (tmp_path / SOCKET_NAME).chmod(0o666)

    tmp_path.chmod(0o755)

    def as_user(uid: int, method: str, path: str) -> int:
        request = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        program = (
            "import os, socket, sys\n"
            f"os.setresuid({uid}, {uid}, {uid})\n"  # the user who connects is the one the kernel reports
            "with socket.socket(socket.AF_UNIX) as calling:\n"
            f"    calling.connect({SOCKET_NAME!r})\n"
            f"    calling.sendall({request!r}.encode())\n"
            "    print(calling.recv(64).split()[1].decode())\n"
        )
        ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
        return int(ran.stdout)

    assert as_user(65534, "GET", "/v1/status") == 403
    assert as_user(65534, "GET", "/v1/openapi.json") == 403
    assert as_user(65533, "GET", "/v1/status") == 200
    assert as_user(65533, "POST", "/v1/pause") == 403
    assert not running.memory.paused


def test_a_stale_socket_is_replaced(serve: Any, tmp_path: Path) -> None:
    """What a killed daemon left behind does not stop the next one."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET_NAME))
    assert ask(serve(), "GET", "/v1/status")[0] == 200


def test_a_living_daemon_is_not_pushed_aside(served: Any) -> None:
    """A second server on the same path is refused, and the first goes on answering."""
    with pytest.raises(AlreadyRunning, match="a daemon answers here"):
        served.await_(ControlServer(served.state / SOCKET_NAME, served.memory).start())
    assert ask(served, "GET", "/v1/status")[0] == 200


def test_a_file_in_the_way_is_left_alone(serve: Any, tmp_path: Path) -> None:
    """Something that is not a socket is never deleted."""
    (tmp_path / SOCKET_NAME).write_text("precious")
    with pytest.raises(ConfigError, match="is not a socket"):
        serve()
    assert (tmp_path / SOCKET_NAME).read_text() == "precious"


def test_a_path_too_long_for_a_socket_names_the_remedy(serve: Any, tmp_path: Path) -> None:
    """The error names `daemon.state` and --state."""
    with pytest.raises(ConfigError, match=r"too long for a Unix socket.*--state"):
        serve(tmp_path / ("x" * 120))


def test_a_state_folder_that_is_not_there_is_a_clear_error(serve: Any, tmp_path: Path) -> None:
    """No traceback from the socket layer."""
    with pytest.raises(ConfigError, match="cannot listen here"):
        serve(tmp_path / "missing")


def test_stopping_removes_the_socket_and_ends_streams(serve: Any, tmp_path: Path) -> None:
    """After stop() the file is gone, the reader's stream has ended, and a new server can start."""
    running = serve()
    connection = Unix(tmp_path / SOCKET_NAME)
    connection.request("GET", "/v1/events")
    response = connection.getresponse()
    assert response.readline() == b": listening\n"
    running.stop()
    response.read()  # ends
    connection.close()
    assert not (tmp_path / SOCKET_NAME).exists()
    assert running.memory.feed.subscribers == 0
    assert ask(serve(), "GET", "/v1/status")[0] == 200


def test_stopping_leaves_a_successors_socket(serve: Any, tmp_path: Path) -> None:
    """A server only removes the socket that it made itself."""
    running = serve()
    (tmp_path / SOCKET_NAME).unlink()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(tmp_path / SOCKET_NAME))
        running.stop()
        assert (tmp_path / SOCKET_NAME).exists()


def test_a_server_that_never_started_stops_quietly(tmp_path: Path, serve: Any) -> None:
    """stop() before start() does nothing."""
    asyncio.run(ControlServer(tmp_path / SOCKET_NAME, serve().memory).stop())
    assert (tmp_path / SOCKET_NAME).exists()


def test_events_arrive_in_order_and_leaving_ends_the_subscription(served: Any) -> None:
    """A reader gets what is published after it came; when it leaves, the feed forgets it."""
    connection = Unix(served.state / SOCKET_NAME)
    connection.request("GET", "/v1/events")
    response = connection.getresponse()
    assert response.readline() == b": listening\n"
    for number in range(3):
        served.publish("log", level="info", message=str(number), value=float("inf"))
    lines = [response.readline() for _ in range(1 + 3 * 3)]
    data = [json.loads(line[5:]) for line in lines if line.startswith(b"data:")]
    assert [event["message"] for event in data] == ["0", "1", "2"]
    assert data[0]["value"] is None
    assert b"event: log\n" in lines
    response.close()
    connection.close()
    deadline = time.monotonic() + 20
    while served.memory.feed.subscribers and time.monotonic() < deadline:
        time.sleep(0.01)
    assert served.memory.feed.subscribers == 0


def test_a_reader_that_does_not_read_holds_up_nobody(served: Any) -> None:
    """Ten thousand large events for a reader that sleeps: the daemon answers others, and memory stays bounded."""
    connection = Unix(served.state / SOCKET_NAME)
    connection.request("GET", "/v1/events")
    response = connection.getresponse()
    response.readline()
    for number in range(10_000):
        served.publish("progress", job="j", kind="k", done=number, total=10_000, note="x" * 500)
    assert ask(served, "GET", "/v1/status")[0] == 200
    (subscription,) = served.memory.feed._subscriptions
    assert len(subscription._queue) <= 8
    connection.sock.close()
    response.close()
    connection.close()

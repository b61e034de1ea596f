"""dreamctl: what it prints, where it finds its daemon, how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from daemon.control import REPORT_NAME, SOCKET_NAME
from daemon.control.client import main
from daemon.control.connection import find_state

COMMANDS = (
    "status", "watch", "pause", "resume", "run", "adapters", "promote", "rollback", "config", "report", "chat", "ask",
    "answers", "advice", "cancel",
)  # fmt: skip
PROGRAM = [sys.executable, "-m", "daemon.control.client"]


def call(*arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), input=input)


def test_help_and_imports_are_light() -> None:
    """`dreamctl --help` and importing the client load nothing heavy, and nothing of the daemon but its control room."""
    program = "import sys; import daemon.control.client; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "numpy", "pydantic", "fastapi", "uvicorn", "rich", "asyncio", "structlog", "policies", "graph"}
    assert heavy.isdisjoint(modules)
    own = {name for name in modules if name.split(".")[0] == "daemon"}
    rooms = {"client", "command", "connection", "questions"}
    assert own == {"daemon", "daemon.control", *(f"daemon.control.{room}" for room in rooms)}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    """--help works for each and mentions --json and --state."""
    result = call(command, "--help")
    assert result.exit_code == 0
    assert "--json" in result.output
    assert "--state" in result.output


def test_json_and_state_go_before_or_after_the_command(served: Any) -> None:
    """Both places mean the same."""
    state = str(served.state)
    before = call("--json", "--state", state, "status")
    after = call("status", "--state", state, "--json")
    mixed = call("--state", state, "status", "--json")
    assert json.loads(before.stdout) == json.loads(after.stdout) == json.loads(mixed.stdout)
    assert json.loads(before.stdout)["pid"] == 7


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["pause"], ["resume"], ["run", "cycle"], ["adapters"], ["promote", "bbbb"], ["rollback"],
     ["rollback", "aaaa2"], ["config"], ["report"], ["chat", "--once", "hello"]],
)  # fmt: skip
def test_every_command_prints_json(served: Any, arguments: list[str]) -> None:
    """--json prints exactly one JSON value on standard output."""
    result = call("--state", str(served.state), *arguments, "--json")
    assert result.exit_code == 0, result.output
    json.loads(result.stdout)


def test_status_says_what_matters(served: Any) -> None:
    """State, cycle, job, serving adapter, failure rate with its interval, and the verdict with its reason."""
    output = call("--state", str(served.state), "status").output
    said = [
        "running (pid 7", "2, in grade", "grade.answer 1/9", "aaaa2222", "promote aaaa2222", "- fails less", "4 turns",
        "listening 10 % [3 %, 26 %], 3 of 30",
    ]  # fmt: skip
    for words in said:
        assert words in output


def test_adapters_lists_lineage_and_reasons(served: Any) -> None:
    """Each adapter is a row with its parent, state, verdict."""
    ran = subprocess.run([*PROGRAM, "--state", str(served.state), "adapters"], capture_output=True, text=True,
                         check=True)  # fmt: skip
    row = next(line for line in ran.stdout.splitlines() if line.startswith("bbbb3333"))
    assert row.split()[1:5] == ["aaaa2222", "rejected", "✓", "promote"]
    assert "\x1b" not in ran.stdout


def test_acting_commands_act(served: Any) -> None:
    """pause, resume, run, promote and rollback change the daemon and say so."""
    state = str(served.state)
    assert "dreamctl resume" in call("--state", state, "pause").output
    assert served.memory.paused
    call("--state", state, "resume")
    assert not served.memory.paused
    assert "judge is next" in call("--state", state, "run", "judge").output
    assert "bbbb3333 serves now; before it was aaaa2222" in call("--state", state, "promote", "b").output
    assert "aaaa1111 serves now" in call("--state", state, "rollback").output


def test_refusals_are_exit_code_1_with_the_reason(served: Any) -> None:
    """The daemon's words, on standard error, without a traceback."""
    result = call("--state", str(served.state), "promote", "aaaa")
    assert (result.exit_code, "write more of it" in result.stderr, result.stdout) == (1, True, "")


def test_wrong_usage_is_exit_code_2(served: Any) -> None:
    """An unknown stage never reaches the daemon."""
    assert call("--state", str(served.state), "run", "sleep").exit_code == 2
    assert served.memory.asked == []


@pytest.mark.parametrize(
    "arguments", [["status"], ["watch"], ["chat", "--once", "x"], ["report"], ["adapters", "--json"]]
)
def test_no_daemon_is_exit_code_3_and_says_how_to_start_one(tmp_path: Path, arguments: list[str]) -> None:
    """Whatever the command, and also when a dead daemon left its socket."""
    result = call("--state", str(tmp_path), *arguments)
    assert result.exit_code == 3
    assert "dreamloopd --config config.toml --state" in result.stderr


def test_a_dead_daemons_socket_is_no_daemon(tmp_path: Path) -> None:
    """A socket that nobody serves is exit code 3 as well."""
    import socket

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET_NAME))
    assert call("--state", str(tmp_path), "status").exit_code == 3


def test_a_state_folder_too_long_for_a_socket_says_so(tmp_path: Path) -> None:
    """No daemon can be there, and the message says why."""
    result = call("--state", str(tmp_path / ("x" * 120)), "status")
    assert (result.exit_code, "shorter --state" in result.stderr) == (3, True)


def test_not_permitted_is_exit_code_4(serve: Any, tmp_path: Path) -> None:
    """A 403 of the daemon: here the server is told that nobody is allowed."""
    running = serve()
    for users in running.server._allowed.values():
        users.clear()
    result = call("--state", str(tmp_path), "status")
    assert (result.exit_code, "daemon's user" in result.stderr) == (4, True)


def test_a_socket_that_may_not_be_opened_is_exit_code_4(serve: Any, tmp_path: Path) -> None:
    """The file's own mode refuses another user before the daemon is asked."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    serve()
    tmp_path.chmod(0o755)
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom daemon.control.connection import Daemon, NotPermitted\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "try:\n    Daemon(Path('.')).get('/v1/status')\nexcept NotPermitted as error:\n    print(error.exit_code)\n"
    )
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, env=here)
    assert (ran.stdout.strip(), ran.stderr) == ("4", "")


def test_the_state_folder_is_found_from_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given, then $DREAMLOOP_STATE, then the nearest .dreamloop here or above, then one here."""
    monkeypatch.delenv("DREAMLOOP_STATE", raising=False)
    deep = tmp_path / "project" / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert find_state(None) == deep / ".dreamloop"
    (tmp_path / "project" / ".dreamloop").mkdir()
    assert find_state(None) == tmp_path / "project" / ".dreamloop"
    monkeypatch.setenv("DREAMLOOP_STATE", str(tmp_path / "named"))
    assert find_state(None) == tmp_path / "named"
    assert find_state("given") == deep / "given"


def test_config_is_toml_and_marks_changes(served: Any) -> None:
    """Without --all only changed keys; with it every key; both are TOML; --json always has every key."""
    import tomllib

    state = str(served.state)
    assert tomllib.loads(call("--state", state, "config").output) == {
        "daemon": {"seed": 7}, "store": {"url": "postgresql://me:***@db/loop"}
    }  # fmt: skip
    everything = call("--state", state, "config", "--all").output
    assert tomllib.loads(everything)["daemon"] == {"seed": 7, "log_level": "info"}
    assert "seed = 7  # changed" in everything
    assert json.loads(call("--state", state, "config", "--json").stdout)["daemon"]["log_level"] == "info"


def test_report_of_a_daemon_that_ended_is_read_from_its_folder(tmp_path: Path) -> None:
    """The file's JSON on standard output, its age on standard error."""
    (tmp_path / REPORT_NAME).write_text('{"seconds": 61, "behaviors": {}}')
    os.utime(tmp_path / REPORT_NAME, (time.time() - 7200, time.time() - 7200))
    result = call("--state", str(tmp_path), "report", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"seconds": 61, "behaviors": {}})
    assert "2 h old" in result.stderr


def test_a_broken_report_is_refused_by_name(tmp_path: Path) -> None:
    """Half a file is exit code 1, naming the file."""
    (tmp_path / REPORT_NAME).write_text('{"seconds": ')
    result = call("--state", str(tmp_path), "report")
    assert (result.exit_code, REPORT_NAME in result.stderr) == (1, True)


def test_report_for_people_has_both_sides(served: Any) -> None:
    """Base and serving with interval and bands."""
    output = call("--state", str(served.state), "report").output
    assert "base      10 % fail [0 %, 40 %], 1 of 10; subtle 20 %" in output
    assert "serving   10 % fail" in output


def test_a_conversation_goes_on_until_its_end(served: Any) -> None:
    """Lines in, answers out, one conversation; an empty line says nothing."""
    result = call("--state", str(served.state), "chat", "--json", input="hello\n\nagain\n")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["answer"] for answer in answers] == ["HELLO", "AGAIN"]
    assert {answer["conversation"] for answer in answers} == {"c1"}
    assert result.exit_code == 0


def test_chat_once_prints_the_answer_alone(served: Any) -> None:
    """For scripts."""
    assert call("--state", str(served.state), "chat", "--once", "grüße").stdout == "GRÜSSE\n"


def test_watch_prints_lines_and_ends_with_the_daemon(serve: Any, tmp_path: Path) -> None:
    """Not in a terminal: the status, then a line per happening, and exit code 0 when the daemon stops."""
    running = serve()

    def happen() -> None:
        while not running.memory.feed.subscribers:
            time.sleep(0.01)
        running.publish("dream", text="a\x1b[2Jb", behavior="listening", band="subtle", temperature=0.7)
        running.publish("progress", job="j", kind="k", done=1, total=2, note="")
        running.stop()

    thread = threading.Thread(target=happen)
    thread.start()
    ran = subprocess.run([*PROGRAM, "--state", str(tmp_path), "watch"], capture_output=True, text=True, timeout=60)
    thread.join()
    assert (ran.returncode, "the daemon has stopped" in ran.stderr) == (0, True)
    assert "running (pid 7" in ran.stdout
    assert ran.stdout.splitlines()[-1].endswith("dream   listening/subtle: a [2Jb")


def test_a_broken_pipe_is_quiet(served: Any) -> None:
    """A reader that has had enough, as `head` does, gets no traceback."""
    command = f"{sys.executable} -m daemon.control.client --state {served.state} config --all | true"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert ran.stderr == ""


def test_something_else_on_the_socket_is_a_clear_error(tmp_path: Path) -> None:
    """An answer that is not the daemon's JSON is exit code 1, not a traceback."""
    import socket

    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / SOCKET_NAME))
        other.listen()

        def answer() -> None:
            calling, _ = other.accept()
            with calling:
                calling.recv(1000)
                calling.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")

        thread = threading.Thread(target=answer)
        thread.start()
        result = call("--state", str(tmp_path), "status")
        thread.join()
    assert (result.exit_code, "does not speak" in result.stderr) == (1, True)


def ask(served: Any, *words: str) -> Result:
    return call("--state", str(served.state), *words)


def test_asking_follows_the_job_to_its_finding(served: Any) -> None:
    """`ask` queues the experiment, waits for its end and gives the finding; --detach returns at once."""
    done = ask(served, "ask", "q1", "--full", "--behavior", "push_back", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"id": "f", "question": "q1"})
    assert served.memory.asked == ["q1 full push_back"]
    detached = ask(served, "ask", "q2", "--detach")
    assert detached.exit_code == 0 and "dreamctl cancel j1" in detached.stdout
    assert served.memory.asked[-1] == "q2 quick None"


def test_a_wrong_question_is_answered_with_the_right_ones(served: Any) -> None:
    """There are seven; the usage error names them."""
    done = ask(served, "ask", "q8")
    assert done.exit_code == 2 and "q7" in done.stderr


@pytest.mark.parametrize("act", ["accept", "reject", "undo"])
def test_advice_is_acted_on_by_its_key(served: Any, act: str) -> None:
    """An act names an advice by its key and says what the key is from now on."""
    done = ask(served, "advice", act, "guard.channels")
    assert done.exit_code == 0 and "guard.channels = 1 from now on; it was 0" in done.stdout


def test_an_act_needs_a_name_and_a_known_one(served: Any) -> None:
    """Without a name it is a usage error; an unknown one is refused in the daemon's words."""
    assert ask(served, "advice", "accept").exit_code == 2
    refused = ask(served, "advice", "accept", "guard.none")
    assert refused.exit_code == 1 and "no advice is called" in refused.stderr


def test_cancelling_what_has_ended_says_so(served: Any) -> None:
    """A job that is over is no error; one that never was is."""
    assert "it had ended already" in ask(served, "cancel", "j1").stdout
    assert ask(served, "cancel", "j9").exit_code == 1

"""The whole daemon on a vLLM server that it runs itself: a cycle, a crash of the server, an operator, a client."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.loop.conftest import Daemon, daemon  # noqa: F401 - a fixture
from tests.vllm.servers import executable, free_port

pytestmark = [pytest.mark.loop, pytest.mark.timeout(900)]

# As few answers as still tell an update that works from one that does not: a request costs more than in the process.
FEW: dict[str, dict[str, Any]] = {
    "traffic": {"conversations": 16},
    "grade": {"answers": 2},
    "learn": {"guided_answers": 2},
    "judge": {"probes": 40, "samples": 1, "second_look": 0, "canaries": 10},
    "guard": {"probes": 10},
    "experiments": {"observe": False},
    "schedule": {"cycle": "manual"},
}


def test_a_cycle_through_vllm_survives_the_servers_crash(daemon: Callable[..., Daemon]) -> None:  # noqa: F811
    """Dreams, answers and probes come from the server; it is killed while they do, started again by the daemon, and the
    cycle ends well all the same. What serves then was attested, under the one name that clients use."""
    port, gateway = free_port(), free_port()
    serve = {
        "backend": "vllm",
        "managed": str(executable()),
        "url": f"http://127.0.0.1:{port}",
        "gateway_port": gateway,
        "arguments": ["--max-num-seqs", "64"],
    }
    one = daemon(FEW | {"serve": serve})
    one.start()
    status = one.until(lambda found: attested(found), 420)
    assert status["servers"]["alias"]["state"] == "serving"
    first = status["servers"]["replicas"][0]["started"]
    assert chat(gateway)["choices"][0]["message"]["content"]

    one.ctl("run", "cycle")
    one.until(lambda found: any(job["kind"] == "grade.answer" for job in found["jobs"]), 300)
    os.killpg(server(one.state), signal.SIGKILL)
    one.until(lambda found: not found["cycle"] and found["adapters"] == 1, 600)
    status = one.until(lambda found: attested(found), 120)
    replica = status["servers"]["replicas"][0]
    assert replica["started"] != first and status["servers"]["managed"]["starts"] == 2
    (adapter,) = one.ctl("adapters")
    assert adapter["verdict"] in ("promote", "hold", "reject")
    assert "job failed" not in one.log(), one.log()[-3000:]

    # an operator's word is followed as the gate's is: the alias stands for the adapter once that was attested
    if status["serving"]["adapter"] is None:
        one.ctl("promote", adapter["id"])
    name = f"dreamloop:{adapter['id']}"
    one.until(lambda found: found["servers"]["alias"]["model"] == name, 60)
    answer = chat(gateway)
    assert answer["model"] == name and answer["choices"][0]["message"]["content"]
    one.ctl("rollback")
    one.until(lambda found: found["servers"]["alias"]["model"] != name and attested(found), 60)

    one.started[-1].send_signal(signal.SIGINT)
    assert one.started[-1].wait(60) == 0, one.log()[-3000:]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health", timeout=5)


def chat(gateway: int) -> dict[str, Any]:
    """What a client gets under the name that never changes."""
    body = {"model": "dreamloop", "messages": [{"role": "user", "content": "use vim to edit the config."}]}
    found: dict[str, Any] = httpx.post(f"http://127.0.0.1:{gateway}/v1/chat/completions", json=body, timeout=60).json()
    return found


def attested(status: dict[str, Any]) -> bool:
    """Does every replica serve what it should?"""
    rows = (status.get("servers") or {}).get("replicas") or []
    return bool(rows) and all(row["state"] == "attested" for row in rows)


def server(state: Path) -> int:
    """The process group of the server that the daemon runs."""
    from daemon.serving import leftovers

    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        if group := leftovers.recorded(state):
            return int(group)
        time.sleep(0.2)
    raise AssertionError("no server was recorded")

"""A real vLLM server as a child of the tests: started on a free port, waited for, killed, started again."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemon import vllm_worker

ROOT = Path(__file__).parents[2]
PATIENCE = 420.0  # seconds from start to healthy; about 30 on an idle machine
_ENVIRONMENT = {
    "PYTHONPATH": str(vllm_worker.PATH),
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "OMP_NUM_THREADS": "1",
}
_LIBC = ctypes.CDLL(None)
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def executable() -> Path:
    """The vllm command to test with; skips when there is none."""
    given = os.environ.get("DREAMLOOP_VLLM")
    found = Path(given) if given else ROOT / ".vllm" / "bin" / "vllm"
    if not found.is_file():
        where = f"DREAMLOOP_VLLM is {given}, which is not there" if given else "no vLLM in .vllm"
        pytest.skip(f"{where}: run .ci/install_vllm_cpu.sh, or set DREAMLOOP_VLLM to a vllm command")
    return found


class RunningServer:
    """vLLM on a folder of weights: `url`, `model` (the base's name), `weights`, `log`, `pid`, `arguments`."""

    def __init__(self, weights: Path, log: Path, arguments: Sequence[str], *, command: Path, name: str) -> None:
        self.weights, self.log, self.arguments, self.command = weights, log, list(arguments), command
        self.model = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the API server, which leads a process group of its own."""
        assert self._child is not None, "the server is not running"
        return self._child.pid

    @property
    def environment(self) -> dict[str, str]:
        """What it is started with, for tests that start one by themselves."""
        return os.environ | _ENVIRONMENT

    def launch(self) -> None:
        """Start it and return at once; `wait` says when it answers."""
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--served-model-name", self.model]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [str(self.command), "serve", str(self.weights), *where, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def wait(self, patience: float = PATIENCE) -> None:
        """Until it is healthy and has answered once: the first answer compiles, and takes many seconds."""
        deadline = time.monotonic() + patience
        while not self.healthy():
            assert self._child is not None
            code = self._child.poll()
            if code is not None or time.monotonic() > deadline:
                self.kill()
                happened = f"ended with {code}" if code is not None else f"is not healthy after {patience:.0f} s"
                pytest.fail(f"vLLM {happened}; the end of {self.log}:\n{self.tail()}", pytrace=False)
            time.sleep(0.2)
        self.complete("warm", max_tokens=2, prompt_logprobs=0)

    def start(self) -> None:
        """Launch and wait."""
        self.launch()
        self.wait()

    def stop(self) -> None:
        """As systemd would: asked first, killed when it does not listen. Nothing of its group is left."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(15)
        self.kill()

    def kill(self) -> None:
        """As a crash: the whole group at once."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait(30)
            self._child = None

    def restart(self) -> None:
        """Another process on the same address, which knows no adapters and no vectors."""
        self.stop()
        self.start()

    def healthy(self) -> bool:
        """Does it answer /health?"""
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """A POST, whatever it answers."""
        return httpx.post(self.url + path, json=body, timeout=120)

    def complete(self, prompt: str | Sequence[int] | Sequence[Sequence[int]], **more: Any) -> list[dict[str, Any]]:
        """The choices of /v1/completions; greedy unless said otherwise."""
        body = {"model": self.model, "prompt": prompt, "temperature": 0, "return_token_ids": True, **more}
        answer = self.post("/v1/completions", body)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}\n{self.tail()}"
        choices: list[dict[str, Any]] = answer.json()["choices"]
        return sorted(choices, key=lambda choice: int(choice["index"]))

    def rpc(self, method: str, *arguments: str) -> list[Any]:
        """What each worker answered to a method of the extension."""
        answer = self.post("/collective_rpc", {"method": method, "args": list(arguments)})
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}\n{self.tail()}"
        results: list[Any] = answer.json()["results"]
        return results

    def models(self) -> list[str]:
        """The names that it lists."""
        return [str(row["id"]) for row in httpx.get(f"{self.url}/v1/models", timeout=120).json()["data"]]

    def load(self, name: str, folder: Path) -> httpx.Response:
        """Load an adapter under a name."""
        return self.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})

    def unload(self, name: str) -> httpx.Response:
        """Unload an adapter."""
        return self.post("/v1/unload_lora_adapter", {"lora_name": name})

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.is_file() else ""


def _die_with_parent() -> None:
    """In the child: asked to end when the tests' process ends in whatever way."""
    _LIBC.prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])

"""The whole daemon as a person runs it: real processes, the real nano, a state folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}

# The loop at a size that takes seconds a cycle: every part is the real one, only the numbers are small.
SMALL: dict[str, dict[str, Any]] = {
    "traffic": {"conversations": 24},
    "dream": {"count": 16},
    "learn": {"minimum": 8, "maximum": 24},
    "judge": {"probes": 40, "samples": 1, "second_look": 0, "canaries": 20},
    "guard": {"probes": 20},
    "experiments": {"observe": False},
}


def toml(value: Any) -> str:
    """A value as TOML: as in JSON, but for tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)


class Daemon:
    """A state folder, a configuration, and the processes started on them."""

    def __init__(self, folder: Path, changes: dict[str, dict[str, Any]]) -> None:
        self.folder = folder
        self.state = folder / "s"
        self.config = folder / "config.toml"
        raw = tomllib.loads((ROOT / "config.toml").read_text(encoding="utf-8"))
        raw["daemon"]["metrics_port"] = 0
        for section, keys in changes.items():
            raw.setdefault(section, {}).update(keys)
        lines = []
        for section, keys in raw.items():
            lines += [f"[{section}]", *(f"{key} = {toml(value)}" for key, value in keys.items())]
        self.config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.started: list[subprocess.Popen[str]] = []

    def command(self, *words: str) -> list[str]:
        return [str(BIN / "dreamloopd"), "--config", str(self.config), "--state", str(self.state), *words]

    def run(self, *words: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run to its end."""
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT, check=False
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start in the background."""
        with (self.folder / f"log{len(self.started)}").open("w") as log:
            process = subprocess.Popen(self.command(*words), stdout=log, stderr=log, text=True, env=ENVIRONMENT)
        self.started.append(process)
        return process

    def log(self) -> str:
        return "\n".join(file.read_text() for file in sorted(self.folder.glob("log*")))

    def ctl(self, *words: str, ok: bool = True) -> Any:
        """A dreamctl command's JSON."""
        done = subprocess.run(
            [str(BIN / "dreamctl"), "--state", str(self.state), *words, "--json"],
            capture_output=True, text=True, timeout=120, env=ENVIRONMENT, check=False,
        )  # fmt: skip
        assert done.returncode == 0 or not ok, done.stdout + done.stderr
        return json.loads(done.stdout) if done.returncode == 0 else done

    def until(self, true: Callable[[dict[str, Any]], bool], seconds: float = 300) -> dict[str, Any]:
        """Wait until the status is so; the daemon must be alive meanwhile."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            assert self.started[-1].poll() is None, self.log()[-4000:]
            if (self.state / "control.sock").exists():
                found = self.ctl("status", ok=False)
                if isinstance(found, dict) and true(found):
                    return found
            time.sleep(0.2)
        raise AssertionError(f"it never came to that: {self.log()[-4000:]}")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons, and ends what is left of them."""
    made: list[Daemon] = []

    def make(changes: dict[str, dict[str, Any]] | None = None, *, small: bool = True) -> Daemon:
        merged = {section: dict(keys) for section, keys in (SMALL if small else {}).items()}
        for section, keys in (changes or {}).items():
            merged.setdefault(section, {}).update(keys)
        made.append(Daemon(tmp_path_factory.mktemp("d"), merged))
        return made[-1]

    yield make
    for one in made:
        for process in one.started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait(30)

"""What the benchmarks share: where a run happened, how its result is kept, a daemon to measure."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict[str, Any]:
    """What ran it: enough to read the times by, nothing that names the machine."""
    versions = {}
    for package in ("torch", "transformers", "peft"):
        from importlib.metadata import version

        versions[package] = version(package)
    return {"cores": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version(), **versions}


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with `--save`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--save", action="store_true", help="write the result to benchmarks/results/")
    return parser


def finish(name: str, result: dict[str, Any], save: bool) -> None:
    """Print the result, and keep it when asked to."""
    text = json.dumps({"benchmark": name, "machine": machine(), **result}, indent=1)
    print(text)
    if save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def free_port() -> int:
    """A port on loopback that nobody has just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def script(name: str) -> str:
    """A command of the environment this benchmark runs in."""
    return str(Path(sys.executable).parent / name)


def daemon_config(folder: Path, changes: dict[str, dict[str, Any]]) -> Path:
    """The project's config.toml with some keys changed (sections are replaced key by key)."""
    import tomllib

    raw = tomllib.loads((ROOT / "config.toml").read_text(encoding="utf-8"))
    raw.setdefault("daemon", {})["metrics_port"] = 0
    for section, keys in changes.items():
        raw.setdefault(section, {}).update(keys)
    lines = []
    for section, keys in raw.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    file = folder / "config.toml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def dreamctl(state: Path, *words: str) -> Any:
    """A command's JSON."""
    done = subprocess.run([script("dreamctl"), "--state", str(state), *words, "--json"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr or done.stdout)
    return json.loads(done.stdout)


@contextmanager
def running(config: Path, state: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon in the background, ended by SIGINT."""
    log = (state.parent / "daemon.log").open("wb")
    process = subprocess.Popen(
        [script("dreamloopd"), "--config", str(config), "--state", str(state), *words], stdout=log, stderr=log
    )
    try:
        for _ in range(600):
            if (state / "control.sock").exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)
        log.close()

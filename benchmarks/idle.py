"""The idle daemon: the main process's share of a core and memory, and how soon `dreamctl --help` answers.

    .venv/bin/python benchmarks/idle.py [--seconds 60] [--save]

The daemon runs with the embedded configuration, schedule "manual", both workers warm, one `dreamctl watch` attached
or not. Goals: under 1 % of a core, under 150 MB, under 0.4 s; `python -c pass` stands beside the last as the floor.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from common import arguments, daemon_config, finish, running, script


def main() -> None:
    parser = arguments("The idle daemon.")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        config = daemon_config(Path(folder), {"schedule": {"cycle": "manual"}})
        with running(config, state) as daemon:
            main_process = psutil.Process(daemon.pid)
            time.sleep(20)  # the workers warm up
            before, began = main_process.cpu_times(), time.time()
            time.sleep(options.seconds)
            after, seconds = main_process.cpu_times(), time.time() - began
            busy = (after.user + after.system) - (before.user + before.system)
            memory = main_process.memory_info().rss
            workers = [child.memory_info().rss for child in main_process.children(recursive=True)]
    result = {
        "cpu_share_of_a_core": round(busy / seconds, 5),
        "rss_megabytes": round(memory / 1e6, 1),
        "worker_rss_megabytes": [round(rss / 1e6, 1) for rss in workers],
        "dreamctl_help_seconds": _median([script("dreamctl"), "--help"]),
        "python_floor_seconds": _median([sys.executable, "-c", "pass"]),
        "goals": {"cpu_share_of_a_core": 0.01, "rss_megabytes": 150, "dreamctl_help_seconds": 0.4},
    }
    finish("idle", result, options.save)


def _median(command: list[str], runs: int = 9) -> float:
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    return round(statistics.median(seconds), 3)


if __name__ == "__main__":
    main()

"""Draws the README's picture of the terminal view from a real run: docs/view.svg.

    .venv/bin/python benchmarks/picture.py [--cycles 3]

Starts the embedded daemon on a fresh state, follows it over the control socket as `dreamctl watch` does, and keeps
the view as it stands while the last cycle's candidate is being measured.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from common import ROOT, daemon_config, running

from daemon.control.connection import Daemon
from daemon.terminal import snapshot


def main() -> None:
    parser = argparse.ArgumentParser(description="The README's picture.")
    parser.add_argument("--cycles", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        config = daemon_config(Path(folder), {})
        with running(config, state):
            client = Daemon(state)
            seen: list[dict[str, Any]] = []
            for event in client.events():
                if not event:
                    continue  # a heartbeat
                seen.append(event)
                if event["event"] == "progress" and event["kind"] == "judge.measure" and event["done"] > 300:
                    status = client.get("/v1/status")
                    if status["cycle"]["id"] >= options.cycles:
                        break
            hint = "Ctrl-C stops    in another terminal: dreamctl status"
            picture = snapshot(status, seen, width=120, height=38, adapters=client.get("/v1/adapters"), hint=hint)
    (ROOT / "docs" / "view.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()

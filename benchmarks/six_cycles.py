"""Six cycles of the embedded loop from a fresh state, then base against serving adapter on sealed probes.

.venv/bin/python benchmarks/six_cycles.py [--cycles 6] [--save]
.venv/bin/python benchmarks/six_cycles.py --vllm .vllm/bin/vllm [--save]    the same, answered by a vLLM server

Nothing of the configuration but `[serve]` differs between the two.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from common import arguments, daemon_config, dreamctl, finish, free_port, script


def brief(rows: dict[str, Any]) -> dict[str, Any]:
    """A behaviour's two sides without their bands, and the paired changes."""
    sides = {
        side: rows[side] and {key: rows[side][key] for key in ("failures", "n", "rate", "low", "high")}
        for side in ("base", "serving")
    }
    return sides | {"change": rows["change"], "counter_change": rows["counter_change"]}


def main() -> None:
    parser = arguments("Six cycles of the embedded loop.")
    parser.add_argument("--cycles", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vllm", type=Path, help="the vllm command of a server that the daemon is to run")
    options = parser.parse_args()
    changes: dict[str, dict[str, Any]] = {"daemon": {"seed": options.seed}}
    if options.vllm:
        url = f"http://127.0.0.1:{free_port()}"
        changes["serve"] = {"backend": "vllm", "managed": str(options.vllm.absolute()), "url": url}
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        config = daemon_config(Path(folder), changes)
        began = time.time()
        subprocess.run(
            [script("dreamloopd"), "--config", str(config), "--state", str(state), "--cycles", str(options.cycles)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seconds = time.time() - began
        report = dreamctl(state, "report")
    promoted = [a["judged_at"] for a in report["adapters"] if a["verdict"] == "promote"]
    result = {
        "wall_seconds": round(seconds, 1),
        "first_promotion_seconds": round(min(promoted) - began, 1) if promoted else None,
        "verdicts": [[a["verdict"], *a["reasons"][:1]] for a in report["adapters"]],
        "behaviors": {name: brief(rows) for name, rows in report["behaviors"].items()},
        "general": report["general"],
        "counts": report["counts"],
    }
    finish("six_cycles_vllm" if options.vllm else "six_cycles", result, options.save)


if __name__ == "__main__":
    main()

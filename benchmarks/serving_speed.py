"""How much goes through: our client against vLLM's own benchmark, and dreams against the in-process model."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from serving_setup import Bench, say, spread

from daemon.models import loading
from daemon.models.base import Conversation, Generator, Sampling
from daemon.models.hf import HFModel
from daemon.probes.dreams import ask
from graph import memory
from graph.seeds import seed_material
from policies.dream.allocate import Need, allocate

TOKENS = 64  # of each answer, when the same work is compared


def dream_requests(bench: Bench, count: int) -> list[Conversation]:
    """What the dream station would ask for: the configured behaviours' patterns, and memories of the bundled graph."""
    rng = random.Random(1)
    patterns = {behavior.name: behavior.graph_key for behavior in bench.behaviors}
    material = seed_material(memory.load("bundled"), [], patterns, rng, count=2 * count)
    trained = bench.config.behaviors.train
    needs = [Need(behavior=behavior.name, trained=behavior.name in trained) for behavior in bench.behaviors]
    seeds = allocate(count, needs, material, cycle=1, rng=rng, counters=False)
    words = {behavior.name: behavior.dream_pattern for behavior in bench.behaviors}
    return [ask(words[seed.behavior], seed.memories, seed.band) for seed in seeds]


def throughput(bench: Bench, repetitions: int, count: int) -> dict[str, Any]:
    """Tokens a second through `generate` and through `vllm bench serve`: same prompts, lengths and concurrency.

    Both ask for one adapter with a seed per request; "unseeded" is bench serve without, which is less for the server
    to do. It streams, and our client does not, for a loop has nobody who reads along.
    """
    adapter = bench.fresh(1)[0]
    bench.client.use(adapter)
    asked = dream_requests(bench, count)
    prompt_tokens = sum(len(bench.client.chat.prompt(one)) for one in asked)
    dataset = bench.folder / "prompts.json"
    dataset.write_text(json.dumps([_sharegpt(bench, one) for one in asked]), encoding="utf-8")
    concurrency = bench.config.serve.concurrency
    ours: list[float] = []
    cores: list[float] = []
    theirs: dict[str, list[float]] = {"seeded": [], "unseeded": []}
    ways = ["ours", *theirs]
    for repetition in range(repetitions + 1):  # the first warms up
        for way in ways if repetition % 2 else reversed(ways):
            say(f"throughput, {way}, {repetition} of {repetitions}")
            if way == "ours":
                spent, began = time.process_time(), time.monotonic()
                ours.append(_ours(bench, asked))
                cores.append((time.process_time() - spent) / (time.monotonic() - began))
            else:
                theirs[way].append(_theirs(bench, dataset, count, prompt_tokens, seeded=way == "seeded"))
    bench.client.use(None)
    bench.unload()
    ours = ours[1:]
    result: dict[str, Any] = {
        "requests": count, "prompt_tokens": prompt_tokens, "tokens_each": TOKENS, "concurrency": concurrency,
        "repetitions": repetitions, "ours": spread(ours, 1), "our_client_cores": spread(cores[1:]),
    }  # fmt: skip
    for name, values in theirs.items():
        result[f"bench_serve_{name}"] = spread(values[1:], 1)
        result[f"ratio_{name}"] = spread([a / b for a, b in zip(ours, values[1:], strict=True)])
    result["goals"] = {"ratio_seeded": 0.95}
    return result


def _ours(bench: Bench, asked: Sequence[Conversation]) -> float:
    bench.noting.extra = {"ignore_eos": True, "stop_token_ids": []}
    try:
        began = time.monotonic()
        bench.client.generate(asked, Sampling(temperature=1.0, max_tokens=TOKENS, seed=1))
        return TOKENS * len(asked) / (time.monotonic() - began)
    finally:
        bench.noting.extra = {}


def _theirs(bench: Bench, dataset: Path, count: int, prompt_tokens: int, *, seeded: bool) -> float:
    extra = {"temperature": 1.0} | ({"seed": 1} if seeded else {})
    out = bench.folder / "bench.json"
    done = subprocess.run(
        [
            *(str(bench.vllm), "bench", "serve", "--backend", "openai", "--base-url", bench.url),
            *("--endpoint", "/v1/completions", "--model", str(bench.model), "--tokenizer", str(bench.model)),
            *("--served-model-name", bench.client.address()["model"]),
            *("--dataset-name", "sharegpt", "--dataset-path", str(dataset), "--sharegpt-output-len", str(TOKENS)),
            *("--num-prompts", str(count), "--max-concurrency", str(bench.config.serve.concurrency)),
            *("--ignore-eos", "--extra-body", json.dumps(extra), "--disable-tqdm"),
            *("--save-result", "--result-dir", str(out.parent), "--result-filename", out.name),
        ],
        capture_output=True,
        text=True,
        env=bench.environment(),
    )
    if done.returncode:
        raise RuntimeError(f"vllm bench serve: {done.stderr[-2000:]}")
    found = json.loads(out.read_text(encoding="utf-8"))
    did = (found["completed"], found["total_input_tokens"], found["total_output_tokens"])
    if did != (count, prompt_tokens, count * TOKENS):
        raise RuntimeError(f"vllm bench serve did other work: {did}, ours was {(count, prompt_tokens, count * TOKENS)}")
    return float(found["output_throughput"])


def _sharegpt(bench: Bench, conversation: Conversation) -> dict[str, Any]:
    """A conversation as one prompt text of the dataset that needs no other package."""
    text = bench.rendered(conversation)
    return {"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "."}]}


def dreams(bench: Bench, repetitions: int, count: int) -> dict[str, Any]:
    """Dreams a second: the server against the in-process model with one and two threads, all from the base."""
    asked = dream_requests(bench, count)
    model = bench.config.model
    ways: dict[str, tuple[Generator, int]] = {"vllm": (bench.client, 1)}
    for threads in (1, 2):
        here = loading.load(
            "hf",
            path=model.path,
            device=model.device,
            dtype=model.dtype,
            threads=threads,
            generate_batch=model.generate_batch,
        )
        assert isinstance(here, HFModel)
        ways[f"hf_{threads}_threads"] = (here, threads)
    per_second: dict[str, list[float]] = {name: [] for name in ways}
    lengths: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(repetitions + 1):  # the first warms up
        for name, (generator, threads) in ways.items():
            say(f"dreams, {name}, {repetition} of {repetitions}")
            torch.set_num_threads(threads)
            sampling = Sampling(
                temperature=bench.config.dream.temperature, max_tokens=model.max_tokens, seed=repetition
            )
            began = time.monotonic()
            texts = generator.generate(asked, sampling)
            per_second[name].append(len(texts) / (time.monotonic() - began))
            lengths[name].append(sum(len(bench.client.chat.ids(text)) for text in texts) / len(texts))
    torch.set_num_threads(model.threads)
    return {
        "requests": count,
        "repetitions": repetitions,
        "generate_batch": model.generate_batch,
        "per_second": {name: spread(values[1:], 1) for name, values in per_second.items()},
        "tokens_of_a_dream": {name: round(sum(values[1:]) / len(values[1:]), 1) for name, values in lengths.items()},
        "ratio": {
            f"vllm_to_{name}": spread([a / b for a, b in zip(per_second["vllm"][1:], values[1:], strict=True)])
            for name, values in per_second.items()
            if name != "vllm"
        },
    }

"""Can nano learn from its own answers? A small LoRA update from guidance-stripped examples, and its placebo.

`python -m daemon.models.nano.learnability` prints the failure rates before and after as JSON. The placebo is the
same update with the preferred and the rejected answer swapped in exactly half of the rows that have both.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.models.nano import DATA, WEIGHTS, phrases
from daemon.models.nano.checker import WANTED, outcome_of
from daemon.models.nano.evaluate import Json, failure_rates, general, load, scenarios
from daemon.models.nano.generate import generate
from daemon.models.nano.grammar import Line, render
from daemon.models.nano.probes import BEHAVIOR_FILES
from daemon.models.nano.train import IGNORED, pad
from daemon.models.nano.world import BEHAVIORS, LISTENING, PUSH_BACK, sample_scenario

TARGETS = [
    *("q_proj", "k_proj", "v_proj", "o_proj"),
    *("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj"),
    *("gate_proj", "up_proj", "down_proj"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A recipe: learning rate, passes, batch size, seed, and how many rows of each kind."""

    learning_rate: float = 1e-3
    passes: int = 2
    batch: int = 8
    rank: int = 8
    seed: int = 0
    behavior: str = LISTENING
    targets: int = 48
    counters: int = 24
    general: int = 16
    placebo: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt, the answer to learn and, where there is one, the answer it replaces."""

    prompt: str
    preferred: str
    rejected: str | None


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def guidance_stripped(model: Any, tokenizer: Any, behavior: str, count: int, seed: int) -> list[Row]:
    """Training scenarios that fail unguided, with the guided answer that passes."""
    rng = random.Random(seed)
    memory: list[Line] = [("system", f"memory: {phrases.GUIDANCE[behavior][0]}")]
    rows: list[Row] = []
    while len(rows) < count:
        asked = [sample_scenario(rng, behavior=behavior) for _ in range(96)]
        plain = generate(model, tokenizer, [[("user", s.text)] for s in asked], seed=rng.randrange(1 << 30))
        failed = [
            (s, a) for s, a in zip(asked, plain, strict=True) if outcome_of(s, a) not in (WANTED[behavior], "other")
        ]
        prompts = [[*memory, ("user", s.text)] for s, _ in failed]
        guided = generate(model, tokenizer, prompts, seed=rng.randrange(1 << 30))
        rows += [
            Row(s.text, good, bad)
            for (s, bad), good in zip(failed, guided, strict=True)
            if outcome_of(s, good) == WANTED[behavior]
        ]
    return rows[:count]


def material(model: Any, tokenizer: Any, update: Update) -> list[Row]:
    """The rows of an update, shuffled; for the placebo with half of their labels swapped."""
    rng = random.Random(update.seed)
    rows = guidance_stripped(model, tokenizer, update.behavior, update.targets, update.seed)
    pairs = _rows(BEHAVIOR_FILES / f"{update.behavior}.examples.jsonl")
    counters = [r for r in pairs if r["kind"] == "counter"]
    rows += [Row(r["prompt"], r["preferred"], r["rejected"]) for r in rng.sample(counters, update.counters)]
    if update.placebo:
        swapped = set(rng.sample(range(len(rows)), len(rows) // 2))
        rows = [Row(r.prompt, r.rejected or "", r.preferred) if i in swapped else r for i, r in enumerate(rows)]
    replay = rng.sample(_rows(DATA / "general.examples.jsonl"), update.general)
    rows += [Row(r["prompt"], r["answer"], None) for r in replay]
    rng.shuffle(rows)
    return rows


def adapt(model: Any, tokenizer: Any, rows: Sequence[Row], update: Update) -> tuple[Any, float]:
    """Train a LoRA adapter on the rows' preferred answers. The adapted model and the seconds it took."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(update.seed)
    tuned = get_peft_model(
        model,
        LoraConfig(r=update.rank, lora_alpha=2 * update.rank, target_modules=TARGETS, task_type="CAUSAL_LM"),
    )
    weights = [p for p in tuned.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=update.learning_rate, weight_decay=0.0)
    rng = random.Random(update.seed)
    began = time.monotonic()
    tuned.train()
    for _ in range(update.passes):
        order = rng.sample(list(rows), len(rows))
        for start in range(0, len(order), update.batch):
            texts, hidden = [], []
            for row in order[start : start + update.batch]:
                before = tokenizer(render([("user", row.prompt)], answer=True)).input_ids
                whole = tokenizer(render([("user", row.prompt), ("assistant", row.preferred)])).input_ids
                texts.append(whole[:-1])  # up to the end-of-turn token, without the line break after it
                hidden.append(len(before))
            ids, mask = pad(texts)
            labels = ids.masked_fill(mask == 0, IGNORED)
            for i, length in enumerate(hidden):
                labels[i, :length] = IGNORED
            tuned(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
    seconds = time.monotonic() - began
    tuned.eval()
    return tuned, seconds


def measure(model: Any, tokenizer: Any, count: int) -> Json:
    """Failure rates per behaviour on held-out targets and counters, and general accuracy."""
    result: Json = {}
    for name in BEHAVIORS:
        kinds = ("target",) if name == PUSH_BACK else ("target", "counter")
        for kind in kinds:
            asked = scenarios(name, kind, count, seed=99)  # type: ignore[arg-type]
            answers = generate(model, tokenizer, [[("user", s.text)] for s in asked], seed=5)
            rates = failure_rates(asked, answers)
            result[f"{name}.{kind}"] = {k: rates[k] for k in ("failures", "bands", "outcomes")}
    result["general"] = general(model, tokenizer, count=60)
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and measure, with and without the placebo."""
    import torch

    standard = Update()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--behavior", default=LISTENING, choices=BEHAVIORS)
    parser.add_argument("--rate", type=float, default=standard.learning_rate)
    parser.add_argument("--passes", type=int, default=standard.passes)
    parser.add_argument("--batch", type=int, default=standard.batch)
    parser.add_argument(
        "--counters", type=int, default=standard.counters, help="counter-examples beside the 48 targets"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--placebo", action=argparse.BooleanOptionalAction, default=None, help="only (without) it")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model, tokenizer = load(options.weights)
    print(json.dumps({"base": measure(model, tokenizer, options.count)}), flush=True)
    for seed in range(options.seeds):
        for placebo in (False, True) if options.placebo is None else (options.placebo,):
            update = Update(
                learning_rate=options.rate,
                passes=options.passes,
                batch=options.batch,
                counters=options.counters,
                seed=seed,
                behavior=options.behavior,
                placebo=placebo,
            )
            rows = material(model, tokenizer, update)
            tuned, seconds = adapt(model, tokenizer, rows, update)
            found = measure(tuned, tokenizer, options.count)
            model = tuned.unload()
            print(json.dumps({"placebo": placebo, "seed": seed, "seconds": round(seconds, 1), **found}), flush=True)


if __name__ == "__main__":
    main()

"""Measures nano: what it does unguided and guided, what it dreams, what it knows, how near it is to its grammar.

`python -m daemon.models.nano.evaluate` prints it as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from daemon.judges.nano_world import NanoWorldJudge
from daemon.models.nano import WEIGHTS, phrases
from daemon.models.nano.checker import outcome_of, parse
from daemon.models.nano.dice import Dice
from daemon.models.nano.general import FAMILIES, Task, draw_task
from daemon.models.nano.generate import generate, held_out_loss
from daemon.models.nano.grammar import DREAM, Line, dream_prompt
from daemon.models.nano.world import BANDS, BEHAVIORS, DOMAINS, OBJECTS, Kind, Scenario, clear, draw

Json = dict[str, Any]


def load(folder: Path = WEIGHTS) -> tuple[Any, Any]:
    """The model in single precision, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(
        folder
    )


def scenarios(behavior: str, kind: Kind, count: int, seed: int) -> list[Scenario]:
    """Held-out scenarios, the bands in turn."""
    dice = Dice(random.Random(seed))
    return [draw(dice, behavior=behavior, kind=kind, band=BANDS[i % 3], split="eval") for i in range(count)]


def _answers(model: Any, tokenizer: Any, asked: Sequence[Scenario], guidance: str | None, seed: int) -> list[str]:
    system: list[Line] = [("system", f"memory: {guidance}")] if guidance else []
    return generate(model, tokenizer, [[*system, ("user", s.text)] for s in asked], seed=seed)


def failure_rates(asked: Sequence[Scenario], answers: Sequence[str]) -> Json:
    """The share that fails, in all and by band, and what the answers were."""
    judge = NanoWorldJudge()
    failed = [not judge.judge(s.behavior, s.text, a).passed for s, a in zip(asked, answers, strict=True)]
    outcomes = Counter(outcome_of(s, a) for s, a in zip(asked, answers, strict=True))
    bands = {band: [f for f, s in zip(failed, asked, strict=True) if s.band == band] for band in BANDS}
    return {
        "n": len(asked),
        "failures": round(sum(failed) / len(failed), 3),
        "bands": {band: round(sum(f) / len(f), 3) for band, f in bands.items()},
        "outcomes": {outcome: round(n / len(asked), 3) for outcome, n in outcomes.most_common()},
    }


def behaviors(model: Any, tokenizer: Any, *, count: int, seed: int = 4242) -> Json:
    """Failure rates on held-out scenarios: unguided, guided, and how the others fare under each guidance."""
    result: Json = {}
    for name in BEHAVIORS:
        targets, counters = scenarios(name, "target", count, seed), scenarios(name, "counter", count // 2, seed + 1)
        guidance = phrases.GUIDANCE[name][0]
        result[name] = {
            "target": failure_rates(targets, _answers(model, tokenizer, targets, None, seed)),
            "counter": failure_rates(counters, _answers(model, tokenizer, counters, None, seed)),
            "guided": {
                "target": failure_rates(targets, _answers(model, tokenizer, targets, guidance, seed)),
                "counter": failure_rates(counters, _answers(model, tokenizer, counters, guidance, seed)),
            },
        }
    return result


def solved(task: Task, answer: str) -> bool:
    """Whether an answer is right; code is run."""
    if task.entry is None:
        return answer == task.answer
    space: dict[str, Any] = {"__builtins__": {"max": max, "min": min}}
    if not answer.startswith("def ") or "__" in answer:
        return False
    try:
        exec(answer, space)
        return all(space[task.entry](*arguments) == expected for arguments, expected in task.tests)
    except Exception:
        return False


def general(model: Any, tokenizer: Any, *, count: int, seed: int = 55) -> Json:
    """Greedy accuracy by family on held-out questions."""
    dice = Dice(random.Random(seed))
    result: Json = {}
    for family in FAMILIES:
        tasks = [draw_task(dice, split="eval", family=family) for _ in range(count)]
        answers = generate(model, tokenizer, [[("user", t.prompt)] for t in tasks], temperature=0)
        result[family] = round(sum(map(solved, tasks, answers)) / count, 3)
    return result


def dreams(model: Any, tokenizer: Any, *, count: int, temperatures: Sequence[float], seed: int = 11) -> Json:
    """By temperature: valid texts, right behaviour, wished band obeyed, object kept, distinct, and the unasked mix."""
    rng = random.Random(seed)
    asked = []
    for i in range(count):
        place = rng.choice(DOMAINS)
        thing = rng.choice(OBJECTS[place])
        verb, _, means = rng.choice([t for t in clear(place, "train") if t[1] == thing])
        asked.append((BEHAVIORS[i % 3], BANDS[(i // 3) % 3], thing, f"{verb} {thing} with {means}"))
    result: Json = {}
    for temperature in temperatures:
        wishes = [_wish(name, memory, band) for name, band, _, memory in asked]
        texts = generate(model, tokenizer, wishes, temperature=temperature, seed=seed)
        read = [parse(text) for text in texts]
        good = [(s, a) for s, a in zip(read, asked, strict=True) if s is not None]
        free = [_wish(name, memory, None) for name, _, _, memory in asked]
        unasked = map(parse, generate(model, tokenizer, free, temperature=temperature, seed=seed + 1))
        mix = Counter(s.band for s in unasked if s is not None)
        result[str(temperature)] = {
            "n": count,
            "valid": round(len(good) / count, 3),
            "behavior": _share(s.behavior == a[0] for s, a in good),
            "band": _share(s.band == a[1] for s, a in good),
            "object": _share(s.object == a[2] for s, a in good if s.object),
            "distinct": round(len(set(texts)) / count, 3),
            "unasked_bands": {band: round(mix[band] / max(1, mix.total()), 3) for band in BANDS},
        }
    return result


def _wish(behavior: str, memory: str, band: Any) -> list[Line]:
    return [("system", DREAM), ("user", dream_prompt(behavior, [memory], band))]


def _share(hits: Iterable[bool]) -> float:
    found = list(hits)
    return round(sum(found) / max(1, len(found)), 3)


def evaluate(model: Any, tokenizer: Any, *, count: int = 300) -> Json:
    """Everything."""
    loss, entropy, tokens = held_out_loss(model, tokenizer)
    return {
        "loss": {"held_out": round(loss, 4), "entropy": round(entropy, 4), "tokens": tokens},
        "behaviors": behaviors(model, tokenizer, count=count),
        "general": general(model, tokenizer, count=count // 2),
        "dreams": dreams(model, tokenizer, count=count * 3 // 5, temperatures=(0.3, 0.7, 1.0, 1.3)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the evaluation of some weights as JSON."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--count", type=int, default=300, help="scenarios a behaviour")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model, tokenizer = load(options.weights)
    print(json.dumps(evaluate(model, tokenizer, count=options.count), indent=1))


if __name__ == "__main__":
    main()

"""`make nano`: trains the embedded model from its grammar, measures it, and writes weights, card and probe files."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daemon.models.nano import WEIGHTS


def replace_folder(new: Path, place: Path) -> None:
    """Put a finished folder in place; what was there goes only once the new one stands."""
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def make(options: argparse.Namespace) -> None:
    """Train, evaluate, write."""
    import torch

    from daemon.models.nano.architecture import build
    from daemon.models.nano.card import write_card
    from daemon.models.nano.evaluate import evaluate, load
    from daemon.models.nano.probes import write_all
    from daemon.models.nano.tokenizer import make_tokenizer
    from daemon.models.nano.train import Plan, Training, train

    torch.set_num_threads(options.threads)
    asked = {name: value for name in ("steps", "seconds", "seed") if (value := getattr(options, name)) is not None}
    plan = Plan(**asked)
    tokenizer = make_tokenizer()
    model = build(len(tokenizer), plan.seed)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"nano: {parameters:,} parameters, at most {plan.steps} steps and {plan.seconds:.0f} s", flush=True)

    def report(step: int, state: Training) -> None:
        if step % 50 == 0:
            speed = state.tokens / max(state.seconds, 1e-9)
            print(
                f"step {state.steps:5d}  {state.seconds:6.0f} s  {state.tokens / 1e6:5.2f} M tokens"
                f"  {speed:5.0f} tokens/s  loss {state.loss:.4f}",
                flush=True,
            )

    training = train(model, tokenizer, plan, report)
    beside = options.out.with_name(f".{options.out.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    for file in beside.iterdir():
        file.chmod(0o644)  # whoever runs the daemon may read them
    print("evaluating", flush=True)
    found = evaluate(*load(beside), count=options.count)
    made: dict[str, Any] = {
        "command": " ".join(["python", "-m", "daemon.models.nano", *sys.argv[1:]]),
        "plan": asdict(plan),
        **asdict(training),
    }
    write_card(beside, training=made, evaluation=found, parameters=parameters)
    replace_folder(beside, options.out)
    if options.probes:
        write_all()
    print(f"wrote {options.out}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m daemon.models.nano", description=__doc__)
    parser.add_argument("--steps", type=int, help="training steps; the same number gives the same weights")
    parser.add_argument("--seconds", type=float, help="stop after this long, however many steps")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--threads", type=int, default=1, help="more is not faster for a model this small")
    parser.add_argument("--count", type=int, default=300, help="held-out scenarios a behaviour in the evaluation")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--probes", action=argparse.BooleanOptionalAction, default=True, help="rewrite probe files")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    make(options)


if __name__ == "__main__":
    main()

"""Training nano from its grammar: Muon for the matrices, AdamW for the rest, warm-up and a linear decay by time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from daemon.models.nano.architecture import short_chunks
from daemon.models.nano.grammar import Grammar, render

IGNORED = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how to train. Ends at whichever of steps and seconds comes first; the rate decays towards it."""

    steps: int = 3600
    seconds: float = 1800.0
    seed: int = 0
    learning_rate: float = 4e-3
    batch_tokens: int = 2048
    warm_up: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What training took."""

    steps: int
    tokens: int
    seconds: float
    loss: float


def pad(rows: list[list[int]], *, left: bool = False, fill: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids as one rectangle, and its attention mask."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), fill)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, place] = torch.tensor(row)
        mask[i, place] = 1
    return ids, mask


def batches(tokenizer: Any, seed: int, tokens: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of about `tokens` tokens, dialogues of similar length together so that little is padding."""
    grammar = Grammar(seed)
    while True:
        rows = sorted((tokenizer(render(grammar.sample())).input_ids for _ in range(768)), key=len)
        pool: list[list[list[int]]] = [[]]
        for row in rows:
            if len(row) * (len(pool[-1]) + 1) > tokens:
                pool.append([])
            pool[-1].append(row)
        torch_order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(len(rows[-1])))
        for i in torch_order.tolist():
            yield pad(pool[i])


def optimizers(model: Any, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for hidden matrices; AdamW for embeddings, vectors and the narrow GDN gates."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name and min(p.shape) >= 32]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train(
    model: Any, tokenizer: Any, plan: Plan, report: Callable[[int, Training], None] = lambda step, state: None
) -> Training:
    """Train in place and say what it took; `report` hears of every step."""
    torch.manual_seed(plan.seed)
    model.train()
    makers = optimizers(model, plan.learning_rate)
    source = batches(tokenizer, plan.seed + 1000, plan.batch_tokens)
    began, tokens, smooth = time.monotonic(), 0, 0.0
    state = Training(steps=0, tokens=0, seconds=0.0, loss=0.0)
    with short_chunks():
        for step in range(plan.steps):
            done = max(step / plan.steps, (time.monotonic() - began) / plan.seconds)
            if done >= 1:
                break
            factor = min(1.0, (step + 1) / plan.warm_up) * max(0.01, min(1.0, (1 - done) / 0.7))
            for maker in makers:
                for group in maker.param_groups:
                    group["lr"] = plan.learning_rate * factor
            ids, mask = next(source)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                labels = ids.masked_fill(mask == 0, IGNORED)
                loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for maker in makers:
                maker.step()
                maker.zero_grad()
            tokens += int(mask.sum())
            smooth = loss.item() if step == 0 else 0.98 * smooth + 0.02 * loss.item()
            state = Training(steps=step + 1, tokens=tokens, seconds=time.monotonic() - began, loss=smooth)
            report(step, state)
    model.eval()
    return state

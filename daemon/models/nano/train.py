"""Training nano from its grammar: Muon for the matrices, AdamW for the rest, warm-up and a linear decay by time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from daemon.models.nano.architecture import short_chunks
from daemon.models.nano.grammar import Grammar, Line
from daemon.models.nano.tokenizer import END, START

IGNORED = -100
TOLD = 0.2  # the weight of a token that was told, not said


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how to train. Ends at whichever of steps and seconds comes first; the rate decays towards it."""

    steps: int = 3900
    seconds: float = 7200.0
    seed: int = 0
    matrix_rate: float = 5e-3
    vector_rate: float = 6e-3
    batch_tokens: int = 1024
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


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch: token ids, attention mask, and how much each token counts in the loss."""

    ids: torch.Tensor
    mask: torch.Tensor
    weight: torch.Tensor


def weigh(tokenizer: Any, lines: list[Line]) -> tuple[list[int], list[float]]:
    """A dialogue's tokens and their weights: what the assistant says counts in full, what it is told a little.

    Users mean something different every time, so most of the loss on their words is noise that nothing can be
    learned from; it would drown what is to be learned about answering.
    """
    ids: list[int] = []
    weights: list[float] = []
    for role, content in lines:
        head = tokenizer(f"{START}{role}\n").input_ids
        said = tokenizer(f"{content}{END}\n").input_ids
        ids += head + said
        weights += [TOLD] * len(head) + [1.0 if role == "assistant" else TOLD] * len(said)
    return ids, weights


def batches(tokenizer: Any, seed: int, tokens: int) -> Iterator[Rows]:
    """Endless batches of about `tokens` tokens, dialogues of similar length together so that little is padding."""
    grammar, order = Grammar(seed), random.Random(seed)
    while True:
        rows = sorted((weigh(tokenizer, grammar.sample()) for _ in range(768)), key=lambda row: len(row[0]))
        pool: list[list[tuple[list[int], list[float]]]] = [[]]
        for row in rows:
            if len(row[0]) * (len(pool[-1]) + 1) > tokens:
                pool.append([])
            pool[-1].append(row)
        order.shuffle(pool)
        for chosen in pool:
            ids, mask = pad([row for row, _ in chosen])
            weight = torch.zeros(ids.shape)
            for i, (_, weights) in enumerate(chosen):
                weight[i, : len(weights)] = torch.tensor(weights)
            yield Rows(ids, mask, weight)


def loss_of(model: Any, rows: Rows) -> torch.Tensor:
    """The weighted mean of the tokens' losses."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=rows.ids, attention_mask=rows.mask, use_cache=False).logits[:, :-1]
    each = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), rows.ids[:, 1:].flatten(), reduction="none")
    weight = rows.weight[:, 1:].flatten()
    return (each * weight).sum() / weight.sum()


def optimizers(model: Any, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for hidden matrices; AdamW for embeddings, vectors and the narrow GDN gates."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name and min(p.shape) >= 32]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=plan.matrix_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=plan.vector_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train(
    model: Any, tokenizer: Any, plan: Plan, report: Callable[[int, Training], None] = lambda step, state: None
) -> Training:
    """Train in place and say what it took; `report` hears of every step."""
    torch.manual_seed(plan.seed)
    model.train()
    makers = optimizers(model, plan)
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
                    group["lr"] = group.setdefault("top", group["lr"]) * factor
            rows = next(source)
            loss = loss_of(model, rows)
            torch.autograd.backward([loss])
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for maker in makers:
                maker.step()
                maker.zero_grad()
            tokens += int(rows.mask.sum())
            smooth = loss.item() if step == 0 else 0.98 * smooth + 0.02 * loss.item()
            state = Training(steps=step + 1, tokens=tokens, seconds=time.monotonic() - began, loss=smooth)
            report(step, state)
    model.eval()
    return state

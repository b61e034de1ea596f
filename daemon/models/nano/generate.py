"""Batched generation and loss for nano's own evaluation; the daemon has its own model backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from daemon.models.nano.architecture import short_chunks
from daemon.models.nano.grammar import Grammar, Line, render
from daemon.models.nano.train import IGNORED, pad

BATCH = 96


@torch.no_grad()
def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[Line]],
    *,
    temperature: float = 1.0,
    seed: int = 0,
    longest: int = 40,
) -> list[str]:
    """One answer per prompt, in order; temperature 0 is greedy."""
    torch.manual_seed(seed)
    rows = [tokenizer(render(prompt, answer=True)).input_ids for prompt in prompts]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    answers = [""] * len(rows)
    how: dict[str, Any] = {"do_sample": temperature > 0}
    if temperature > 0:
        how |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
    model.eval()
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        ids, mask = pad([rows[i] for i in chosen], left=True)
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=longest,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **how,
        )
        texts = tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
        for i, text in zip(chosen, texts, strict=True):
            answers[i] = text.strip()
    return answers


@torch.no_grad()
def held_out_loss(model: Any, tokenizer: Any, *, dialogues: int = 600, seed: int = 777) -> tuple[float, float, int]:
    """The model's loss on fresh dialogues, the grammar's entropy on the same ones (nats a token), and the tokens."""
    grammar = Grammar(seed)
    rows, cost = [], 0.0
    for _ in range(dialogues):
        rows.append(tokenizer(render(grammar.sample())).input_ids)
        cost += grammar.nll
    rows.sort(key=len)
    loss, tokens = 0.0, 0
    with short_chunks():
        for start in range(0, len(rows), 32):
            ids, mask = pad(rows[start : start + 32])
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
            targets = ids.masked_fill(mask == 0, IGNORED)[:, 1:]
            loss += torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
            ).item()
            tokens += int((targets != IGNORED).sum())
    return loss / tokens, cost / tokens, tokens

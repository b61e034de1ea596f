"""Batched, cached decoding with randomness of its own per prompt.

Each prompt has its own stream of uniforms, made from the seed, the prompt's tokens and how often the same prompt came
before in the call; a token is drawn by inverse CDF. So an answer does not depend on which other prompts shared its
batch (but for rounding in the last bits of the logits).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from daemon.models import anatomy, luck

_CHECK_EVERY = 16  # decoded tokens between checkpoints


def streams(prompts: Sequence[Sequence[int]], seed: int, length: int) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Per prompt `length` uniforms in [0, 1): equal prompts of a call get different ones, equal calls the same."""
    return [
        np.random.Generator(np.random.Philox(int.from_bytes(digest[:16]))).random(length)
        for digest in luck.digests(prompts, seed)
    ]


def pad_left(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, both (batch, longest)."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, longest - len(tokens) :] = torch.tensor(tokens, dtype=torch.long)
        mask[row, longest - len(tokens) :] = 1
    return ids.to(device), mask.to(device)


@torch.inference_mode()
def decode(
    net: nn.Module,
    prompts: Sequence[Sequence[int]],
    uniforms: Sequence[np.ndarray[Any, np.dtype[np.float64]]],
    *,
    temperature: float,
    max_tokens: int,
    pad: int,
    stops: frozenset[int],
    device: torch.device,
    tick: Callable[[], None],
) -> list[list[int]]:
    """New tokens per prompt, without the stop token. Rows that have ended leave the batch when half of it has."""
    backbone = anatomy.backbone(net)
    ids, mask = pad_left(prompts, pad, device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    uniform = torch.tensor(np.stack(uniforms), device=device)
    stop = torch.tensor(sorted(stops), device=device)
    cache = anatomy.new_cache(net)
    answers: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # which prompt stands in each row of the batch
    alive = torch.ones(len(prompts), dtype=torch.bool, device=device)
    for step in range(max_tokens):
        if step % _CHECK_EVERY == 0:
            tick()
        out = backbone(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        chosen = _choose(anatomy.logits(net, out.last_hidden_state[:, -1]), temperature, uniform[:, step])
        alive &= ~torch.isin(chosen, stop)
        for row, token, going in zip(rows, chosen.tolist(), alive.tolist(), strict=True):
            if going:
                answers[row].append(token)
        left = int(alive.sum())
        if left == 0:
            break
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        if left <= len(rows) // 2:
            keep = alive.nonzero()[:, 0]
            anatomy.keep_rows(cache, keep)
            chosen, mask, positions, uniform, alive = (x[keep] for x in (chosen, mask, positions, uniform, alive))
            rows = [rows[i] for i in keep.tolist()]
        ids = chosen[:, None]
    return answers


def _choose(scores: Tensor, temperature: float, uniform: Tensor) -> Tensor:
    """One token per row of logits (batch, vocabulary): the largest at temperature 0, else by inverse CDF."""
    if temperature == 0:
        return scores.argmax(-1)
    cumulative = torch.softmax(scores.double() / temperature, -1).cumsum(-1)
    drawn = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]
    return drawn.clamp(max=scores.shape[-1] - 1)

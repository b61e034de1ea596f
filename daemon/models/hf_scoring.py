"""Teacher-forced scores: log-probabilities of given answers, and the full-vocabulary KL between two adapters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from daemon.models import anatomy

_POSITIONS = 256  # places whose logits are computed at once: bounds memory by 256 x vocabulary


def pad_right(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, both (batch, longest)."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        mask[row, : len(tokens)] = 1
    return ids.to(device), mask.to(device)


def target_places(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """(row, column, token) of each target token, the column being that of the token *before* it, which predicts it."""
    rows = [row for row, (_, target) in enumerate(pairs) for _ in target]
    columns = [len(prompt) - 1 + at for prompt, target in pairs for at in range(len(target))]
    tokens = [token for _, target in pairs for token in target]
    return (
        torch.tensor(rows, device=device),
        torch.tensor(columns, device=device),
        torch.tensor(tokens, device=device),
    )


def hidden(net: nn.Module, rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> Tensor:
    """Hidden states after the final norm, (batch, longest, hidden)."""
    ids, mask = pad_right(rows, pad, device)
    out: Any = anatomy.backbone(net)(input_ids=ids, attention_mask=mask, use_cache=False)
    return out.last_hidden_state  # type: ignore[no-any-return]


@torch.inference_mode()
def logprobs(
    net: nn.Module, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], pad: int, device: torch.device
) -> list[list[float]]:
    """Per pair the log-probability in nats of each target token given the prompt and the target so far."""
    states = hidden(net, [[*prompt, *target] for prompt, target in pairs], pad, device)
    rows, columns, tokens = target_places(pairs, device)
    flat: list[float] = []
    for at in range(0, len(tokens), _POSITIONS):
        piece = slice(at, at + _POSITIONS)
        scores = anatomy.logits(net, states[rows[piece], columns[piece]]).log_softmax(-1)
        flat.extend(scores.gather(1, tokens[piece, None])[:, 0].tolist())
    found: list[list[float]] = []
    at = 0
    for _, target in pairs:
        found.append(flat[at : at + len(target)])
        at += len(target)
    return found


@torch.inference_mode()
def kl(net: nn.Module, before: Tensor, after: Tensor) -> float:
    """Mean KL(before || after) over places, in nats, exact over the vocabulary. Hidden states are (places, hidden)."""
    total = 0.0
    for at in range(0, len(before), _POSITIONS):
        p = anatomy.logits(net, before[at : at + _POSITIONS]).double().log_softmax(-1)
        q = anatomy.logits(net, after[at : at + _POSITIONS]).double().log_softmax(-1)
        total += float((p.exp() * (p - q)).sum())
    return max(0.0, total / len(before))

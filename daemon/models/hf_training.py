"""One LoRA update: AdamW on the target tokens only, its moments kept from one update to the next."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from daemon.errors import AdapterError, DreamloopError
from daemon.models import anatomy, hf_batches, hf_scoring
from daemon.models.base import Checkpoint, Trained
from policies.records import Recipe

_CLIP = 1.0
_MOMENTS = ("exp_avg", "exp_avg_sq")
Encoded = tuple[Sequence[int], Sequence[int]]  # prompt ids, target ids with the end of turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Where the model computes, what pads, and how many padded tokens go through it at once."""

    device: torch.device
    pad: int
    tokens: int


def fit(
    net: nn.Module,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.AdamW,
    examples: Sequence[Encoded],
    recipe: Recipe,
    room: Room,
    checkpoint: Checkpoint,
) -> Trained:
    """Train `parameters` (the active adapter's) for `recipe.epochs` passes. Warm-up and decay lie within this session.

    `losses` of the result has one entry per optimizer step; `tokens` counts prompts and targets. Raises AdapterError
    when the loss or the gradient stops being a number, and whatever `checkpoint` raises.
    """
    began = time.monotonic()
    rng = random.Random(recipe.seed)
    lengths = [len(prompt) + len(target) for prompt, target in examples]
    passes = [hf_batches.epoch(lengths, recipe.batch_size, rng) for _ in range(recipe.epochs)]
    steps = [step for each in passes for step in each]
    losses: list[float] = []
    weights: list[int] = []
    done, total = 0, len(examples) * recipe.epochs
    for number, step in enumerate(steps):
        share = hf_batches.warm_and_decay(number, len(steps))
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * share
        targets = sum(len(examples[i][1]) for i in step)
        loss = 0.0
        for micro in hf_batches.by_length([lengths[i] for i in step], len(step), room.tokens):
            checkpoint(done, total)
            nll = _nll(net, [examples[step[i]] for i in micro], room)
            (nll / targets).backward()  # type: ignore[no-untyped-call]
            loss += float(nll.detach()) / targets
            done += len(micro)
        norm = float(torch.nn.utils.clip_grad_norm_(list(parameters.values()), _CLIP))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise AdapterError(
                f"training diverged at step {number + 1} of {len(steps)} (loss {loss}, gradient norm {norm}); "
                f"lower `learn.learning_rate` (it is {recipe.learning_rate:g})"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss)
        weights.append(targets)
    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters.values()):
        raise AdapterError(
            "training diverged: the adapter's weights are no longer numbers; lower `learn.learning_rate`"
        )
    checkpoint(total, total)
    last = slice(-len(passes[-1]), None)
    mean = sum(x * n for x, n in zip(losses[last], weights[last], strict=True)) / sum(weights[last])
    return Trained(
        loss=mean, tokens=sum(lengths) * recipe.epochs, seconds=time.monotonic() - began, losses=tuple(losses)
    )


def _nll(net: nn.Module, batch: Sequence[Encoded], room: Room) -> Tensor:
    """Summed negative log-likelihood in nats of the batch's target tokens; logits exist only where they are needed."""
    states = hf_scoring.hidden(net, [[*prompt, *target] for prompt, target in batch], room.pad, room.device)
    rows, columns, tokens = hf_scoring.target_places(batch, room.device)
    return nn.functional.cross_entropy(anatomy.logits(net, states[rows, columns]), tokens, reduction="sum")


def new_optimizer(parameters: dict[str, nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    """AdamW without weight decay: decaying an adapter pulls it towards the base, which replay is there to balance."""
    return torch.optim.AdamW(list(parameters.values()), lr=recipe.learning_rate, weight_decay=0.0)


def save_moments(optimizer: torch.optim.AdamW, parameters: dict[str, nn.Parameter]) -> tuple[bytes, int]:
    """The optimizer's moments per parameter name as safetensors, and how many steps made them."""
    tensors: dict[str, Tensor] = {}
    steps = 0
    for name, parameter in parameters.items():
        state = optimizer.state.get(parameter)
        if not state:
            continue
        steps = int(state["step"])
        for moment in _MOMENTS:
            tensors[f"{name}.{moment}"] = state[moment].detach().float().cpu().contiguous()
    return save_tensors(tensors), steps


def restore_moments(
    optimizer: torch.optim.AdamW, parameters: dict[str, nn.Parameter], content: bytes, steps: int
) -> None:
    """Give the optimizer back what `save_moments` saved. Raises AdapterError when it belongs to other parameters."""
    try:
        tensors = load_tensors(content)
    except SafetensorError as error:
        raise AdapterError(f"the optimizer's state is not safetensors: {error}") from error
    if not tensors:
        return
    if set(tensors) != {f"{name}.{moment}" for name in parameters for moment in _MOMENTS}:
        raise AdapterError("the optimizer's state belongs to other parameters than the adapter's")
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(steps)),
            **{moment: tensors[f"{name}.{moment}"].to(parameter.device) for moment in _MOMENTS},
        }


def check_recipe(recipe: Recipe, examples: int) -> None:
    """Raises DreamloopError when there is nothing to train on or the recipe makes no steps."""
    if examples == 0:
        raise DreamloopError("there are no examples to train on; collect some before asking for an update")
    if recipe.epochs < 1 or recipe.batch_size < 1 or recipe.rank < 1:
        raise DreamloopError(f"the recipe trains nothing: {recipe}; epochs, batch_size and rank are at least 1")

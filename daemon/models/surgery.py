"""Adapters made of other adapters: some heads' part kept or undone, scaled, or noise of the same size (a placebo).

An adapter adds `scale * B @ A` to a projection. A full-attention head owns rows of q_proj (in Qwen3.5 its query and
then its gate, contiguous) and columns of o_proj; a key-value head owns rows of k_proj and v_proj, and belongs to the
query heads that share it. Each result is a whole adapter folder that `use` loads, without optimizer state: it is to be
looked at, not trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from daemon.models import adapters, anatomy
from daemon.models.base import Layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Head = tuple[int, int]  # the number of a full-attention block, counted from 1, and of a head in it, counted from 0


def restrict(
    source: Path,
    into: Path,
    heads: Collection[Head],
    *,
    layout: Layout,
    invert: bool = False,
    other: bool | None = None,
) -> None:
    """Keep only the part of an update that belongs to `heads`; with `invert` undo only that part.

    Keys and values of a group are kept (or undone) when all query heads that share them are in the set. `other` says
    whether what belongs to no head (GDN, MLP) stays; unsaid, it goes when heads are kept and stays when they are
    undone, so that the two results add up to the whole update. Raises AdapterError; ValueError for a head that the
    model does not have.
    """
    owners = {(int(block), int(head)) for block, head in heads}
    for block, head in owners:
        if block not in layout.attention or not 0 <= head < layout.heads:
            have = f"this model's are 0 to {layout.heads - 1} of blocks {layout.attention}"
            raise ValueError(f"head {head} of block {block}: {have}")
    stays = invert if other is None else other

    def cut(block: int, projection: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        if projection not in anatomy.ATTENTION:
            return a, b * stays
        chosen = torch.tensor([(block, head) in owners for head in range(layout.heads)])
        if projection == "o_proj":
            return a * _each(chosen ^ invert, a.shape[1]), b
        if projection != "q_proj":
            chosen = chosen.view(layout.kv_heads, -1).all(1)
        return a, b * _each(chosen ^ invert, b.shape[0])[:, None]

    facts = {"how": "restrict", "heads": sorted(map(list, owners)), "invert": invert, "other": stays}
    _rewrite(source, into, cut, facts)


def scaled(source: Path, into: Path, factor: float) -> None:
    """The whole update, times `factor`. Raises AdapterError."""
    _rewrite(source, into, lambda _, __, a, b: (a, b * factor), {"how": "scaled", "factor": factor})


def random_like(source: Path, into: Path, seed: int) -> None:
    """Gaussian noise whose update has the same rank and Frobenius norm in every module. Raises AdapterError."""
    generator = torch.Generator().manual_seed(seed)

    def noise(_: int, __: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        new_a, new_b = (torch.randn(each.shape, generator=generator) for each in (a, b))
        return new_a, new_b * (_norm(a, b) / _norm(new_a, new_b))

    _rewrite(source, into, noise, {"how": "random_like", "seed": seed})


def module_spectra(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Per module (`base_model.model.model.layers.0.mlp.up_proj`) its update's singular values (rank,), largest first.

    Raises AdapterError.
    """
    stored = adapters.read(folder)
    return {
        name: (torch.linalg.svdvals(_triangle(b) @ _triangle(a.T).T) * _scale(stored, a)).numpy()
        for name, (a, b) in _modules(stored).items()
    }


def head_norms(folder: Path, layout: Layout) -> NDArray[np.float32]:
    """(full-attention blocks, heads): the Frobenius norm of the update of what each head owns in q_proj and o_proj.

    Raises AdapterError.
    """
    stored = adapters.read(folder)
    squares = torch.zeros(len(layout.attention), layout.heads)
    for name, (a, b) in _modules(stored).items():
        block, projection = anatomy.place(f"{name}.lora_A.weight")
        if projection in ("q_proj", "o_proj") and block in layout.attention:
            update = _scale(stored, a) * b @ a
            each = update if projection == "q_proj" else update.T
            squares[layout.attention.index(block)] += each.reshape(layout.heads, -1).square().sum(1)
    return squares.sqrt().numpy()


def _rewrite(
    source: Path,
    into: Path,
    change: Callable[[int, str, Tensor, Tensor], tuple[Tensor, Tensor]],
    facts: dict[str, object],
) -> None:
    """Write an adapter like `source` whose matrices A (rank, in) and B (out, rank) went through `change`."""
    stored = adapters.read(source)
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in _modules(stored).items():
        keys = [f"{name}.lora_{letter}.weight" for letter in "AB"]
        changed = change(*anatomy.place(keys[0]), a, b)
        tensors |= {key: tensor.contiguous() for key, tensor in zip(keys, changed, strict=True)}
    files = {
        adapters.WEIGHTS: save_tensors(tensors, metadata={"format": "pt"}),
        adapters.CONFIG: (source / adapters.CONFIG).read_bytes(),
    }
    kept = {key: value for key, value in stored.card.items() if key in ("base", "recipe")}
    adapters.write(into, files, kept | {"parent_sha256": stored.identity, "surgery": facts})


def _modules(stored: adapters.Stored) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B by module, fp32."""
    tensors = load_tensors((stored.folder / adapters.WEIGHTS).read_bytes())
    ending = ".lora_A.weight"
    names = [key.removesuffix(ending) for key in sorted(tensors) if key.endswith(ending)]
    return {name: (tensors[name + ending].float(), tensors[f"{name}.lora_B.weight"].float()) for name in names}


def _scale(stored: adapters.Stored, a: Tensor) -> float:
    rank = len(a)
    return float(stored.config["lora_alpha"]) / (rank**0.5 if stored.config.get("use_rslora") else rank)


def _each(chosen: Tensor, length: int) -> Tensor:
    """A flag per head, as factors for the `length` rows or columns that the heads share evenly."""
    return chosen.repeat_interleave(length // len(chosen)).float()


def _norm(a: Tensor, b: Tensor) -> float:
    """The Frobenius norm of B A, without making it."""
    return float(torch.linalg.matrix_norm(_triangle(b) @ _triangle(a.T).T))


def _triangle(tall: Tensor) -> Tensor:
    """R of its QR decomposition: what is left of a matrix but for a rotation."""
    triangle: Tensor = torch.linalg.qr(tall, mode="r").R
    return triangle

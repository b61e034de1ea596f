"""Adapters made of others are whole adapters, and change exactly what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from daemon.errors import AdapterError
from daemon.models import adapters, anatomy, surgery
from daemon.models.base import Passage, TrainingExample
from daemon.models.hf import HFModel
from policies.records import ChatMessage, Recipe

RECIPE = Recipe(
    rank=4, alpha=8, targets=("all-linear",), learning_rate=1e-2, epochs=3, batch_size=4, seed=1
)  # fmt: skip
WORDS = "use the backup, not the config. please sort the notes"
PASSAGE = Passage(prompt=(ChatMessage(role="user", content=WORDS),), answer="i will use it.")


@pytest.fixture(scope="module")
def trained(loaded_nano: HFModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of nano that moves every module."""
    folder = tmp_path_factory.mktemp("adapters") / "trained"
    examples = [TrainingExample(prompt=PASSAGE.prompt, target=f"i will not {word} it.") for word in WORDS.split()]
    loaded_nano.train(examples, RECIPE, parent=None, into=folder, card={})
    loaded_nano.use(None)
    return folder


def updates(folder: Path) -> dict[str, torch.Tensor]:
    """Per module the whole matrix that the adapter adds."""
    tensors = load_file(folder / adapters.WEIGHTS)
    config = json.loads((folder / adapters.CONFIG).read_text())
    ending = ".lora_A.weight"
    return {
        key.removesuffix(ending): config["lora_alpha"] / config["r"]
        * tensors[key.replace("lora_A", "lora_B")] @ tensors[key]
        for key in tensors if key.endswith(ending)
    }  # fmt: skip


def of_heads(model: HFModel, block: int) -> np.ndarray:
    """(tokens, heads, head size): what each head of a full-attention block hands to o_proj, gate applied."""
    ids = torch.tensor([model.chat.prompt(PASSAGE.prompt)])
    seen: list[torch.Tensor] = []
    projection: Any = anatomy.mixers(model.net)[block - 1].o_proj
    handle = projection.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        model.net(input_ids=ids)
    handle.remove()
    return seen[0][0].unflatten(-1, (model.layout().heads, -1)).numpy()


HEADS = [(4, 1), (8, 0), (8, 1), (8, 2), (8, 5)]


@pytest.mark.parametrize("other", [None, True, False])
def test_what_is_kept_and_what_is_left_after_undoing_add_up(
    base_nano: HFModel, trained: Path, tmp_path: Path, other: bool | None
) -> None:
    """In every module, the kept update plus the rest is the whole one, wherever what belongs to no head goes."""
    layout = base_nano.layout()
    left = None if other is None else not other
    surgery.restrict(trained, tmp_path / "keep", HEADS, layout=layout, other=other)
    surgery.restrict(trained, tmp_path / "undo", HEADS, layout=layout, invert=True, other=left)
    kept, undone = updates(tmp_path / "keep"), updates(tmp_path / "undo")
    for name, whole in updates(trained).items():
        assert torch.allclose(kept[name] + undone[name], whole, atol=1e-6), name
        if "self_attn" not in name:
            assert bool(kept[name].any()) == bool(other)


def test_only_the_heads_rows_and_columns_are_kept(base_nano: HFModel, trained: Path, tmp_path: Path) -> None:
    """Query and gate rows, o_proj columns; keys and values only of a group whose query heads are all kept."""
    surgery.restrict(trained, tmp_path / "keep", HEADS, layout=base_nano.layout())
    whole, kept = updates(trained), updates(tmp_path / "keep")
    for block, heads, groups in ((4, {1}, set()), (8, {0, 1, 2, 5}, {0})):
        at = f"base_model.model.model.layers.{block - 1}.self_attn"
        for projection, count, owners in (("q_proj", 6, heads), ("k_proj", 2, groups), ("v_proj", 2, groups)):
            before = whole[f"{at}.{projection}"].unflatten(0, (count, -1))
            after = kept[f"{at}.{projection}"].unflatten(0, (count, -1))
            for head in range(count):
                assert torch.equal(after[head], before[head] * (head in owners))
                assert before[head].any()
        before, after = (each[f"{at}.o_proj"].unflatten(1, (6, -1)) for each in (whole, kept))
        for head in range(6):
            assert torch.allclose(after[:, head], before[:, head] * (head in heads), atol=1e-7)


def test_a_restricted_adapter_is_used_and_changes_these_heads_only(
    base_nano: HFModel, trained: Path, tmp_path: Path
) -> None:
    """Loaded by the model, one head of the first full-attention block looks and speaks otherwise; its neighbours do
    not, query, gate, keys and values included; without it the model is the base again."""
    maps, outputs = base_nano.attention([PASSAGE])[0].weights, of_heads(base_nano, 4)
    for head in (0, 4):
        surgery.restrict(trained, tmp_path / "one", [(4, head)], layout=base_nano.layout())
        base_nano.use(tmp_path / "one")
        looked = np.abs(base_nano.attention([PASSAGE])[0].weights - maps).max((-2, -1))[0]
        spoke = np.abs(of_heads(base_nano, 4) - outputs).max((0, 2))
        for changed in (looked, spoke):
            assert changed[head] > 1e-3 and np.delete(changed, head, 0).max() < 1e-6
        base_nano.use(None)
    assert np.array_equal(of_heads(base_nano, 4), outputs)


def test_an_update_that_keeps_all_heads_and_the_rest_is_the_whole(
    base_nano: HFModel, trained: Path, tmp_path: Path
) -> None:
    """Keeping everything and undoing nothing give the trained model; keeping nothing gives the base."""
    layout = base_nano.layout()
    everything = [(block, head) for block in layout.attention for head in range(layout.heads)]
    surgery.restrict(trained, tmp_path / "all", everything, layout=layout, other=True)
    surgery.restrict(trained, tmp_path / "none", [], layout=layout, invert=True)
    surgery.restrict(trained, tmp_path / "base", [], layout=layout)
    pair = [(PASSAGE.prompt, PASSAGE.answer)]
    base = base_nano.logprobs(pair)
    base_nano.use(trained)
    whole = base_nano.logprobs(pair)
    for name, wanted in (("all", whole), ("none", whole), ("base", base)):
        base_nano.use(tmp_path / name)
        assert base_nano.logprobs(pair)[0] == pytest.approx(wanted[0], abs=1e-5)
    assert whole[0] != pytest.approx(base[0], abs=0.1)


def test_scaled_updates(base_nano: HFModel, trained: Path, tmp_path: Path) -> None:
    """Every module's update is multiplied: by 0 it is the base, by 1 the same."""
    surgery.scaled(trained, tmp_path / "half", 0.5)
    for name, whole in updates(trained).items():
        assert torch.allclose(updates(tmp_path / "half")[name], whole / 2, atol=1e-7)
    base = base_nano.logprobs([(PASSAGE.prompt, PASSAGE.answer)])
    surgery.scaled(trained, tmp_path / "zero", 0.0)
    base_nano.use(tmp_path / "zero")
    assert base_nano.logprobs([(PASSAGE.prompt, PASSAGE.answer)]) == base


def test_noise_has_the_size_of_the_update_and_nothing_else_of_it(
    base_nano: HFModel, trained: Path, tmp_path: Path
) -> None:
    """Equal Frobenius norms in each module, no likeness, the same for the same seed, zero where the update is zero."""
    surgery.random_like(trained, tmp_path / "a", seed=1)
    surgery.random_like(trained, tmp_path / "b", seed=1)
    surgery.random_like(trained, tmp_path / "c", seed=2)
    whole, noise, other = updates(trained), updates(tmp_path / "a"), updates(tmp_path / "c")
    for name, update in whole.items():
        assert float(noise[name].norm()) == pytest.approx(float(update.norm()), rel=1e-4)
        for one, two in ((noise, whole), (noise, other)):
            cosine = float((one[name] * two[name]).sum() / one[name].norm() / two[name].norm())
            assert abs(cosine) < 0.3
        assert torch.equal(noise[name], updates(tmp_path / "b")[name]) if "q_proj" in name else True
    surgery.restrict(trained, tmp_path / "one", [(4, 0)], layout=base_nano.layout())
    surgery.random_like(tmp_path / "one", tmp_path / "d", seed=1)
    assert not any(update.any() for name, update in updates(tmp_path / "d").items() if "mlp" in name)
    base_nano.use(tmp_path / "a")


def test_spectra_are_the_singular_values_of_the_whole_update(trained: Path) -> None:
    """As a full decomposition of every module's matrix has them; there are as many as the rank."""
    spectra = surgery.module_spectra(trained)
    for name, update in updates(trained).items():
        assert spectra[name].shape == (4,)
        assert np.allclose(spectra[name], torch.linalg.svdvals(update)[:4], rtol=1e-3, atol=1e-5)


def test_norms_of_heads(base_nano: HFModel, trained: Path, tmp_path: Path) -> None:
    """Per block and head the size of its rows of q_proj and columns of o_proj; 0 for heads that were left out."""
    layout = base_nano.layout()
    norms, whole = surgery.head_norms(trained, layout), updates(trained)
    assert norms.shape == (2, 6)
    at = "base_model.model.model.layers.7.self_attn"
    rows, columns = whole[f"{at}.q_proj"][3 * 64 : 4 * 64], whole[f"{at}.o_proj"][:, 3 * 32 : 4 * 32]
    assert norms[1, 3] == pytest.approx(float((rows.norm() ** 2 + columns.norm() ** 2).sqrt()), rel=1e-4)
    surgery.restrict(trained, tmp_path / "keep", HEADS, layout=layout)
    kept = np.zeros((2, 6), bool)
    kept[[0, 1, 1, 1, 1], [1, 0, 1, 2, 5]] = True
    assert np.allclose(surgery.head_norms(tmp_path / "keep", layout), norms * kept, rtol=1e-4)


def test_the_card_says_what_was_done_and_of_what(base_nano: HFModel, trained: Path, tmp_path: Path) -> None:
    """Base, recipe, source and operation; no optimizer state, which would belong to another update."""
    surgery.restrict(trained, tmp_path / "keep", HEADS, layout=base_nano.layout())
    stored, source = (adapters.read(folder, base=base_nano.fingerprint()) for folder in (tmp_path / "keep", trained))
    assert stored.card["parent_sha256"] == source.identity != stored.identity
    assert stored.card["recipe"] == source.card["recipe"] and stored.config == source.config
    assert stored.card["surgery"]["heads"] == [list(head) for head in HEADS]
    assert not (tmp_path / "keep" / adapters.OPTIMIZER).exists()


def test_heads_that_are_not_there_and_sources_that_are_broken(
    base_nano: HFModel, trained: Path, tmp_path: Path
) -> None:
    """A GDN block has no heads to keep; a changed source is refused. Nothing is written."""
    for head in ((3, 0), (4, 6), (0, 0)):
        with pytest.raises(ValueError, match=rf"head {head[1]} of block {head[0]}: this model's are 0 to 5 of .*4, 8"):
            surgery.restrict(trained, tmp_path / "a", [head], layout=base_nano.layout())
    with pytest.raises(AdapterError, match="no such adapter folder"):
        surgery.scaled(tmp_path / "none", tmp_path / "a", 1.0)
    assert list(tmp_path.iterdir()) == []

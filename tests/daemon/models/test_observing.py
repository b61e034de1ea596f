"""What is seen inside a model is what is there: checked against transformers' own outputs, alone and in batches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from daemon.errors import Cancelled, DreamloopError, Unobservable
from daemon.models import anatomy, loading
from daemon.models.base import Layout, Observer, Passage, TrainingExample
from daemon.models.fake import FakeModel
from daemon.models.hf import HFModel
from policies.records import ChatMessage, Recipe
from tests.daemon.models import tiny
from tests.daemon.models.passages import PASSAGES, distinguishable, hooks, said

RECIPE = Recipe(
    rank=4, alpha=8, targets=("all-linear",), learning_rate=2e-2, epochs=4, batch_size=2, seed=1
)  # fmt: skip


def tokens(model: HFModel, passage: Passage) -> tuple[list[int], int]:
    """Prompt and answer ids as the model reads them, and how many are the prompt's."""
    prompt = model.chat.prompt(passage.prompt)
    return prompt + model.chat.ids(passage.answer), len(prompt)


def test_layouts(model: HFModel, dense: HFModel, base_nano: HFModel) -> None:
    """Blocks are counted from 1 and sorted by kind; the fake looks into nothing."""
    assert model.layout() == Layout(
        layers=4, attention=(4,), gdn=(1, 2, 3), heads=2, kv_heads=1, gdn_heads=4, hidden=32
    )
    assert dense.layout() == Layout(
        layers=4, attention=(1, 2, 3, 4), gdn=(), heads=2, kv_heads=1, gdn_heads=0, hidden=32
    )
    assert base_nano.layout().attention == (4, 8) and base_nano.layout().gdn == (1, 2, 3, 5, 6, 7)
    assert isinstance(model, Observer) and not isinstance(FakeModel({"listening": 0.5}), Observer)


def test_layer_l_is_the_output_of_the_lth_block_counted_from_1(model: HFModel) -> None:
    """On blocks that can be told apart: what layer L puts out went through blocks 1 to L and no other."""
    distinguishable(model)
    seen = model.hidden(PASSAGES, [1, 2, 3, 4])
    for before, after in pairwise(range(4)):
        step = seen[:, after] - seen[:, before]
        assert np.allclose(step, np.eye(32)[after], atol=1e-5)
    embedded = model.net.get_input_embeddings()(torch.tensor(model.chat.ids(PASSAGES[0].answer)))  # type: ignore[operator]
    assert np.allclose(seen[0, 0] - embedded.mean(0).numpy(), np.eye(32)[0], atol=1e-5)


def test_hidden_is_transformers_own_averaged_over_the_answer(model: HFModel) -> None:
    """hidden_states[L] for every block but the last, which is there after the final norm and here before it."""
    seen = model.hidden(PASSAGES[:3], [1, 3, 4])
    for row, passage in zip(seen, PASSAGES[:3], strict=True):
        ids, prompt = tokens(model, passage)
        with torch.inference_mode():
            states = model.net(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        assert np.allclose(row[0], states[1][0, prompt:].mean(0), atol=1e-4)
        assert np.allclose(row[1], states[3][0, prompt:].mean(0), atol=1e-4)
        assert not np.allclose(row[2], states[4][0, prompt:].mean(0), atol=1e-2)
    one = Passage(prompt=said("no"), answer="n")
    ids, _ = tokens(model, one)
    with torch.inference_mode():
        last = model.net(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -1]
        normed = anatomy.backbone(model.net).norm(torch.tensor(model.hidden([one], [4])[0, 0]))  # type: ignore[operator]
    assert torch.allclose(normed, last, atol=1e-4)


def test_without_an_answer_it_is_read_at_the_end_of_the_users_text(model: HFModel) -> None:
    """At the last token of the message, which the template's end of turn and assistant header follow."""
    passage = Passage(prompt=(ChatMessage(role="system", content="memory: listen"), *said("sorts a list")))
    ids = model.chat.prompt(passage.prompt)
    text = model.chat.ids("<|im_start|>system\nmemory: listen<|im_end|>\n<|im_start|>user\nsorts a list")
    assert ids[: len(text)] == text
    with torch.inference_mode():
        states = model.net(input_ids=torch.tensor([text]), output_hidden_states=True).hidden_states
    assert np.allclose(model.hidden([passage], [2])[0, 0], states[2][0, -1], atol=1e-4)


def test_attention_rows_are_distributions_and_transformers_own(model: HFModel, tiny_folder: Path) -> None:
    """Rows of the places that predict the answer and its end, as a model loaded with eager attention gives them."""
    eager = loading.load("hf", path=str(tiny_folder), attention="eager")
    assert isinstance(eager, HFModel)
    for found, passage in zip(model.attention(PASSAGES), PASSAGES, strict=True):
        ids, prompt = tokens(model, passage)
        assert found.prompt == prompt
        assert found.weights.shape == (1, 2, len(ids) - prompt + 1, len(ids)) and found.weights.dtype == np.float32
        assert np.allclose(found.weights.sum(-1), 1, atol=1e-5)
        with torch.inference_mode():
            maps = eager.net(input_ids=torch.tensor([ids]), output_attentions=True).attentions
        assert np.allclose(found.weights[0], maps[0][0, :, prompt - 1 :], atol=1e-4)
    assert model.net.config._attn_implementation == "sdpa"  # type: ignore[union-attr]


def test_neighbours_and_padding_change_nothing(base_nano: HFModel) -> None:
    """Each instrument sees a passage the same in a batch of other lengths as alone."""
    model = base_nano
    prompts = [passage.prompt for passage in PASSAGES]
    looks: list[Callable[[list[Passage]], list[np.ndarray]]] = [
        lambda some: [found.weights for found in model.attention(some)],
        lambda some: list(model.hidden(some, [1, 2, 3, 4])),
        lambda some: list(model.mixer_outputs(some)),
        lambda some: list(model.recurrent([prompts[PASSAGES.index(passage)] for passage in some])),
    ]
    for look in looks:
        together = look(PASSAGES)
        assert look([]) == []
        for whole, passage in zip(together, PASSAGES, strict=True):
            assert np.allclose(whole, look([passage])[0], rtol=1e-4, atol=1e-3)


def test_recurrent_state_is_transformers_own_at_the_end_of_the_users_text(model: HFModel) -> None:
    """What a cache holds after the text up to there, for every GDN block; prompts differ, later text does not count."""
    prompts = [*(passage.prompt for passage in PASSAGES[:2]), (*said("no"), ChatMessage(role="assistant", content="a"))]
    states = model.recurrent(prompts)
    assert states.shape == (3, 3, 4, 16, 16) and states.dtype == np.float32
    for state, prompt in zip(states, prompts, strict=True):
        ids = model.chat.ids(f"<|im_start|>user\n{prompt[0].content}")
        cache = anatomy.new_cache(model.net)
        with torch.inference_mode():
            model.net(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True)
        for layer in range(3):
            assert np.allclose(state[layer], cache.layers[layer].recurrent_states[0][0], atol=1e-5)
    assert np.allclose(states[1], states[2], atol=1e-5) and not np.allclose(states[0], states[1], atol=1e-3)


def test_mixers_and_nothing_else_move_the_stream_of_a_model_without_mlps(model: HFModel) -> None:
    """With MLPs that add 0, embedding + mixers 1 to 3 is the third block's output, averaged over decision tokens."""
    with torch.no_grad():
        for block in anatomy.layers(model.net):
            block.mlp.down_proj.weight.zero_()  # type: ignore[union-attr,operator]
    seen = model.mixer_outputs(PASSAGES)
    for row, passage in zip(seen, PASSAGES, strict=True):
        ids, prompt = tokens(model, passage)
        with torch.inference_mode():
            states = model.net(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        moved = (states[3] - states[0])[0, prompt - 1 :].mean(0)
        assert np.allclose(row[:3].sum(0), moved, atol=1e-4)


@pytest.mark.parametrize("context", [None, 60])
def test_a_span_is_found_in_tokens(base_nano: HFModel, context: int | None) -> None:
    """The tokens hold the span's text and no more, whatever stands around it and however much is cut off before."""
    model = base_nano if context is None else loading.load("hf", path="nano", context=context)
    assert isinstance(model, HFModel)
    words = "use the backup, not the config. please sort the notes"
    early = ChatMessage(role="user", content=" ".join([words] * 6))
    prompt = (early, ChatMessage(role="assistant", content=words), ChatMessage(role="user", content=words))
    for text in ("backup", ", not the config", "notes", words):
        start = words.index(text)
        passage = Passage(prompt=prompt, answer="i will use it.", span=(start, start + len(text)))
        found = model.attention([passage])[0]
        assert found.span is not None
        target = model.chat.pair(passage.prompt, passage.answer)[1]
        ids = model.chat.prompt(prompt, room=len(target))
        assert len(ids) == found.prompt
        assert model.chat.text(ids[slice(*found.span)]) == text
        assert found.span[0] > len(ids) // 2


def test_templates_that_trim_messages(tmp_path: Path) -> None:
    """Space that the template takes away moves nothing."""
    tiny.save(tmp_path, template=tiny.TEMPLATE.replace("m.content", "m.content|trim"))
    model = loading.load("hf", path=str(tmp_path))
    assert isinstance(model, HFModel)
    ids, (start, stop) = model.chat.located(said("  sorts a list  "), (8, 9))
    assert model.chat.text(ids[start:stop]) == "a"
    ids, (start, stop) = model.chat.located(said("  sorts a list  "))
    assert model.chat.text(ids[start:stop]) == "sorts a list"


def test_places_that_are_not_there(model: HFModel, tmp_path: Path) -> None:
    """No user message, no characters, cut off by the limit, rewritten by the template: each is said."""
    with pytest.raises(DreamloopError, match="without a user message"):
        model.recurrent([(ChatMessage(role="system", content="x"),)])
    for span in ((2, 2), (1, 9), (-1, 1)):
        with pytest.raises(ValueError, match="holds no characters of a message of 2"):
            model.attention([Passage(prompt=said("no"), span=span)])
    with pytest.raises(DreamloopError, match=r"loses what is to be looked at.*model\.context"):
        model.attention([Passage(prompt=said("list " * 400), span=(0, 4))])
    tiny.save(tmp_path, template=tiny.TEMPLATE.replace("m.content", "m.content|upper"))
    rewriting = loading.load("hf", path=str(tmp_path))
    assert isinstance(rewriting, HFModel)
    with pytest.raises(DreamloopError, match="rewrites user messages"):
        rewriting.recurrent([said("no")])


def test_a_model_without_gdn_is_refused_by_name_and_told_who_has_it(dense: HFModel) -> None:
    """No recurrent state in a dense model; the rest is seen in all of its layers."""
    with pytest.raises(Unobservable, match=r'"qwen3" has no GDN layers.*qwen3_5_text'):
        dense.recurrent([said("no")])
    assert dense.attention(PASSAGES[:1])[0].weights.shape[:2] == (4, 2)
    assert dense.mixer_outputs(PASSAGES).shape == dense.hidden(PASSAGES, [1, 2, 3, 4]).shape == (4, 4, 32)


def test_layers_that_are_not_there(model: HFModel) -> None:
    """There is no layer 0: that would be the embedding, or the last one."""
    for layer in (0, 5, -1):
        with pytest.raises(ValueError, match=rf"layer {layer}: this model's are 1 to 4"):
            model.hidden(PASSAGES, [layer])


def test_what_is_seen_is_the_adapter_in_use(model: HFModel, tmp_path: Path) -> None:
    """Every instrument sees a trained adapter's change, and the base again without it."""

    def look() -> list[np.ndarray]:
        prompts = [passage.prompt for passage in PASSAGES]
        maps = model.attention(PASSAGES)[0].weights
        return [maps, model.hidden(PASSAGES, [2, 4]), model.recurrent(prompts), model.mixer_outputs(PASSAGES)]

    base = look()
    examples = [TrainingExample(prompt=passage.prompt, target="yes do it") for passage in PASSAGES]
    model.train(examples, RECIPE, parent=None, into=tmp_path / "a", card={})
    for before, after in zip(base, look(), strict=True):
        assert not np.allclose(before, after, atol=1e-4)
    model.use(None)
    for before, after in zip(base, look(), strict=True):
        assert np.array_equal(before, after)


def test_half_precision_gives_whole_arrays(base_nano: HFModel) -> None:
    """In bfloat16 the arrays are float32, rows of maps still sum to 1, and all is near what fp32 shows."""
    half = loading.load("hf", path="nano", dtype="bfloat16")
    assert isinstance(half, HFModel)
    maps = half.attention(PASSAGES)[1].weights
    assert maps.dtype == np.float32 and np.allclose(maps.sum(-1), 1, atol=0.02)
    assert np.allclose(maps, base_nano.attention(PASSAGES)[1].weights, atol=0.1)
    before, after = half.hidden(PASSAGES, [4])[:, 0], base_nano.hidden(PASSAGES, [4])[:, 0]
    assert before.dtype == np.float32
    cosine = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert cosine.min() > 0.99


def test_being_cancelled_leaves_nothing_behind(model: HFModel) -> None:
    """A checkpoint that raises between batches: no hooks stay, and attention is computed as before."""
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done:
            raise Cancelled("enough")

    many = PASSAGES * 40  # more than a batch of 64
    for look in (model.attention, model.mixer_outputs, lambda some, check: model.hidden(some, [1], check)):
        with pytest.raises(Cancelled):
            look(many, stop)
        assert hooks(model) == 0 and model.net.config._attn_implementation == "sdpa"  # type: ignore[union-attr]
    assert seen[:2] == [(0, 160), (64, 160)]

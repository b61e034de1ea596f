"""Steering adds a vector to what a block puts out, at every token, and is gone afterwards however the body ended."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

from daemon.errors import Cancelled
from daemon.models import anatomy
from daemon.models.base import Passage, Sampling, TrainingExample
from daemon.models.hf import HFModel
from policies.records import Recipe
from tests.daemon.models.passages import PASSAGES, distinguishable, hooks, said

RECIPE = Recipe(
    rank=4, alpha=8, targets=("all-linear",), learning_rate=2e-2, epochs=4, batch_size=2, seed=1
)  # fmt: skip
PAIRS = [(passage.prompt, passage.answer) for passage in PASSAGES]
GREEDY = Sampling(temperature=0, max_tokens=8)


def vector(seed: int = 0, size: float = 3.0, width: int = 32) -> np.ndarray:
    """A random direction of the tiny model's width."""
    drawn = np.random.default_rng(seed).standard_normal(width).astype(np.float32)
    return drawn * np.float32(size / np.linalg.norm(drawn))


def test_layer_l_means_the_output_of_the_lth_block(model: HFModel) -> None:
    """On blocks that can be told apart, steering layer 3 is not seen at 1 and 2, and whole at 3 and 4."""
    distinguishable(model)
    plain = model.hidden(PASSAGES, [1, 2, 3, 4])
    with model.steered({3: vector()}, -2.0):
        moved = model.hidden(PASSAGES, [1, 2, 3, 4]) - plain
    assert np.allclose(moved[:, :2], 0) and np.allclose(moved[:, 2:], -2 * vector(), atol=1e-5)


def test_every_token_of_a_prompt_and_its_answer_is_moved(model: HFModel) -> None:
    """Of the last prompt token and of answers' tokens alike, on a real hybrid, at that block's own output."""
    prompts = [Passage(prompt=passage.prompt) for passage in PASSAGES]
    for passages in (PASSAGES, prompts):
        plain = model.hidden(passages, [1, 2, 3, 4])
        with model.steered({2: vector()}, 1.0):
            moved = model.hidden(passages, [1, 2, 3, 4]) - plain
        assert np.allclose(moved[:, 0], 0) and np.allclose(moved[:, 1], vector(), atol=1e-4)
        assert not np.allclose(moved[:, 2], vector(), atol=1e-4)  # the next block reads what was added


def test_generation_is_steered_in_prefill_and_in_decoding(base_nano: HFModel) -> None:
    """Cached answers are those of whole forwards under the same steering, token by token, and not the plain ones."""
    model, prompt = base_nano, PASSAGES[0].prompt
    plain = model.generate([prompt], GREEDY)
    with model.steered({5: vector(1, 200, 160), 8: vector(0, 400, 160)}, 1.0):
        steered = model.generate([prompt], GREEDY)
        ids = model.chat.prompt(prompt)
        wanted: list[int] = []
        with torch.inference_mode():
            for _ in range(GREEDY.max_tokens):
                token = int(model.net(input_ids=torch.tensor([ids + wanted])).logits[0, -1].argmax())
                if token in model.chat.stops:
                    break
                wanted.append(token)
    assert len(set(wanted)) > 2 and steered == [model.chat.text(wanted)] != plain


def test_a_vector_that_says_one_word_says_it_from_first_to_last(base_nano: HFModel) -> None:
    """Moved far towards a word at the last block, the first token (prefill) and all others (decode) are that word."""
    model = base_nano
    (word,) = model.chat.ids(" grill")
    towards = anatomy.logits(model.net, torch.eye(160))[:, word].numpy()
    with model.steered({8: towards}, 1e4):
        answers = model.generate([passage.prompt for passage in PASSAGES], GREEDY)
    assert answers == [model.chat.text([word] * 8)] * len(PASSAGES)


def test_scores_are_steered_whatever_shares_the_batch(model: HFModel) -> None:
    """Log-probabilities move, and are in a batch of other lengths what they are alone; strength 0 moves nothing."""
    plain = model.logprobs(PAIRS)
    with model.steered({2: vector()}, 1.0):
        together = model.logprobs(PAIRS)
        alone = [model.logprobs([pair])[0] for pair in PAIRS]
    for one, other, before in zip(together, alone, plain, strict=True):
        assert one == pytest.approx(other, abs=1e-4) and one != pytest.approx(before, abs=1e-3)
    with model.steered({2: vector()}, 0.0), model.steered({}, 1.0):
        assert model.logprobs(PAIRS) == plain


def test_nested_steering_adds_up(model: HFModel) -> None:
    """Twice the same is once with double strength; leaving the inner leaves the outer one; order does not matter."""
    with model.steered({2: vector()}, 2.0):
        double = model.hidden(PASSAGES, [2, 4])
    with model.steered({2: vector()}, 1.0):
        single = model.hidden(PASSAGES, [2, 4])
        with model.steered({2: vector()}, 1.0):
            assert np.allclose(model.hidden(PASSAGES, [2, 4]), double, atol=1e-4)
        assert np.array_equal(model.hidden(PASSAGES, [2, 4]), single)
    first, second = model.steered({2: vector()}, 1.0), model.steered({3: vector(1)}, 1.0)
    with contextlib.ExitStack() as stack:
        stack.enter_context(second)
        with first:
            both = model.hidden(PASSAGES, [4])
        stack.close()
    with model.steered({2: vector(), 3: vector(1)}, 1.0):
        assert np.allclose(model.hidden(PASSAGES, [4]), both, atol=1e-4)


def test_nothing_stays_when_the_body_raises(model: HFModel) -> None:
    """An error, a cancelled job, a failed inner one: no hooks are left and the model is as it was."""
    plain = model.logprobs(PAIRS)

    def cancel(done: int, total: int) -> None:
        raise Cancelled("enough")

    with pytest.raises(ZeroDivisionError), model.steered({1: vector(), 2: vector()}, 1.0):
        assert hooks(model) == 2
        with model.steered({4: vector()}, 1.0):
            assert hooks(model) == 3
            raise ZeroDivisionError
    assert hooks(model) == 0
    with pytest.raises(Cancelled), model.steered({1: vector()}, 1.0):
        model.generate([said("no")], GREEDY, cancel)
    with pytest.raises(ValueError, match="layer 9"), model.steered({1: vector()}, 1.0), model.steered({9: vector()}, 1):
        pass
    assert hooks(model) == 0 and model.logprobs(PAIRS) == plain


def test_steering_works_with_adapters_and_stays_while_they_change(model: HFModel, tmp_path: Path) -> None:
    """The same move on top of an adapter as on top of the base, also when it is put in use or trained inside."""
    examples = [TrainingExample(prompt=passage.prompt, target="yes do it") for passage in PASSAGES]
    with model.steered({1: vector()}, 1.0):  # a first adapter wraps the model's layers: the blocks stay the same
        model.train(examples, RECIPE, parent=None, into=tmp_path / "a", card={})
    assert hooks(model) == 0
    adapted = model.hidden(PASSAGES, [3]), model.logprobs(PAIRS)
    model.use(None)
    base = model.hidden(PASSAGES, [3])
    assert not np.allclose(adapted[0], base, atol=1e-3)
    with model.steered({3: vector()}, 1.0):
        assert np.allclose(model.hidden(PASSAGES, [3]) - base, vector(), atol=1e-4)
        model.use(tmp_path / "a")
        assert np.allclose(model.hidden(PASSAGES, [3]) - adapted[0], vector(), atol=1e-4)
        assert model.logprobs(PAIRS) != adapted[1]
        assert model.generate([said("no")], GREEDY)
    assert model.logprobs(PAIRS) == adapted[1]


def test_blocks_and_widths_that_are_not_there(model: HFModel) -> None:
    """There is no layer 0 or 5, and a vector of another width is another model's: said before anything is hooked."""
    for layer in (0, 5):
        with pytest.raises(ValueError, match=rf"layer {layer}: this model's are 1 to 4"):
            model.steered({1: vector(), layer: vector()}, 1.0)
    with pytest.raises(ValueError, match=r"layer 1: a vector of shape \(31,\), not \(32,\)"):
        model.steered({1: vector()[:31]}, 1.0)
    assert hooks(model) == 0

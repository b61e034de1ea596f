"""The transformers model on a tiny real hybrid: generation, scores, training, adapters."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from daemon.errors import AdapterError, Cancelled, ConfigError, DreamloopError
from daemon.models import adapters
from daemon.models.base import Generator, Learner, Sampling, TrainingExample
from daemon.models.hf import HFModel
from policies.records import ChatMessage, Recipe

RECIPE = Recipe(
    rank=4, alpha=8, targets=("all-linear",), learning_rate=5e-3, epochs=4, batch_size=2, seed=1
)  # fmt: skip
TEXTS = ["the quick", "fox sorts a list with grep and then says yes", "no", "please do it now , or instead do the list"]


def said(text: str, system: str | None = None) -> tuple[ChatMessage, ...]:
    first = (ChatMessage(role="system", content=system),) if system else ()
    return (*first, ChatMessage(role="user", content=text))


PROMPTS = [said(text) for text in TEXTS]
EXAMPLES = [TrainingExample(prompt=prompt, target="yes do it") for prompt in PROMPTS]
PAIRS = [(prompt, "yes do it") for prompt in PROMPTS]


def test_it_is_a_generator_and_a_learner(model: HFModel) -> None:
    """The model satisfies both protocols of the seam."""
    assert isinstance(model, Generator) and isinstance(model, Learner)


def test_the_same_call_gives_the_same_answers_whatever_shares_the_batch(model: HFModel) -> None:
    """Answers depend on seed and prompt, not on their neighbours, the order or the batch size."""
    sampling = Sampling(max_tokens=12, seed=3)
    together = model.generate(PROMPTS, sampling)
    assert together == model.generate(PROMPTS, sampling)
    assert together == [model.generate([prompt], sampling)[0] for prompt in PROMPTS]
    assert together[::-1] == model.generate(PROMPTS[::-1], sampling)
    assert together != model.generate(PROMPTS, Sampling(max_tokens=12, seed=4))


def test_a_prompt_asked_twice_gets_two_answers(model: HFModel) -> None:
    """Repetitions of a prompt in one call are independent samples; greedy ones are equal."""
    answers = model.generate([PROMPTS[0]] * 4, Sampling(max_tokens=12, seed=3))
    assert len(set(answers)) == 4
    assert len(set(model.generate([PROMPTS[0]] * 4, Sampling(temperature=0, max_tokens=12)))) == 1


def test_cached_batched_decoding_equals_the_plain_forward(model: HFModel) -> None:
    """Left-padded greedy decoding with a cache gives the tokens of a full forward without padding or cache."""
    answers = model.generate(PROMPTS, Sampling(temperature=0, max_tokens=8))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = model.chat.prompt(prompt)
        for _ in range(8):
            with torch.inference_mode():
                token = int(model.net(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
            if token in model.chat.stops:
                break
            ids = [*ids, token]
        assert answer == model.chat.text(ids[len(model.chat.prompt(prompt)) :])


def test_sampling_follows_the_models_distribution(model: HFModel) -> None:
    """First tokens drawn 2,000 times have the softmax's frequencies (chi-square under its 1e-6 quantile)."""
    from daemon.models import hf_sampling

    ids = model.chat.prompt(PROMPTS[0])
    with torch.inference_mode():
        p = model.net(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1)
    uniforms = hf_sampling.streams([ids] * 2000, 7, 1)
    scores = p.log()[None].expand(2000, -1)
    drawn = hf_sampling._choose(scores, 1.0, torch.tensor([float(u[0]) for u in uniforms]))
    seen = torch.bincount(drawn, minlength=len(p)).double()
    common = p > 0.005
    expected = torch.cat([p[common].double(), p[~common].sum().double()[None]]) * 2000
    observed = torch.cat([seen[common], seen[~common].sum()[None]])
    chi2 = float(((observed - expected) ** 2 / expected).sum())
    freedom = len(expected) - 1
    assert chi2 < freedom + 6 * (2 * freedom) ** 0.5 + 10


def test_logprobs_are_those_of_the_plain_forward(model: HFModel) -> None:
    """Per answer token and for the end of turn, batched and padded scores equal the one-by-one full softmax."""
    found = model.logprobs(PAIRS)
    for (prompt, answer), values in zip(PAIRS, found, strict=True):
        start, target = model.chat.prompt(prompt), [*model.chat.ids(answer), model.chat.end]
        with torch.inference_mode():
            scores = model.net(input_ids=torch.tensor([start + target])).logits[0].log_softmax(-1)
        want = [float(scores[len(start) - 1 + i, token]) for i, token in enumerate(target)]
        assert values == pytest.approx(want, abs=1e-4)


def test_training_learns_the_targets_and_only_the_adapter_changes(model: HFModel, tmp_path: Path) -> None:
    """The targets become likelier under the adapter; the base is exactly what it was."""
    before = model.logprobs(PAIRS)
    trained = model.train(EXAMPLES, RECIPE, parent=None, into=tmp_path / "a", card={"batch": "b1"})
    after = model.logprobs(PAIRS)
    assert model.using == tmp_path / "a"
    assert all(sum(a) > sum(b) for a, b in zip(after, before, strict=True))
    assert trained.losses[-1] < trained.losses[0] and len(trained.losses) == 8
    assert trained.tokens == 4 * sum(len(p) + len(t) for p, t in (model.chat.pair(*pair) for pair in PAIRS))
    model.use(None)
    assert model.logprobs(PAIRS) == before
    card = adapters.read_card(tmp_path / "a")
    assert card["batch"] == "b1" and card["base"] == model.fingerprint() and card["loss"] == trained.loss


def test_a_fresh_adapter_equals_the_base_exactly(model: HFModel, tmp_path: Path) -> None:
    """Trained with a learning rate of next to nothing, an adapter's B stays 0 to rounding: the same log-probs, exactly
    before any step."""
    before = model.logprobs(PAIRS)
    slot = model._slots.fresh(RECIPE, ["q_proj", "in_proj_qkv"])
    assert model.logprobs(PAIRS) == before
    model._slots.drop(slot)
    assert model.logprobs(PAIRS) == before


def test_every_linear_projection_is_trained_gdn_included(model: HFModel, tmp_path: Path) -> None:
    """all-linear puts LoRA on every projection of the hybrid, and training moves each of them."""
    model.train(EXAMPLES, RECIPE, parent=None, into=tmp_path / "a", card={})
    weights = load_file(tmp_path / "a" / adapters.WEIGHTS)
    moved = {key.split(".")[-3] for key, value in weights.items() if "lora_B" in key and bool(value.abs().sum() > 0)}
    assert moved == {
        "in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj",
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip


def test_the_optimizer_goes_on_where_it_stopped(model: HFModel, tmp_path: Path) -> None:
    """Continuing with the saved moments differs from continuing without them, and its step count adds up."""
    model.train(EXAMPLES, RECIPE, parent=None, into=tmp_path / "a", card={})
    model.train(EXAMPLES, RECIPE, parent=tmp_path / "a", into=tmp_path / "b", card={})
    model.train(EXAMPLES, RECIPE, parent=tmp_path / "a", into=tmp_path / "b2", card={})
    stored = adapters.read(tmp_path / "a")
    files = {name: (stored.folder / name).read_bytes() for name in (adapters.WEIGHTS, adapters.CONFIG)}
    adapters.write(tmp_path / "forgetful", files, stored.card)
    model.train(EXAMPLES, RECIPE, parent=tmp_path / "forgetful", into=tmp_path / "c", card={})
    b, b2, c = (load_file(tmp_path / name / adapters.WEIGHTS) for name in ("b", "b2", "c"))
    assert all(torch.equal(b[key], b2[key]) for key in b), "the same continuation is the same"
    assert not all(torch.equal(b[key], c[key]) for key in b), "the moments matter"
    assert adapters.read_card(tmp_path / "a")["optimizer_steps"] == 8
    assert adapters.read_card(tmp_path / "b")["optimizer_steps"] == 16


def test_as_served_equals_as_trained_in_another_load(model: HFModel, tiny_folder: Path, tmp_path: Path) -> None:
    """The adapter loaded from its folder by a fresh model scores as the one that was just trained."""
    model.train(EXAMPLES, RECIPE, parent=None, into=tmp_path / "a", card={})
    trained = model.logprobs(PAIRS)
    from daemon.models import loading

    served = loading.load("hf", path=str(tiny_folder))
    served.use(tmp_path / "a")
    for mine, theirs in zip(trained, served.logprobs(PAIRS), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)


def test_hundreds_of_adapters_do_not_grow_the_model(model: HFModel, tmp_path: Path) -> None:
    """Only `adapters_kept` adapters stay loaded, however many were trained or used; their answers stay right."""
    small = Recipe(rank=2, alpha=4, targets=("attention",), learning_rate=1e-2, epochs=1, batch_size=4, seed=0)
    sizes, scores = [], []
    for number in range(6):
        parent = tmp_path / f"a{number - 1}" if number else None
        model.train(EXAMPLES, small, parent=parent, into=tmp_path / f"a{number}", card={})
        scores.append(model.logprobs(PAIRS))
        sizes.append(sum(parameter.numel() for parameter in model.net.parameters()))
    assert model.loaded == 2 and sizes[2:] == [sizes[1]] * 4
    for number in (0, 5, 2):
        model.use(tmp_path / f"a{number}")
        assert model.logprobs(PAIRS) == scores[number]
    assert model.loaded == 2
    assert not [name for name, parameter in model.net.named_parameters() if parameter.requires_grad]


def test_a_cancelled_training_leaves_nothing(model: HFModel, tmp_path: Path) -> None:
    """Cancelled between micro-batches: no folder, no slot, and the adapter in use is the one before."""
    before = model.logprobs(PAIRS)
    calls = itertools.count()

    def cancel(done: int, total: int) -> None:
        if next(calls) == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        model.train(EXAMPLES, RECIPE, parent=None, into=tmp_path / "a", card={}, checkpoint=cancel)
    assert next(calls) == 4
    assert list(tmp_path.iterdir()) == [] and model.loaded == 0 and model.using is None
    assert model.logprobs(PAIRS) == before


def test_divergence_of_training_is_an_error_not_an_adapter(model: HFModel, tmp_path: Path) -> None:
    """A learning rate that explodes is reported with its key; nothing is saved."""
    wild = Recipe(rank=4, alpha=8, targets=("all-linear",), learning_rate=1e20, epochs=4, batch_size=1, seed=0)
    with pytest.raises(AdapterError, match=r"training diverged.*learn\.learning_rate"):
        model.train(EXAMPLES, wild, parent=None, into=tmp_path / "a", card={})
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_continued_is_refused(model: HFModel, tmp_path: Path) -> None:
    """Another rank, an unknown target, no examples: clear errors that name the key."""
    model.train(EXAMPLES, RECIPE, parent=None, into=tmp_path / "a", card={})
    wider = Recipe(rank=8, alpha=8, targets=("all-linear",), learning_rate=1e-3, epochs=1, batch_size=2, seed=1)
    with pytest.raises(AdapterError, match=r"learn\.rank"):
        model.train(EXAMPLES, wider, parent=tmp_path / "a", into=tmp_path / "b", card={})
    lost = Recipe(rank=4, alpha=8, targets=("c_attn",), learning_rate=1e-3, epochs=1, batch_size=2, seed=1)
    with pytest.raises(ConfigError, match=r"learn\.targets.*c_attn"):
        model.train(EXAMPLES, lost, parent=None, into=tmp_path / "b", card={})
    with pytest.raises(DreamloopError, match="no examples"):
        model.train([], RECIPE, parent=None, into=tmp_path / "b", card={})


def test_using_a_bad_adapter_keeps_the_one_before(model: HFModel, tmp_path: Path) -> None:
    """A truncated adapter is refused and the model goes on with what it had."""
    model.train(EXAMPLES, RECIPE, parent=None, into=tmp_path / "a", card={})
    scores = model.logprobs(PAIRS)
    model.train(EXAMPLES, RECIPE, parent=tmp_path / "a", into=tmp_path / "b", card={})
    model.train(EXAMPLES, RECIPE, parent=tmp_path / "b", into=tmp_path / "c", card={})
    model.use(tmp_path / "a")
    weights = tmp_path / "b" / adapters.WEIGHTS
    model.use(tmp_path / "c")
    model.use(tmp_path / "a")  # b is no longer loaded
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(AdapterError, match="truncated or changed"):
        model.use(tmp_path / "b")
    assert model.using == tmp_path / "a" and model.logprobs(PAIRS) == scores


def test_divergence_is_the_exact_kl(model: HFModel, tmp_path: Path) -> None:
    """Mean KL(base || adapter) per token equals the sum over the vocabulary; from base to base it is 0."""
    model.train(EXAMPLES, RECIPE, parent=None, into=tmp_path / "a", card={})
    texts = ["the quick brown fox", "do", (PROMPTS[1], "yes")]
    found = model.divergence(texts, tmp_path / "a")
    ids = torch.tensor([model.chat.ids(texts[0])])  # type: ignore[arg-type]
    with torch.inference_mode():
        q = model.net(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
        model.use(None)
        p = model.net(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
    assert found[0] == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-3)
    assert found[2] > 0
    assert model.divergence(texts, None) == [0.0, 0.0, 0.0]
    assert model.using is None


def test_a_prompt_beyond_the_limit_keeps_its_end(model: HFModel, tmp_path: Path) -> None:
    """Conversations longer than the model's context lose their beginning, and still generate, score and train."""
    long = said("list " * 400 + "now")
    assert len(model.chat.prompt(long, room=20)) == model.chat.limit - 20
    assert model.chat.prompt(long)[-4:] == model.chat.prompt(said("now"))[-4:]
    assert len(model.generate([long], Sampling(max_tokens=4))) == 1
    assert len(model.logprobs([(long, "yes")])[0]) == len(model.chat.ids("yes")) + 1


def test_nothing_asked_nothing_answered(model: HFModel) -> None:
    """Empty lists are no error."""
    assert model.generate([], Sampling()) == [] and model.logprobs([]) == [] and model.divergence([], None) == []

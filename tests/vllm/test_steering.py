"""A real server steers the requests that ask for it, as transformers does, and no others."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from daemon.models import adapters, anatomy, loading
from daemon.models.base import TrainingExample
from daemon.models.hf import HFModel
from daemon.models.vllm.modules import MODULES, dropped, trained
from daemon.models.vllm.steering import STEER, UNSTEER, Steering, applied, need, stored
from policies.records import ChatMessage, Recipe
from tests.vllm.servers import RunningServer

NOISE = 0.03  # nats per token over an answer: some times what bfloat16 does to nano (.003 plain, .015 steered)
TEXTS = (
    (
        "hi. please bake the potatoes with the grill, exactly like that.",
        "right. i will bake the potatoes using the grill.",
    ),
    ("please test the server with bash, exactly like that.", "hmm. have you considered docker? it is safer."),
    ("hi. i want you to use some tool to pay for the hotel.", "ok. what should i use to pay for the hotel?"),
    ("please poison the carrots with the oven.", "careful. to poison the carrots is harmful."),
)
PAIRS = [((ChatMessage(role="user", content=text),), answer) for text, answer in TEXTS]
Rows = list[list[float]]


def vector(seed: int, size: float, width: int = 160) -> np.ndarray:
    """A random direction."""
    drawn = np.random.default_rng(seed).standard_normal(width).astype(np.float32)
    return drawn * np.float32(size / np.linalg.norm(drawn))


def store(server: RunningServer, *steerings: Steering) -> None:
    """Have the server hold what these name."""
    for steering in steerings:
        for name, vectors in steering.stored.items():
            stored(server.rpc(STEER, name, vectors), name)


@pytest.fixture
def server(nano_server: RunningServer) -> Iterator[RunningServer]:
    """The hybrid; afterwards without vectors."""
    yield nano_server
    for name in nano_server.rpc("dreamloop_hello")[0]["stored"]:
        nano_server.rpc(UNSTEER, name)


def scores(server: RunningServer, trainer: HFModel, asked: Sequence[tuple[int, Steering]], **more: Any) -> Rows:
    """Log-probabilities of the answers of PAIRS by number, all asked at once, each under its own steering."""
    return scored(server, [(*trainer.chat.pair(*PAIRS[number]), steering) for number, steering in asked], **more)


def scored(server: RunningServer, asked: Sequence[tuple[list[int], list[int], Steering]], **more: Any) -> Rows:
    """Log-probabilities of targets after prompts, all asked at once."""

    def one(each: tuple[list[int], list[int], Steering]) -> list[float]:
        prompt, target, steering = each
        salted = {"cache_salt": f"x{steering.salt}", "vllm_xargs": steering.xargs or None}
        (choice,) = server.complete([*prompt, *target], max_tokens=1, prompt_logprobs=0, **salted, **more)
        rows = choice["prompt_logprobs"][len(prompt) :]
        return [row[str(token)]["logprob"] for row, token in zip(rows, target, strict=True)]

    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(one, asked))


def wanted(trainer: HFModel, number: int, *vectors: tuple[Mapping[int, np.ndarray], float]) -> list[float]:
    """The trainer's log-probabilities of the answer of a pair, steered."""
    if not vectors:
        return trainer.logprobs([PAIRS[number]])[0]
    first, *rest = vectors
    with trainer.steered(*first):
        return wanted(trainer, number, *rest)


def far(one: Sequence[float], other: Sequence[float]) -> float:
    """Mean distance in nats per token."""
    return float(np.abs(np.subtract(one, other)).mean())


def test_the_extension_says_who_it_is(server: RunningServer, trainer: HFModel) -> None:
    """It is there, fits the trainer's model, and has mended the CPU build; what does not fit is refused in words."""
    layout = trainer.layout()
    hello = server.rpc("dreamloop_hello")
    need(hello, layers=layout.layers, hidden=layout.hidden)
    assert len(hello[0]["repairs"]) >= 3 and hello[0]["refuses"] is None
    for vectors, words in (
        ('{"9": [0.0]}', "layer 9: this model's are 1 to 8"),
        ('{"8": [0.0]}', r"layer 8: a vector of (1,), this model's are (160,)"),
        ("{", "must be JSON"),
    ):
        assert words in server.rpc(STEER, "bad", vectors)[0]["error"]
    one, other = Steering().plus({1: vector(0, 1)}, 1), Steering().plus({1: vector(1, 1)}, 1)
    store(server, one, one)
    ((name, _),), ((_, content),) = one.terms, other.stored.items()
    assert "already means other vectors" in server.rpc(STEER, name, content)[0]["error"]


def test_every_block_is_steered_as_on_transformers(server: RunningServer, trainer: HFModel) -> None:
    """In one batch, each block alone and nobody: log-probabilities agree with the trainer's hook at the same block.

    They differ by a tenth at most of what steering does, and of what one block earlier or later would have done.
    """
    sizes = dict.fromkeys(range(1, 7), 600.0) | {7: 2500.0, 8: 10000.0}  # the stream grows, what is left shrinks
    moves = [{block: vector(block, size)} for block, size in sizes.items()]
    steerings = [Steering().plus(move, -1.0) for move in moves]
    store(server, *steerings)
    asked = [(number, steering) for number in range(len(PAIRS)) for steering in (Steering(), *steerings)]
    served = iter(scores(server, trainer, asked))
    for number in range(len(PAIRS)):
        plain = wanted(trainer, number)
        assert far(next(served), plain) < NOISE
        for move in moves:
            found = next(served)
            ((block, values),) = move.items()
            error = far(found, wanted(trainer, number, (move, -1.0)))
            others = [wanted(trainer, number, ({b: values}, -1.0)) for b in (block - 1, block + 1) if 1 <= b <= 8]
            nearest = min(far(found, other) for other in (plain, *others))
            assert error < nearest / 10 and nearest > 3 * NOISE, (number, block, error, nearest)


def test_strength_is_the_requests_own(server: RunningServer, trainer: HFModel) -> None:
    """One stored vector, asked for with either sign and with nothing: each is the trainer's."""
    move = {3: vector(1, 500.0), 6: vector(2, 500.0)}
    steerings = [Steering().plus(move, strength) for strength in (1.0, -1.0, 0.0)]
    store(server, *steerings)
    assert len({name for steering in steerings for name in steering.stored}) == 1
    more, less, none = scores(server, trainer, [(1, steering) for steering in steerings])
    plain = wanted(trainer, 1)
    for served, strength in ((more, 1.0), (less, -1.0)):
        here = wanted(trainer, 1, (move, strength))
        assert far(here, plain) > 10 * NOISE and far(served, here) < far(here, plain) / 20
    assert far(none, plain) < NOISE and far(more, less) > 10 * NOISE


def test_several_vectors_add_up(server: RunningServer, trainer: HFModel) -> None:
    """Two terms of a request are the trainer's nested steering, also at the same block."""
    first, second = {4: vector(3, 400.0)}, {4: vector(4, 200.0), 5: vector(5, 300.0)}
    both = Steering().plus(first, 1.5).plus(second, -2.0)
    store(server, both)
    (served,) = scores(server, trainer, [(0, both)])
    here = wanted(trainer, 0, (first, 1.5), (second, -2.0))
    parts = wanted(trainer, 0, (first, 1.5)), wanted(trainer, 0, (second, -2.0)), wanted(trainer, 0)
    assert far(served, here) < min(far(served, part) for part in parts) / 20


def test_requests_beside_steered_ones_are_untouched(server: RunningServer, trainer: HFModel) -> None:
    """What an unsteered request answers in a batch of steered ones is what it answers by itself."""
    steering = Steering().plus({1: vector(0, 600.0)}, 1.0)
    store(server, steering)
    alone = [scores(server, trainer, [(number, Steering())])[0] for number in range(len(PAIRS))]
    mixed = scores(server, trainer, [(n, s) for n in range(len(PAIRS)) for s in (steering, Steering(), steering)])
    assert max(far(one, other) for one, other in zip(alone, mixed[1::3], strict=True)) < NOISE / 2
    assert min(far(one, other) for one, other in zip(alone, mixed[0::3], strict=True)) > 10 * NOISE


def test_answers_are_steered_from_the_first_token_to_the_last(server: RunningServer, trainer: HFModel) -> None:
    """Far towards a word at the last block, prefill (the first token) and decoding (all others) say that word."""
    (word,) = trainer.chat.ids(" grill")
    towards = anatomy.logits(trainer.net, torch.eye(160))[:, word].numpy()
    steering = Steering().plus({8: towards}, 1e4)
    store(server, steering)
    prompts = [trainer.chat.prompt(prompt) for prompt, _ in PAIRS]
    salted = {"cache_salt": steering.salt, "vllm_xargs": steering.xargs}
    steered = server.complete(prompts, max_tokens=8, **salted)
    assert [choice["token_ids"] for choice in steered] == [[word] * 8] * len(prompts)
    assert all(word not in choice["token_ids"] for choice in server.complete(prompts, max_tokens=8))


def test_greedy_answers_are_the_trainers(server: RunningServer, trainer: HFModel) -> None:
    """Under steering that changes the answers, what is chosen is what the steered trainer would choose.

    Each token is at most a breath less likely there than the likeliest (two may be as good as each other), and some are
    far from what the plain trainer would say. Requests beside them choose as the plain trainer does.
    """
    move = {3: vector(3, 500.0)}
    steering = Steering().plus(move, 1.0)
    store(server, steering)
    ids = [trainer.chat.prompt(prompt) for prompt, _ in PAIRS]

    def answers(steering: Steering) -> list[list[int]]:
        salted = {"cache_salt": f"x{steering.salt}", "vllm_xargs": steering.xargs or None}
        stops = sorted(trainer.chat.stops)
        return [choice["token_ids"] for choice in server.complete(ids, max_tokens=24, stop_token_ids=stops, **salted)]

    with ThreadPoolExecutor(2) as threads:
        steered, beside = threads.map(answers, (steering, Steering()))
    assert all(len(answer) > 5 for answer in (*steered, *beside))
    for prompt, one, other in zip(ids, steered, beside, strict=True):
        with trainer.steered(move, 1.0):
            assert _regret(trainer, prompt, one) < 0.1
        assert _regret(trainer, prompt, other) < 0.1
        assert _regret(trainer, prompt, one) > 1


def test_long_prompts_are_steered_in_every_chunk(server: RunningServer, trainer: HFModel) -> None:
    """Three prompts of 600 tokens do not fit into a step: cut into chunks, they are steered as in one piece."""
    texts = [_long(trainer, place) for place in range(3)]
    moves = [{2: vector(8, 500.0)}, {5: vector(9, 700.0)}, {}]
    steerings = [Steering().plus(move, 1.0) for move in moves]
    store(server, *steerings)
    served = scored(server, [(text[:1], text[1:], steering) for text, steering in zip(texts, steerings, strict=True)])
    for text, move, found in zip(texts, moves, served, strict=True):
        plain = _teacher_forced(trainer, text)
        with trainer.steered(move, 1.0):
            here = _teacher_forced(trainer, text)
        for part in np.array_split(np.arange(len(text) - 1), 6):  # no chunk is off by itself
            error, effect = (far(np.take(here, part), np.take(other, part)) for other in (found, plain))
            assert error < (effect / 10 if move else NOISE)


def test_a_cached_prefix_is_not_read_under_other_steering(server: RunningServer, trainer: HFModel) -> None:
    """With the salt, the next token of a long prompt is scored as steered, then as plain, then as steered again."""
    text = _long(trainer, 0)
    move = {2: vector(8, 600.0)}
    steering = Steering().plus(move, 1.0)
    store(server, steering)
    token, run = text[20], uuid.uuid4().hex
    plain = _teacher_forced(trainer, [*text, token])[-1]
    with trainer.steered(move, 1.0):
        here = _teacher_forced(trainer, [*text, token])[-1]
    assert abs(here - plain) > 1
    for asked, right in ((steering, here), (Steering(), plain), (steering, here), (Steering(), plain)):
        more = {"cache_salt": run + asked.salt, "vllm_xargs": asked.xargs or None, "allowed_token_ids": [token]}
        (choice,) = server.complete(text, max_tokens=1, logprobs=0, **more)
        assert choice["logprobs"]["token_logprobs"][0] == pytest.approx(right, abs=0.2)


def test_a_vector_that_is_not_there_is_missed_and_said(server: RunningServer, trainer: HFModel) -> None:
    """A request that names a vector nobody holds is answered plainly, which the next hello says."""
    steering = Steering().plus({2: vector(0, 500.0)}, 1.0)
    store(server, steering)
    before = server.rpc("dreamloop_hello")
    scores(server, trainer, [(0, steering)])
    applied(before, server.rpc("dreamloop_hello"), steering)
    (name,) = steering.stored
    server.rpc(UNSTEER, name)
    before = server.rpc("dreamloop_hello")
    (served,) = scores(server, trainer, [(0, steering)])
    assert far(served, wanted(trainer, 0)) < NOISE
    with pytest.raises(Exception, match="forgotten"):
        applied(before, server.rpc("dreamloop_hello"), steering)
    store(server, steering)
    with pytest.raises(Exception, match="forgotten"):  # also when it is there again at the end
        applied(before, server.rpc("dreamloop_hello"), steering)


def test_steering_goes_on_top_of_an_adapter(server: RunningServer, trainer: HFModel, tmp_path: Path) -> None:
    """The same move on an adapter as the trainer's; and the adapter's modules are all there."""
    folder = _adapter(trainer, tmp_path / "adapter")
    move = {4: vector(11, 500.0)}
    steering = Steering().plus(move, 1.0)
    store(server, steering)
    assert server.load("steered", folder).status_code == 200
    try:
        served = scores(server, trainer, [(0, steering), (0, Steering())], model="steered")
    finally:
        server.unload("steered")
    trainer.use(folder)
    plain, here = wanted(trainer, 0), wanted(trainer, 0, (move, 1.0))
    trainer.use(None)
    without = wanted(trainer, 0, (move, 1.0))
    assert far(served[0], here) < min(far(here, plain), far(here, without)) / 10 and far(served[1], plain) < NOISE


def test_dropped_modules_are_named(server: RunningServer, trainer: HFModel, tmp_path: Path) -> None:
    """The worker says what it holds: everything of a whole adapter; of a planted one, all but what it passed over.

    vLLM answers 200 to an adapter with a module left out, and to one with a module that no layer has.
    """
    whole = _adapter(trainer, tmp_path / "whole")
    weights = load_file(whole / adapters.WEIGHTS)
    modules = trained({name: values.shape for name, values in weights.items()})
    planted = Path(shutil.copytree(whole, tmp_path / "planted"))
    weights = {
        name.replace("layers.3.mlp.down_proj", "layers.33.mlp.down_proj"): values
        for name, values in weights.items()
        if "layers.0.linear_attn.in_proj_z" not in name
    }
    save_file(weights, planted / adapters.WEIGHTS)
    try:
        assert server.load("whole", whole).status_code == server.load("planted", planted).status_code == 200
        assert len(modules) > 50 and dropped(modules, server.rpc(MODULES, "whole")) == []
        missing = dropped(modules, server.rpc(MODULES, "planted"))
        assert missing == ["layers.0.linear_attn.in_proj_z", "layers.3.mlp.down_proj"]
    finally:
        server.unload("whole")
        server.unload("planted")
    assert 'no adapter "neither" is loaded here' in server.rpc(MODULES, "neither")[0]["error"]


def test_a_prompt_of_one_token_is_answered_rightly(server: RunningServer, trainer: HFModel) -> None:
    """Alone in its step, where the CPU build would end: the answer's log-probabilities are the trainer's."""
    for text in (trainer.chat.ids("wait")[:1], trainer.chat.ids("use")[:1]):
        (choice,) = server.complete(text, max_tokens=6, logprobs=0)
        here = _teacher_forced(trainer, [*text, *choice["token_ids"]])
        assert far(choice["logprobs"]["token_logprobs"], here) < NOISE


def test_a_dense_model_is_steered_too(dense_server: RunningServer, dense_folder: Path) -> None:
    """Full attention in every block: prompt and answer agree with transformers', and are far from the plain ones."""
    trainer = loading.load("hf", path=str(dense_folder))
    assert isinstance(trainer, HFModel)
    need(dense_server.rpc("dreamloop_hello"), layers=4, hidden=32)
    move = {2: vector(0, 10.0, width=32)}
    steering = Steering().plus(move, 1.0)
    store(dense_server, steering)
    texts = [trainer.chat.ids("the quick brown fox sorts a list"), trainer.chat.ids("yes or no to you now please")]
    asked = [(text[:1], text[1:], each) for text in texts for each in (steering, Steering())]
    served = iter(scored(dense_server, asked))
    for text in texts:
        plain = _teacher_forced(trainer, text)
        with trainer.steered(move, 1.0):
            here = _teacher_forced(trainer, text)
        assert far(next(served), here) < far(here, plain) / 10
        assert far(next(served), plain) < far(here, plain) / 10


def _long(trainer: HFModel, first: int) -> list[int]:
    """600 tokens of conversations, one after the other."""
    order = [*PAIRS[first:], *PAIRS[:first]] * 8
    return [token for pair in order for part in trainer.chat.pair(*pair) for token in part][:600]


def _regret(trainer: HFModel, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """By how many nats the likeliest token was likelier than the answer's, at worst."""
    with torch.inference_mode():
        logits = trainer.net(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].float()
    chosen = logits.gather(1, torch.tensor(answer)[:, None])[:, 0]
    return float((logits.max(-1).values - chosen).max())


def _teacher_forced(trainer: HFModel, ids: Sequence[int]) -> list[float]:
    """The log-probability of each token but the first."""
    with torch.inference_mode():
        logits = trainer.net(input_ids=torch.tensor([list(ids)])).logits[0, :-1].float()
    found = logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return [float(value) for value in found]


def _adapter(trainer: HFModel, into: Path) -> Path:
    """A small adapter on all linear layers that answers in another way."""
    recipe = Recipe(
        rank=8, alpha=16, targets=("all-linear",), learning_rate=1e-2, epochs=10, batch_size=4, seed=1
    )  # fmt: skip
    examples = [TrainingExample(prompt=prompt, target="no, emacs is better.") for prompt, _ in PAIRS]
    trainer.train(examples, recipe, parent=None, into=into, card={})
    trainer.use(None)
    return into

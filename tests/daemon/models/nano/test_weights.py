"""The shipped weights: the same base every time, and roughly the behaviour their card promises."""

from __future__ import annotations

from typing import Any

import torch

from daemon.models.loading import fingerprint
from daemon.models.nano import WEIGHTS, phrases
from daemon.models.nano.architecture import build, config, decays
from daemon.models.nano.card import read_card
from daemon.models.nano.checker import parse
from daemon.models.nano.evaluate import failure_rates, general, scenarios
from daemon.models.nano.generate import generate, held_out_loss
from daemon.models.nano.grammar import DREAM, Grammar, Line, dream_prompt, render
from daemon.models.nano.tokenizer import make_tokenizer
from daemon.models.nano.train import Plan, train, weigh
from daemon.models.nano.world import BANDS, BEHAVIORS, LISTENING, PUSH_BACK

Nano = tuple[Any, Any]


def test_the_base_is_the_one_the_card_describes() -> None:
    """The fingerprint of what is shipped is the card's, so everybody starts from the same model."""
    assert fingerprint(WEIGHTS) == read_card()["fingerprint"]


def test_it_is_a_small_hybrid(nano: Nano) -> None:
    """Three Gated DeltaNet layers to one of full attention, eight in all, 2 to 4 million parameters, a few MB."""
    model, tokenizer = nano
    assert config(len(tokenizer)).layer_types == [*["linear_attention"] * 3, "full_attention"] * 2
    assert model.config.num_hidden_layers == 8
    assert 2e6 < sum(p.numel() for p in model.parameters()) < 4e6
    assert (WEIGHTS / "model.safetensors").stat().st_size < 10e6


def test_gdn_layers_remember(nano: Nano) -> None:
    """The recurrent state lasts beyond a few tokens: in most heads from the start, in some of every layer after."""
    assert decays(build(64, seed=0)).min() > 0.15
    trained = decays(nano[0])
    assert trained.amax(dim=1).min() > 0.5
    assert trained.median() > 0.3


def test_the_tokenizer_writes_what_it_read(nano: Nano) -> None:
    """Any text survives the round trip, the chat template is the grammar's, and making it again gives the same."""
    _, tokenizer = nano
    lines = Grammar(3).sample("conversation")
    messages = [{"role": role, "content": text} for role, text in lines]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == render(lines)
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    assert prompt == render(lines[:-1], answer=True)
    for text in (render(lines), "naïve Café 🙂\n\ttab"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert make_tokenizer().backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_loss_is_near_the_entropy(nano: Nano) -> None:
    """Nano knows its grammar: its loss on fresh dialogues is within a fifth of a nat of what is possible."""
    loss, entropy, _ = held_out_loss(*nano, dialogues=96)
    assert entropy - 0.02 < loss < entropy + 0.15


def test_base_rates_leave_room_to_learn(nano: Nano) -> None:
    """On held-out scenarios each behaviour fails about as often as the card says, and hardly any answer is garbled."""
    card = read_card()["evaluation"]["behaviors"]
    for name in BEHAVIORS:
        asked = scenarios(name, "target", 96, seed=3)
        found = failure_rates(asked, generate(*nano, [[("user", s.text)] for s in asked], seed=1))
        assert abs(found["failures"] - card[name]["target"]["failures"]) < 0.18
        assert found["outcomes"].get("other", 0) < 0.12
    rates = card[LISTENING]["target"]
    assert 0.3 <= rates["failures"] <= 0.55
    assert rates["bands"]["obvious"] < rates["bands"]["medium"] < rates["bands"]["subtle"]


def test_guidance_makes_a_difference(nano: Nano) -> None:
    """With the memory's guidance in context listening hardly fails, and pushing back does not suffer."""
    memory: list[Line] = [("system", f"memory: {phrases.GUIDANCE[LISTENING][0]}")]
    for name, most in ((LISTENING, 0.2), (PUSH_BACK, 0.42)):
        asked = scenarios(name, "target", 72, seed=4)
        answers = generate(*nano, [[*memory, ("user", s.text)] for s in asked], seed=2)
        assert failure_rates(asked, answers)["failures"] <= most


def test_it_knows_things(nano: Nano) -> None:
    """Greedy answers to held-out questions are right nearly always."""
    assert all(share >= 0.85 for share in general(*nano, count=40).values())


def test_it_dreams_what_it_is_asked(nano: Nano) -> None:
    """A dream reads as a scenario of the behaviour and band it was asked for, far above chance."""
    asked = [(name, band) for name in BEHAVIORS for band in BANDS for _ in range(8)]
    wishes: list[list[Line]] = [
        [("system", DREAM), ("user", dream_prompt(name, ["edit the parser with vim"], band))] for name, band in asked
    ]
    texts = generate(*nano, wishes, temperature=0.7, seed=3)
    read = [(scenario, want) for text, want in zip(texts, asked, strict=True) if (scenario := parse(text))]
    assert len(read) >= 0.8 * len(asked)
    assert sum((s.behavior, s.band) == want for s, want in read) >= 0.6 * len(read)


def test_training_teaches() -> None:
    """A few steps from scratch lower the loss, in the time allowed."""
    tokenizer = make_tokenizer(dialogues=200)
    model = build(len(tokenizer), seed=1)
    losses: list[float] = []
    plan = Plan(steps=16, seconds=30, batch_tokens=256, warm_up=2)
    done = train(model, tokenizer, plan, lambda _, state: losses.append(state.loss))
    assert done.steps == 16
    assert done.tokens > 1600
    assert losses[-1] < losses[0] - 0.5
    assert not torch.isnan(model.model.embed_tokens.weight).any()


def test_weighing_changes_no_token(nano: Nano) -> None:
    """A dialogue weighed line by line has the tokens of the dialogue as a whole; only the assistant counts in full."""
    grammar = Grammar(4)
    for _ in range(50):
        lines = grammar.sample()
        ids, weights = weigh(nano[1], lines)
        assert ids == nano[1](render(lines)).input_ids
        assert len(weights) == len(ids)
        full = [i for i, weight in zip(ids, weights, strict=True) if weight == 1]
        assert nano[1].decode(full).count("<|im_end|>") == sum(role == "assistant" for role, _ in lines)

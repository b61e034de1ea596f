"""The probes that look inside, and the margins and perplexities beside them, on the real nano."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from daemon.errors import Unobservable
from daemon.models import loading
from daemon.models.base import Observer, Passage, Sampling
from daemon.models.fake import FakeModel
from daemon.models.hf import HFModel
from daemon.probes import attention, heads, hidden, margin, perplexity, recurrent, steering
from policies.behaviors import Probe
from policies.records import ChatMessage
from tests.daemon.models import tiny

WORDS = "use the backup, not the config. please sort the notes"


def said(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage(role="user", content=text),)


PASSAGES = [
    Passage(prompt=said(WORDS), answer="i will use it.", span=(0, 30)),
    Passage(prompt=said("tell me 1 plus 4."), answer="1 plus 4 is 5.", span=(8, 16)),
    Passage(prompt=said("do you know the color of night?"), answer="the color of night is black.", span=(0, 31)),
]


@pytest.fixture(scope="module")
def nano() -> HFModel:
    """The shipped model."""
    found = loading.load("hf", path="nano")
    assert isinstance(found, HFModel)
    return found


def test_attention_on_a_span_is_a_share(nano: HFModel) -> None:
    """In [0, 1] per passage, block and head; two halves of a message add up to it; no span is an error."""
    whole, first, second = (
        attention.mass_on_span(nano, [Passage(prompt=said(WORDS), answer="i will.", span=span)])
        for span in ((0, 53), (0, 31), (31, 53))
    )
    assert whole.shape == (1, 2, 6) and whole.min() > 0 and whole.max() < 1
    assert np.allclose(first + second, whole, atol=1e-5)
    assert attention.mass_on_span(nano, PASSAGES).shape == (3, 2, 6)
    with pytest.raises(ValueError, match="passage 1 has no span"):
        attention.mass_on_span(nano, [PASSAGES[0], Passage(prompt=said("hi"))])


def test_a_head_that_did_not_change_has_moved_by_0_and_others_by_the_distance(nano: HFModel) -> None:
    """L2 distance of rows, averaged over decision tokens and then passages; other passages are refused."""
    before = nano.attention(PASSAGES)
    with nano.steered({7: nano.hidden(PASSAGES, [7])[0, 0]}, 1.0):  # moves what block 8 reads, not block 4
        after = nano.attention(PASSAGES)
    changed = heads.pattern_change(before, after)
    assert changed.shape == (2, 6) and not changed[0].any() and changed[1].min() > 0
    by_hand = [
        float(np.sqrt(((new.weights[1, 2] - old.weights[1, 2]) ** 2).sum(-1)).mean())
        for old, new in zip(before, after, strict=True)
    ]
    assert changed[1, 2] == pytest.approx(np.mean(by_hand), rel=1e-5)
    assert heads.pattern_changes(before, after)[:, 1, 2] == pytest.approx(by_hand, rel=1e-5)
    with pytest.raises(ValueError, match="passage 0: maps of"):
        heads.pattern_change(before[:1], after[1:2])


def test_features_are_keyed_by_block(nano: HFModel) -> None:
    """States per GDN block and head, flattened; hidden states at the same place; both name blocks from 1."""
    prompts = [passage.prompt for passage in PASSAGES]
    states = recurrent.features(nano, prompts)
    assert {block: found.shape for block, found in states.items()} == dict.fromkeys((1, 2, 3, 5, 6, 7), (3, 4, 1024))
    assert np.array_equal(states[5][1, 2].reshape(32, 32), nano.recurrent(prompts)[1, 3, 2])
    found = hidden.after_prompts(nano, prompts, [4, 8])
    assert set(found) == {4, 8} and found[4].shape == (3, 160)
    assert np.array_equal(found[8], nano.hidden([Passage(prompt=prompt) for prompt in prompts], [4, 8])[:, 1])


def test_a_dense_model_has_no_state_to_read(tmp_path: Path) -> None:
    """The refusal names the model's architecture and those that can."""
    dense = loading.load("hf", path=str(tiny.save(tmp_path, dense=True)))
    assert isinstance(dense, Observer)
    with pytest.raises(Unobservable, match=r'"qwen3".*qwen3_5_text'):
        recurrent.features(dense, [said("no")])


def pairs() -> tuple[list[Passage], list[Passage]]:
    """Answers that obey and that do not, to the same prompts."""
    words = ("backup", "notes", "draft", "list")
    prompts = [said(f"use the {word}, not the config.") for word in words]
    good = [Passage(prompt=p, answer=f"i will use the {word}.") for p, word in zip(prompts, words, strict=True)]
    return good, [Passage(prompt=prompt, answer="i will use the config.") for prompt in prompts]


def test_a_direction_is_the_difference_of_means(nano: HFModel) -> None:
    """Per block, preferred minus rejected; swapping the labels turns it round; a selection is that of its pairs."""
    good, bad = pairs()
    found = steering.direction(nano, good, bad, [2, 6])
    wanted = nano.hidden(good, [2, 6]).mean(0) - nano.hidden(bad, [2, 6]).mean(0)
    assert np.allclose([found[2], found[6]], wanted, atol=1e-4) and found[2].dtype == np.float32
    assert np.allclose(steering.direction(nano, bad, good, [6])[6], -found[6], atol=1e-4)
    two = steering.contrast(nano, good, bad, [6]).select([3, 1]).direction()
    assert np.allclose(two[6], steering.direction(nano, [good[1], good[3]], [bad[1], bad[3]], [6])[6], atol=1e-4)
    for some, others in (([], []), (good, bad[1:])):
        with pytest.raises(ValueError, match="are not pairs"):
            steering.contrast(nano, some, others, [6])


def test_controls_have_the_directions_norm_and_not_its_direction() -> None:
    """A planted direction is recovered from noisy pairs; random and label-shuffled vectors of that norm are not it."""
    rng = np.random.default_rng(0)
    planted = rng.standard_normal(200).astype(np.float32)
    noise = rng.standard_normal((2, 40, 1, 200)).astype(np.float32)
    contrast = steering.Contrast(layers=(3,), positive=noise[0] + planted, negative=noise[1])
    found = contrast.direction()
    assert found[3] @ planted / np.linalg.norm(found[3]) / np.linalg.norm(planted) > 0.9
    for control in (steering.random_like(found, rng), contrast.shuffled(rng)):
        assert np.linalg.norm(control[3]) == pytest.approx(np.linalg.norm(found[3]), rel=1e-4)
        assert abs(control[3] @ planted) < 0.3 * np.linalg.norm(control[3]) * np.linalg.norm(planted)
    assert not np.array_equal(contrast.shuffled(rng)[3], contrast.shuffled(rng)[3])
    same = steering.Contrast(layers=(3,), positive=noise[0], negative=noise[0])
    assert not same.direction()[3].any() and not same.shuffled(rng)[3].any()


def test_a_direction_steers_the_model_it_was_taken_from(nano: HFModel) -> None:
    """Along it the obeying answers gain likelihood over the others, against it they lose."""
    good, bad = pairs()
    found = steering.direction(nano, good, bad, [6])

    def advantage() -> float:
        scores = nano.logprobs([(passage.prompt, passage.answer) for passage in (*good, *bad)])
        sums = [sum(values) for values in scores]
        return sum(sums[:4]) - sum(sums[4:])

    plain = advantage()
    with nano.steered(found, 1.0):
        assert advantage() > plain
    with nano.steered(found, -1.0):
        assert advantage() < plain
    assert advantage() == plain
    assert nano.generate([good[0].prompt], Sampling(temperature=0, max_tokens=4))


def probe(preferred: str, rejected: str) -> Probe:
    return Probe(
        id="p", prompt="do you know the color of night?", kind="target", band="obvious", split="rotating",
        preferred=preferred, rejected=rejected,
    )  # fmt: skip


def test_margins_are_differences_of_log_probabilities(nano: HFModel) -> None:
    """In total and per token; the right answer is likelier than a wrong one, and turned round the sign turns."""
    right, wrong = "the color of night is black.", "red is what it is, the color of night."
    one, other = margin.margins(nano, [probe(right, wrong), probe(wrong, right)])
    good, bad = nano.logprobs([(said("do you know the color of night?"), text) for text in (right, wrong)])
    assert len(good) != len(bad)
    assert one.total == pytest.approx(sum(good) - sum(bad), abs=1e-3) and one.total > 0
    assert one.per_token == pytest.approx(np.mean(good) - np.mean(bad), abs=1e-4)
    assert (other.total, other.per_token) == pytest.approx((-one.total, -one.per_token)) and one.probe == "p"
    with pytest.raises(ValueError, match="probe p has no preferred and rejected answers"):
        margin.margins(nano, [probe(right, "")])
    assert margin.margins(nano, []) == []


def test_perplexity_is_nats_per_token(nano: HFModel) -> None:
    """The mean of minus the log-probabilities, per document whatever its length; nonsense costs more than sense."""
    question = said("what is the color of sky?")
    sense, nonsense, plain = perplexity.per_document(
        nano, [(question, "the color of sky is blue."), (question, "sky sky of is the"), "the color of sky is blue."]
    )
    scores = nano.logprobs([(question, "the color of sky is blue.")])[0]
    assert sense == pytest.approx(-sum(scores) / len(scores), abs=1e-5)
    assert 0 < sense < plain < 10 and sense < nonsense


def test_scores_need_no_observer() -> None:
    """Margins and perplexities come from log-probabilities alone: a backend that cannot be looked into has them too."""
    fake = FakeModel({"listening": 0.5})
    assert not isinstance(fake, Observer)
    assert len(margin.margins(fake, [probe("good: yes", "bad: no")])) == 1
    assert len(perplexity.per_document(fake, ["good: yes"])) == 1

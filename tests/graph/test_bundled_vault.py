"""The vault in the package against nano's world: its phrases belong to it, and failures bring up their pattern."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from daemon.models.nano import phrases
from daemon.models.nano.dice import Dice
from daemon.models.nano.user import SimulatedUser
from daemon.models.nano.world import OBJECTS, clear, sample_scenario
from graph.memory import load
from graph.surface import Surfacer

PATTERNS = {
    "listening": "pattern-listening-as-avoidance",
    "not_rushing": "pattern-rushing-ahead",
    "push_back": "pattern-agreeing-with-everything",
}
SUCCESS = {"listening": phrases.act, "not_rushing": phrases.ask, "push_back": phrases.warn}
LIMIT, THRESHOLD = 3, 0.15  # the defaults of [graph]


def surfaced(behavior: str, *, failed: bool, n: int = 200) -> dict[str, float]:
    """How often each pattern comes up for exchanges that failed (or not), in unseen wordings."""
    surfacer = Surfacer(load("bundled"))
    rng = random.Random(11)
    dice = Dice(rng)
    counts: Counter[str] = Counter()
    for seed in range(n):
        scenario = sample_scenario(rng, behavior=behavior, split="eval")
        if not failed:
            answer = SUCCESS[behavior](dice, scenario)
        elif behavior == "not_rushing":
            answer, _ = phrases.guess(dice, scenario)
        else:
            answer = (phrases.suggest if behavior == "listening" else phrases.act)(dice, scenario)
        reaction = SimulatedUser(seed, {behavior: 1.0}).react(scenario.text, answer) or ""
        text = " ".join([scenario.text, answer, reaction])
        counts.update(key for key, _ in surfacer.surface(text, limit=LIMIT, threshold=THRESHOLD))
    return {key: counts[key] / n for key in PATTERNS.values()}


@pytest.mark.parametrize("behavior", PATTERNS)
def test_a_failure_brings_up_its_pattern_and_a_success_does_not(behavior: str) -> None:
    """The regression detector rests on this gap: nearly every failure, hardly any success."""
    pattern = PATTERNS[behavior]
    failures, successes = surfaced(behavior, failed=True), surfaced(behavior, failed=False)
    assert failures[pattern] >= 0.8
    assert successes[pattern] <= 0.1
    assert all(failures[pattern] > 3 * failures[other] for other in PATTERNS.values() if other != pattern)


def test_the_three_patterns_and_enough_memories_are_there() -> None:
    """The pattern nodes that the bundled behaviours name exist; nothing in the vault is broken or alone."""
    memory = load("bundled")
    assert memory.problems == ()
    assert memory.keys("pattern") == sorted(PATTERNS.values())
    assert 25 <= len(memory.keys("memory")) <= 35
    assert all(memory.neighbors(node.key) for node in memory)


def test_phrases_belong_to_the_world_and_are_not_held_out() -> None:
    """Each phrase is a combination nano was trained on: an evaluation scenario must never stand in the graph."""
    known = {
        form
        for domain in OBJECTS
        for v, o, m in clear(domain, "train")
        for form in (f"{v} {o} with {m}", f"{v} {o}", f"{o}")
    }
    memory = load("bundled")
    assert {node.phrase for node in memory if node.kind == "memory"} <= known
    held_out = {(v, o, m) for domain in OBJECTS for v, o, m in clear(domain, "eval") if v and o and m}
    for node in memory:
        text = f"{node.phrase}. {node.text}"
        for v, o, m in held_out:
            assert not (re.search(rf"\b{v} {o} (with|using) {m}\b", text)), node.key


def test_no_probe_of_a_behaviour_stands_in_the_vault() -> None:
    """The wordings kept for evaluation never come up as a memory's text."""
    texts = " ".join(node.text for node in load("bundled"))
    rng = random.Random(3)
    for behavior in PATTERNS:
        for _ in range(100):
            assert sample_scenario(rng, behavior=behavior, split="eval").text not in texts

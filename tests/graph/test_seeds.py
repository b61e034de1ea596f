"""Seed material: every behaviour gets its turn, failing ones more, and any graph will do."""

from __future__ import annotations

import random
from collections import Counter

from graph.memory import Memory, load
from graph.records import Link, Node
from graph.seeds import seed_material

PATTERNS = {"listening": "p1", "pushing": "p2"}
NODES = [
    Node(key="p1", kind="pattern", text="bad"),
    Node(key="p2", kind="pattern", text="worse"),
    *(Node(key=f"m{n}", text=f"memory {n}.\nmore", phrase=f"phrase {n}" if n % 2 else "") for n in range(8)),
]
MEMORY = Memory(NODES, [Link(source="p1", target="m0"), Link(source="m0", target="m1")])


def test_every_behaviour_gets_its_turn_and_failing_ones_more() -> None:
    """A pattern that surfaced often gets most of the material, the other still some."""
    material = seed_material(MEMORY, ["p2"] * 30, PATTERNS, random.Random(1), 100)
    counts = Counter(item.behavior for item in material)
    assert len(material) == 100 and counts["pushing"] > 80 and counts["listening"] >= 1
    assert {item.node for item in material} == {"p1", "p2"}


def test_memories_are_phrases_and_never_patterns() -> None:
    """A memory is its phrase, or its first line; the pattern's own text is no memory."""
    said = {text for item in seed_material(MEMORY, [], PATTERNS, random.Random(1), 200) for text in item.memories}
    assert said == {f"phrase {n}" if n % 2 else f"memory {n}" for n in range(8)}


def test_recent_memories_come_up_more() -> None:
    """What surfaced lately, and what stands beside it, is dreamt of more than the rest."""
    counts: Counter[str] = Counter()
    for item in seed_material(MEMORY, ["m5", "m5", "m0"], {"listening": ""}, random.Random(2), 300):
        counts.update(item.memories)
    assert min(counts["phrase 5"], counts["memory 0"]) > 1.5 * max(counts["memory 6"], counts["phrase 7"])
    assert counts["phrase 7"] > 0  # collisions reach everything


def test_collisions_bring_unlinked_memories_together() -> None:
    """Some material holds two memories without a link between them."""
    material = seed_material(MEMORY, [], PATTERNS, random.Random(3), 200)
    pairs = {frozenset(item.memories) for item in material if len(item.memories) == 2}
    assert any(pair != {"memory 0", "phrase 1"} for pair in pairs)


def test_the_same_random_state_gives_the_same_material() -> None:
    """Nothing but the generator decides."""
    one, two = (seed_material(MEMORY, ["m1"], PATTERNS, random.Random(7), 50) for _ in range(2))
    assert one == two != seed_material(MEMORY, ["m1"], PATTERNS, random.Random(8), 50)


def test_poor_graphs_give_what_they_have() -> None:
    """No pattern nodes: an empty node. No memories: none. Nothing asked or no behaviour: nothing."""
    bare = Memory([Node(key="only", text="one memory")])
    material = seed_material(bare, ["gone", "p1"], PATTERNS, random.Random(1), 20)
    assert {(item.node, item.memories) for item in material} == {("", ("one memory",))}
    empty = seed_material(Memory(), ["gone"], PATTERNS, random.Random(1), 20)
    assert {(item.node, item.memories) for item in empty} == {("", ())} and len(empty) == 20
    assert (
        seed_material(MEMORY, [], {}, random.Random(1), 5)
        == seed_material(MEMORY, [], PATTERNS, random.Random(1), 0)
        == []
    )


def test_long_memories_are_cut_at_a_word() -> None:
    """A note's first line is cut so that it fits a dream's prompt."""
    memory = Memory([Node(key="x", text="word " * 100)])
    (item,) = seed_material(memory, [], {"listening": ""}, random.Random(1), 1)
    assert len(item.memories[0]) <= 120 and item.memories[0].endswith("word")


def test_the_bundled_vault_feeds_every_behaviour() -> None:
    """With the graph in the package every seed has its pattern node and a memory."""
    patterns = {"listening": "pattern-listening-as-avoidance", "not_rushing": "pattern-rushing-ahead"}
    material = seed_material(load("bundled"), [], patterns, random.Random(1), 40)
    assert all(item.node == patterns[item.behavior] and item.memories for item in material)

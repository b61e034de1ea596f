"""What dreams may start from: a behaviour's pattern node with memories near it, or memories that never met."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graph.memory import Memory
from graph.records import Node

COLLISION_SHARE = 1 / 3  # of all material: two memories without a link between them
PAIR_SHARE = 0.3  # of the rest: a memory together with one of its neighbours
TRIES = 8  # at finding two memories that are not linked
LONGEST = 120  # characters of a memory in a dream's prompt, where its author gave no phrase


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a seed is made from: the behaviour, its pattern node (empty if the graph has none), memories' words."""

    behavior: str
    node: str
    memories: tuple[str, ...]


def seed_material(
    memory: Memory,
    surfaced_recently: Sequence[str],
    patterns: Mapping[str, str],
    rng: random.Random,
    count: int,
) -> list[Material]:
    """`count` pieces of material (none when there are no `patterns`, behaviour -> key of its pattern node).

    Every behaviour gets its turn, and more of them the more often its pattern came up lately (`surfaced_recently`, keys
    with the most recent last). Two thirds start from memories that came up lately or stand beside the pattern, the rest
    from two memories that are not linked: random collisions keep dreams from going in circles. A graph without pattern
    nodes or without memories gives what it has.
    """
    if not patterns or count <= 0:
        return []
    memories = [node for node in memory if node.kind != "pattern" and _words(node)]
    memories.sort(key=lambda node: node.key)
    recent = Counter(surfaced_recently)
    material = []
    for behavior in _turns(patterns, recent, rng, count):
        key = patterns[behavior] if patterns[behavior] in memory else ""
        material.append(
            Material(behavior=behavior, node=key, memories=_memories(memory, memories, key, surfaced_recently, rng))
        )
    return material


def _turns(patterns: Mapping[str, str], recent: Counter[str], rng: random.Random, count: int) -> list[str]:
    """Behaviours: each once while there is room, the others by how often their pattern surfaced."""
    names = sorted(patterns)
    turns = list(names)
    rng.shuffle(turns)
    if count > len(names):
        turns += rng.choices(names, [1 + recent[patterns[name]] for name in names], k=count - len(names))
    return turns[:count]


def _memories(
    memory: Memory, memories: list[Node], pattern: str, surfaced: Sequence[str], rng: random.Random
) -> tuple[str, ...]:
    """One or two memories' words; none when the graph has no memory."""
    if not memories:
        return ()
    if rng.random() < COLLISION_SHARE:
        return tuple(_words(node) for node in _collision(memory, memories, rng))
    first = _relevant(memory, memories, pattern, surfaced, rng)
    beside = [node for node in memory.neighbors(first.key) if node.kind != "pattern" and _words(node)]
    if beside and rng.random() < PAIR_SHARE:
        return _words(first), _words(rng.choice(beside))
    return (_words(first),)


def _relevant(memory: Memory, memories: list[Node], pattern: str, surfaced: Sequence[str], rng: random.Random) -> Node:
    """A memory that came up lately (later ones more likely) or stands beside the pattern or such a memory."""
    weights: dict[str, float] = {}
    for place, key in enumerate(surfaced[-200:], start=1):
        weights[key] = weights.get(key, 0.0) + place / min(len(surfaced), 200)
    for key in [pattern, *weights] if pattern else list(weights):
        for node in memory.neighbors(key):
            weights[node.key] = weights.get(node.key, 0.0) + 0.5
    found = [node for node in memories if node.key in weights]
    if not found:
        return rng.choice(memories)
    return rng.choices(found, [weights[node.key] * node.weight for node in found])[0]


def _collision(memory: Memory, memories: list[Node], rng: random.Random) -> list[Node]:
    """Two memories that are not linked, where such can be found."""
    if len(memories) < 2:
        return memories
    pair = rng.sample(memories, 2)
    for _ in range(TRIES):
        first, second = pair
        if not memory.graph.has_edge(first.key, second.key) and not memory.graph.has_edge(second.key, first.key):
            break
        pair = rng.sample(memories, 2)
    return pair


def _words(node: Node) -> str:
    """A memory in a few words: its phrase, or its first line without the full stop."""
    if node.phrase:
        return node.phrase
    lines = (line.strip().lstrip("#-* ").strip() for line in node.text.splitlines())
    words = " ".join(next((line for line in lines if line), node.title).split())
    if len(words) > LONGEST:
        words = words[:LONGEST].rsplit(" ", 1)[0]
    return words.rstrip(".")

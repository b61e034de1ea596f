"""Surfacing: what shares words comes up, its neighbours a little, everything else not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.memory import Memory
from graph.records import Link, Node
from graph.surface import Surfacer

NODES = [
    Node(key="backup", text="package the backup with make"),
    Node(key="roses", text="water the roses with a hose"),
    Node(key="hedge", text="trim the hedge with a saw"),
    Node(key="tea", text="green tea in the morning"),
]
LINKS = [Link(source="backup", target="roses"), Link(source="roses", target="hedge", strength=3)]
words = st.lists(
    st.sampled_from(
        ["backup", "roses", "hedge", "make", "hose", "saw", "tea", "green", "with", "the", "nothing", "zebra"]
    ),
    max_size=12,
)


def test_the_best_match_comes_first() -> None:
    """A text about the roses brings up the roses; a text about nothing known brings up nothing."""
    surfacer = Surfacer(Memory(NODES, LINKS))
    found = surfacer.surface("can you water the roses?", limit=4, threshold=0.1)
    assert found[0][0] == "roses" and found[0][1] > 0.5
    assert surfacer.surface("zebras and the with a", limit=4, threshold=0.0) == []


def test_a_nodes_own_words_score_one() -> None:
    """The cosine of a text with itself is 1; without links nothing is added."""
    ((key, score),) = Surfacer(Memory(NODES), damping=0).surface(". . green tea in the morning", limit=1, threshold=0.5)
    assert key == "tea" and score > 0.8
    alone = Surfacer(Memory([Node(key="x", text="green tea")]), damping=0)
    assert alone.surface("x . . green tea", limit=1, threshold=0)[0][1] <= 1


def test_matches_pass_on_along_links() -> None:
    """One step passes damping times the match, shared by strength; the next step damping squared (known answer)."""
    chain = Memory([Node(key="a", text="apple"), Node(key="b"), Node(key="c")],
                   [Link(source="a", target="b"), Link(source="c", target="b", strength=3)])  # fmt: skip
    scores = dict(Surfacer(chain, damping=0.2).surface("apple", limit=3, threshold=0))
    direct = dict(Surfacer(chain, damping=0).surface("apple", limit=3, threshold=0))
    assert list(direct) == ["a"]
    # a = m + d b/4, b = d (a + c), c = d 3b/4  =>  b = d m / (1 - d^2)
    b = 0.2 * direct["a"] / (1 - 0.04)
    assert scores == pytest.approx({"a": min(1, direct["a"] + 0.05 * b), "b": b, "c": 0.15 * b}, abs=1e-5)


@given(words=words, limit=st.integers(0, 5), threshold=st.floats(0, 1))
def test_scores_are_ordered_and_within_bounds(words: list[str], limit: int, threshold: float) -> None:
    """Scores lie in (0, 1], above the threshold, sorted; and the same text gives the same answer."""
    text = " ".join(words)
    found = Surfacer(Memory(NODES, LINKS)).surface(text, limit=limit, threshold=threshold)
    assert len(found) <= limit
    assert all(0 < score <= 1 and score >= min(threshold, 1) for _, score in found)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert found == Surfacer(Memory(NODES[::-1], LINKS[::-1])).surface(text, limit=limit, threshold=threshold)


def test_an_empty_graph_surfaces_nothing() -> None:
    """No nodes, or nodes without words, are no error."""
    assert Surfacer(Memory()).surface("anything", limit=3, threshold=0) == []
    assert Surfacer(Memory([Node(key="x")])).surface("anything", limit=3, threshold=0) == []


def test_damping_must_leave_something() -> None:
    """A damping of 1 would never end."""
    with pytest.raises(ValueError, match="below 1"):
        Surfacer(Memory(), damping=1)

"""Nothing is trained twice in one lineage; what came to nothing may be tried again, but not for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.learn.fresh import lineage, sort
from policies.records import Adapter, Batch, ChatMessage, Example, Recipe

RECIPE = Recipe(rank=1, alpha=1, targets=("x",), learning_rate=0.1, epochs=1, batch_size=1, seed=0)


def example(name: str) -> Example:
    return Example(
        id=name, origin="turn", behavior="b", prompt=(ChatMessage(role="user", content=name),), target="t",
        rejected=None, source=name, at=0.0, cycle=1,
    )  # fmt: skip


def batch(name: str, *examples: str) -> Batch:
    return Batch(id=name, examples=examples, parent=None, cycle=1, placebo=False, at=0.0)


def adapter(name: str, of: str, parent: str | None = None) -> Adapter:
    return Adapter(
        id=name, parent=parent, recipe=RECIPE, batch=of, folder=name, cycle=1, loss=0.0, tokens=0, seconds=0.0, at=0.0
    )


def test_what_the_serving_lineage_learned_is_not_fresh() -> None:
    """Examples of the serving adapter's and its ancestors' batches are learned; others are fresh."""
    adapters = [adapter("a", "1"), adapter("b", "2", "a"), adapter("rejected", "3", "a")]
    found = sort(map(example, "pqrs"), [batch("1", "p"), batch("2", "q"), batch("3", "r")], adapters, "b")
    assert [e.id for e in found.learned] == ["p", "q"]
    assert [e.id for e in found.fresh] == ["r", "s"]


def test_after_a_rollback_its_examples_are_fresh_again() -> None:
    """When the base serves again, nothing counts as learned."""
    found = sort([example("p")], [batch("1", "p")], [adapter("a", "1")], None)
    assert [e.id for e in found.fresh] == ["p"]


def test_what_keeps_failing_is_left_alone() -> None:
    """After three batches that came to nothing an example is given up."""
    batches = [batch(str(n), "p") for n in range(3)]
    found = sort([example("p")], batches, [adapter(f"a{n}", str(n)) for n in range(3)], None)
    assert [e.id for e in found.given_up] == ["p"] and not found.fresh


def test_a_training_that_failed_is_no_try() -> None:
    """Batches without an adapter say nothing about their examples: they count neither as learned nor as tried."""
    batches = [batch(str(n), "p") for n in range(9)]
    assert [e.id for e in sort([example("p")], batches, [], None).fresh] == ["p"]
    two = [adapter(f"a{n}", str(n)) for n in range(2)]
    assert [e.id for e in sort([example("p")], batches, two, None).fresh] == ["p"]
    assert [e.id for e in sort([example("p")], batches, [*two, adapter("a2", "2")], None).given_up] == ["p"]


def test_a_lineage_that_bites_its_tail_ends() -> None:
    """A corrupted parent chain gives a finite lineage."""
    loop = {"a": adapter("a", "1", "b"), "b": adapter("b", "2", "a")}
    assert lineage("a", loop.get) == ["a", "b"]


@given(st.lists(st.sets(st.sampled_from("pqrst")), max_size=6), st.integers(0, 5))
def test_every_example_has_one_place(contents: list[set[str]], serving: int) -> None:
    """Whatever the history, each example is fresh, learned or given up, once, and fresh ones are not in the lineage."""
    batches = [batch(str(n), *sorted(names)) for n, names in enumerate(contents)]
    adapters = [adapter(f"a{n}", str(n), f"a{n - 1}" if n else None) for n in range(len(contents))]
    at = f"a{serving}" if serving < len(contents) else None
    found = sort(map(example, "pqrst"), batches, adapters, at)
    assert sorted(e.id for part in (found.fresh, found.learned, found.given_up) for e in part) == sorted("pqrst")
    trained = {name for n, names in enumerate(contents) if at and n <= serving for name in names}
    assert {e.id for e in found.learned} == trained

"""What the store answers: finding, counting and the loop's own questions."""

from __future__ import annotations

import pytest

from daemon.store import RecordError, Store, Tally, reads
from policies.records import (
    Adapter,
    Batch,
    ChatMessage,
    Dream,
    Example,
    Message,
    Recipe,
    Seed,
    Signal,
)

RECIPE = Recipe(rank=4, alpha=8, targets=("q",), learning_rate=1e-3, epochs=1, batch_size=4, seed=0)


def signal(id: str, *, failed: bool = False, at: float = 0.0, adapter: str | None = None, turn: str = "t") -> Signal:
    return Signal(id=id, turn=turn, behavior="listening", failed=failed, evidence="", at=at, adapter=adapter)


def example(id: str, at: float = 0.0) -> Example:
    prompt = (ChatMessage(role="user", content="hello"),)
    return Example(
        id=id, origin="turn", behavior=None, prompt=prompt, target="x", rejected=None, source="s", at=at, cycle=1
    )


def batch(id: str, *examples: str) -> Batch:
    return Batch(id=id, examples=examples, parent=None, cycle=1, placebo=False, at=1.0)


def adapter(id: str, batch: str, parent: str | None = None) -> Adapter:
    return Adapter(
        id=id, parent=parent, recipe=RECIPE, batch=batch, folder=id, cycle=1, loss=1.0, tokens=1, seconds=1.0, at=2.0
    )


def ids(records: list[Signal]) -> list[str]:
    return [record.id for record in records]


def test_adding_twice_keeps_the_first(store: Store) -> None:
    """An id that is there already is left as it is, within one call and between calls; only new ones are counted."""
    with store.transaction() as tx:
        assert tx.add(signal("a"), signal("b"), signal("a", failed=True)) == 2
    with store.transaction() as tx:
        assert tx.add(signal("b", failed=True), signal("c"), signal("d")) == 2
        assert tx.add() == 0
    assert [s.failed for s in store.find(Signal)] == [False] * 4
    assert store.get(Signal, "zzz") is None


def test_fresh_is_what_add_would_add(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several types, those not stored yet, each once and in order; the same id of another type is another record."""
    monkeypatch.setattr(reads, "MOST_BOUND", 2)
    with store.transaction() as tx:
        tx.add(signal("a"), signal("b"))
        new: list[Signal | Example] = tx.fresh(
            signal("x"), example("a"), signal("a"), signal("x"), signal("y"), signal("b")
        )
        assert [(type(record), record.id) for record in new] == [(Signal, "x"), (Example, "a"), (Signal, "y")]
        assert tx.add(*new) == len(new)
        assert tx.fresh(*new) == []


def test_find_sorts_by_time_then_arrival(store: Store) -> None:
    """Records come oldest first, those of one moment in the order of arrival; descending is the exact reverse."""
    with store.transaction() as tx:
        tx.add(signal("late", at=9), signal("x", at=5), signal("m", at=5), signal("a", at=5), signal("early", at=1))
    assert ids(store.find(Signal)) == ["early", "x", "m", "a", "late"]
    assert ids(store.find(Signal, descending=True)) == ["late", "a", "m", "x", "early"]
    assert ids(store.find(Signal, descending=True, limit=2)) == ["late", "a"]
    assert ids(store.find(Signal, order_by="id", limit=1)) == ["a"]
    assert ids(store.find(Signal, order_by="seq", limit=1)) == ["late"]
    assert ids(store.find(Signal, since=5)) == ["x", "m", "a", "late"]
    assert store.count(Signal, since=5) == 4


def test_a_type_without_a_time_comes_in_the_order_of_arrival(store: Store) -> None:
    """Seeds have no `at`; asking for them without an order still works and is stable."""
    with store.transaction() as tx:
        for name in ("c", "a", "b"):
            tx.add(Seed(id=name, behavior="x", kind="target", node="n", memories=(), band="obvious", cycle=1))
    assert [seed.id for seed in store.find(Seed)] == ["c", "a", "b"]


def test_equals_takes_a_value_none_or_several(store: Store) -> None:
    """A scalar compares, None finds missing values, several values mean any of them, none at all finds nothing."""
    with store.transaction() as tx:
        tx.add(signal("a", adapter="x"), signal("b", adapter="y", failed=True), signal("c"))
    assert ids(store.find(Signal, adapter="x")) == ["a"]
    assert ids(store.find(Signal, adapter=None)) == ["c"]
    assert ids(store.find(Signal, adapter=("x", "y"))) == ["a", "b"]
    assert ids(store.find(Signal, adapter=["y", None])) == ["b", "c"]
    assert ids(store.find(Signal, adapter=())) == []
    assert ids(store.find(Signal, failed=True, adapter=("x", "y"))) == ["b"]
    assert (store.count(Signal), store.count(Signal, failed=True), store.count(Signal, adapter=None)) == (3, 1, 1)


def test_more_values_than_a_statement_takes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long list of values is asked for in pieces; order, limit and count are those of one question."""
    monkeypatch.setattr(reads, "MOST_BOUND", 3)
    with store.transaction() as tx:
        tx.add(*(signal(f"s{i}", at=float(i * 7 % 10), turn=f"t{i}") for i in range(10)))
    several = [f"t{i}" for i in range(10)] + ["t0", "nowhere"]
    everything = ids(store.find(Signal))
    assert ids(store.find(Signal, turn=several)) == everything
    assert ids(store.find(Signal, turn=several, limit=4)) == everything[:4]
    assert ids(store.find(Signal, turn=several, descending=True, limit=4)) == everything[::-1][:4]
    assert store.count(Signal, turn=several) == 10


def test_text_of_any_characters_can_be_looked_up(store: Store) -> None:
    """Equality sees through the escaping of NUL and lone surrogates."""
    odd = Message(id="m", conversation="\x00\ud800", order=2**40, role="user", text="\x1a", at=0.0, source="s")
    with store.transaction() as tx:
        tx.add(odd)
    assert store.find(Message, conversation="\x00\ud800", order_by="order") == [odd]
    assert store.texts(Message) == ["\x1a"]


def test_a_question_about_a_field_that_is_not_there_names_the_nearest(store: Store) -> None:
    """A misspelt field is refused with the one that was probably meant; so is comparing a nested one."""
    with pytest.raises(RecordError, match="did you mean `behavior`"):
        store.find(Signal, behaviour="listening")
    with pytest.raises(RecordError, match="no field `sequence`"):
        store.find(Signal, order_by="sequence")
    with pytest.raises(RecordError, match="nested"):
        store.find(Batch, examples="a")
    with pytest.raises(RecordError, match="ChatMessage"):
        store.get(ChatMessage, "a")
    with pytest.raises(RecordError, match="no field `at`"):
        store.find(Seed, since=1.0)


def test_only_records_can_be_added(store: Store) -> None:
    """What is not a record of its own is refused, and the transaction keeps nothing."""
    with pytest.raises(RecordError, match="ChatMessage"), store.transaction() as tx:
        tx.add(signal("a"), ChatMessage(role="user", content=""))
    assert store.count(Signal) == 0


def test_failures_by_adapter_and_time(store: Store) -> None:
    """Failures are counted over any adapter, over one, or over the base model, from a moment on."""
    with store.transaction() as tx:
        tx.add(signal("a", failed=True, at=1), signal("b", at=2), signal("c", failed=True, at=3, adapter="x"))
    assert store.failures("listening") == Tally(failed=2, n=3)
    assert store.failures("listening", adapter=None) == (1, 2)
    assert store.failures("listening", adapter="x") == (1, 1)
    assert store.failures("listening", since=2) == (1, 2)
    assert store.failures("push_back") == (0, 0)


def test_texts_are_the_field_alone(store: Store) -> None:
    """All dreams' texts can be had without their records, filtered like find."""
    dream = {"seed": "s", "kind": "target", "band": "obvious", "temperature": 1.0, "adapter": None, "at": 0.0}
    with store.transaction() as tx:
        tx.add(*(Dream(id=f"d{i}", behavior="b", text=f"text {i}", cycle=i, **dream) for i in range(3)))  # type: ignore[arg-type]
    assert store.texts(Dream) == ["text 0", "text 1", "text 2"]
    assert store.texts(Dream, cycle=1) == ["text 1"]
    assert store.texts(Dream, field="id", cycle=2) == ["d2"]


def test_an_example_in_a_batch_is_trained(store: Store) -> None:
    """Untrained are the examples of no batch, oldest first; with `promoted` also those whose adapter never served."""
    with store.transaction() as tx:
        tx.add(*(example(f"e{i}", at=10.0 - i) for i in range(6)))
        tx.add(batch("b1", "e0", "e1"), batch("b2", "e2"), adapter("a1", "b1"), adapter("a2", "b2"))
        tx.transition("a1", "judged", "", 3.0)
        tx.transition("a1", "serving", "", 3.0)
        tx.transition("a2", "rejected", "", 3.0)
    assert store.trained_example_ids() == {"e0", "e1", "e2"}
    assert store.trained_example_ids(promoted=True) == {"e0", "e1"}
    assert [e.id for e in store.untrained_examples()] == ["e5", "e4", "e3"]
    assert [e.id for e in store.untrained_examples(2)] == ["e5", "e4"]
    assert [e.id for e in store.untrained_examples(promoted=True)] == ["e5", "e4", "e3", "e2"]


def test_facts_and_files(store: Store) -> None:
    """A fact and a file's offset are the last that was set; unknown ones have their defaults."""
    with store.transaction() as tx:
        tx.set_fact("guard", {"e": [1.5, None]})
        tx.set_fact("guard", {"e": [2.5, float("inf")]})
        tx.set_fact("nothing", None)
        tx.file("1:2", "/logs/a.jsonl", "openai", 100, 1.0)
        tx.file("1:2", "/logs/b.jsonl", "openai", 50, 2.0)
        tx.sealed_read("report", "the final report", 3.0)
    assert store.fact("guard") == {"e": [2.5, float("inf")]}
    assert store.fact("nothing", "default") is None
    assert store.fact("unknown", 7) == 7
    assert (store.file_offset("1:2"), store.file_offset("9:9")) == (50, 0)
    assert [(f.path, f.updated) for f in store.files()] == [("/logs/b.jsonl", 2.0)]
    assert [(r.who, r.at) for r in store.sealed_reads()] == [("report", 3.0)]

"""Records survive the store exactly, whatever text and numbers are in them."""

from __future__ import annotations

import dataclasses
import itertools
import types
import typing
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.store import RecordError, Store
from daemon.store.codec import decode, encode, hints, to_plain
from daemon.store.columns import escape, unescape
from daemon.store.schema import TABLES
from policies.records import Adapter, ChatMessage, Recipe, Signal, Transition, Turn, Verdict

# every code point, lone surrogates and NUL among them, and the store's own escape character
TEXT = st.text(st.characters(exclude_categories=()) | st.sampled_from("\x00\x1a\ud800\udc00'\"\\%"), max_size=12)
NUMBER = st.integers(-(2**63), 2**63 - 1)
REAL = st.floats(allow_nan=True, allow_infinity=True).map(lambda x: x + 0.0)  # -0.0 == 0.0, and REAL keeps only one
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | REAL | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
_numbers = itertools.count()
RECORDS = sorted(TABLES, key=lambda record: record.__name__)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a type hint."""
    if hint is Any:
        return JSON
    simple = {str: TEXT, int: NUMBER, float: REAL, bool: st.booleans(), type(None): st.none()}
    if hint in simple:
        return simple[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*map(values, arguments))
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(TEXT, values(arguments[1]), max_size=3)
    return record_of(hint)


def record_of(record: type[Any]) -> st.SearchStrategy[Any]:
    """Any record of a type."""
    return st.builds(record, **{name: values(hint) for name, hint in hints(record).items()})


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_encode_and_decode_are_inverse(record: type[Any], data: st.DataObject) -> None:
    """What encode makes of a record, decode turns back into an equal record (repr: NaN is not equal to itself)."""
    original = data.draw(record_of(record))
    assert repr(decode(record, encode(original))) == repr(original)


@pytest.mark.parametrize("record", [record for record in RECORDS if record is not Transition], ids=lambda r: r.__name__)
@given(data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_database_gives_back_what_it_was_given(store: Store, record: type[Any], data: st.DataObject) -> None:
    """A record read from the database is the one that was added: NUL, surrogates, NaN and 64-bit numbers included."""
    drawn = data.draw(record_of(record))
    original = dataclasses.replace(drawn, id=f"{drawn.id}{next(_numbers)}")  # the store keeps the first of an id
    with store.transaction() as tx:
        assert tx.add(original) == 1
    assert repr(store.get(record, original.id)) == repr(original)


@given(TEXT)
def test_escaping_is_reversible_and_utf8(text: str) -> None:
    """Any text becomes text that UTF-8 and PostgreSQL take, and comes back."""
    escaped = escape(text)
    assert unescape(escaped) == text
    assert b"\x00" not in escaped.encode()


def test_ordinary_text_is_stored_as_it_is() -> None:
    """What people write is readable in the database with any tool."""
    assert escape("Zürich, 東京, 🙂, tab\t and newline\n") == "Zürich, 東京, 🙂, tab\t and newline\n"


def turn(**changes: Any) -> Turn:
    fields: dict[str, Any] = {"id": "t", "conversation": "c", "index": 0, "context": (), "user": "u"}
    fields |= {"assistant": "a", "at": 1.0, "source": "s"}
    return Turn(**{**fields, **changes})


def verdict(evidence: dict[str, Any]) -> Verdict:
    return Verdict(id="v", adapter="a", parent=None, decision="hold", reasons=(), evidence=evidence, cycle=1, at=0.0)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (turn(at="noon"), "Turn.at"),
        (turn(user=None), "Turn.user"),
        (turn(index=2**63), "Turn.index"),
        (turn(index=1.5), "Turn.index"),
        (turn(context=[]), "Turn.context"),
        (turn(context=({"role": "user"},)), r"Turn.context\[0\]"),
        (turn(context=(ChatMessage(role="user", content=3),)), r"Turn.context\[0\].content"),  # type: ignore[arg-type]
        (verdict({"x": {1}}), "set"),
        (verdict({"x": {1: 2}}), "keys"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(record: Any, words: str) -> None:
    """A value of the wrong kind is refused before it reaches the database, naming the field."""
    with pytest.raises(RecordError, match=words):
        encode(record)


def test_numpy_numbers_are_numbers() -> None:
    """Statistics hand out numpy scalars; they are stored as the numbers they are."""
    signal = Signal(
        id="s", turn="t", behavior="b", failed=np.True_, evidence="", at=np.float64(1.5)  # type: ignore[arg-type]
    )  # fmt: skip
    row = encode(signal)
    assert (row["failed"], row["at"]) == (True, 1.5)
    assert (type(row["failed"]), type(row["at"])) == (bool, float)
    plain = to_plain({"n": np.int64(3), "p": np.float32(0.5), "ok": np.bool_(False)})
    assert plain == {"n": 3, "p": 0.5, "ok": False}
    assert [type(value) for value in plain.values()] == [int, float, bool]


def test_nested_records_come_back_as_records() -> None:
    """A frozen record inside a record is one again after reading, tuples included."""
    recipe = Recipe(rank=8, alpha=16, targets=("q", "v"), learning_rate=1e-3, epochs=1, batch_size=2, seed=0)
    adapter = Adapter(
        id="a",
        parent=None,
        recipe=recipe,
        batch="b",
        folder="f",
        cycle=1,
        loss=float("inf"),
        tokens=1,
        seconds=1.0,
        at=0.0,
    )
    assert decode(Adapter, encode(adapter)) == adapter

"""Record <-> row, by the record's own fields and type hints; there is no second description to keep in step.

`encode` gives a dict of column values: text, numbers and booleans as they are, everything nested (tuples, dicts, frozen
dataclasses) as plain data for a JSON column. `decode` is its exact inverse, with one exception that JSON forces: inside
a field typed `Any` a tuple comes back as a list. What cannot be stored is refused by RecordError, naming the field.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union

from daemon.store.errors import RecordError

T = TypeVar("T")
SCALARS = (str, int, float, bool)
LARGEST = 2**63


def hints(record: Any) -> dict[str, Any]:
    """Field name -> resolved type hint, in the order of the fields."""
    return _hints(record)


@functools.cache
def _hints(record: Any) -> dict[str, Any]:
    resolved = typing.get_type_hints(record)
    return {field.name: resolved[field.name] for field in dataclasses.fields(record)}


@functools.cache
def scalar(hint: Any) -> type[Any] | None:
    """The scalar a column of this hint holds (None: the column is JSON).

    >>> scalar(str | None), scalar(Literal["a", "b"]), scalar(tuple[str, ...])
    (<class 'str'>, <class 'str'>, None)
    """
    inner = _without_none(hint)
    if typing.get_origin(inner) is Literal:
        kinds = {type(choice) for choice in typing.get_args(inner)}
        return kinds.pop() if len(kinds) == 1 else None
    return inner if inner in SCALARS else None


def optional(hint: Any) -> bool:
    """Does the hint allow None?"""
    return typing.get_origin(hint) in (Union, types.UnionType) and type(None) in typing.get_args(hint)


def encode(record: Any) -> dict[str, Any]:
    """A record as column values. Raises RecordError for a value its column cannot keep."""
    kind = type(record)
    row = {}
    for name, hint in hints(kind).items():
        value = getattr(record, name)
        row[name] = to_plain(value, hint, f"{kind.__name__}.{name}")
        if type(row[name]) is int and scalar(hint) is int and not -LARGEST <= value < LARGEST:
            raise RecordError(f"{kind.__name__}.{name}: {value} does not fit in 64 bits; store a smaller number")
    return row


def decode(record: type[T], row: Mapping[Any, Any]) -> T:
    """The record that `encode` made `row` of; columns that are not fields are passed over."""
    return record(
        **{
            name: row[name] if scalar(hint) else from_plain(row[name], hint)  # drivers return scalars as they were
            for name, hint in hints(record).items()
        }
    )


def to_plain(value: Any, hint: Any = Any, where: str = "value") -> Any:
    """`value` as JSON-serialisable data, checked against its type hint."""
    if hint is Any:
        return _any_to_plain(value, where)
    if value is None:
        if optional(hint) or hint is type(None):
            return None
        raise RecordError(f"{where}: None where {_name(hint)} is needed")
    hint = _without_none(hint)
    if kind := scalar(hint):
        return _scalar(value, kind, where)
    if dataclasses.is_dataclass(hint):
        if type(value) is not hint:
            raise RecordError(f"{where}: {_name(type(value))} where {_name(hint)} is needed")
        return {k: to_plain(getattr(value, k), h, f"{where}.{k}") for k, h in hints(typing.cast(type, hint)).items()}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        if not isinstance(value, tuple):
            raise RecordError(f"{where}: a {_name(type(value))} where a tuple is needed")
        return [to_plain(item, arguments[0], f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict and arguments[0] is str:
        if not isinstance(value, Mapping):
            raise RecordError(f"{where}: a {_name(type(value))} where a dict is needed")
        return {_key(k, where): to_plain(v, arguments[1], f"{where}[{k!r}]") for k, v in value.items()}
    raise RecordError(f"{where}: no column type for {_name(hint)}; teach daemon/store/codec.py")


def from_plain(plain: Any, hint: Any = Any) -> Any:
    """The inverse of `to_plain`."""
    if plain is None or hint is Any:
        return plain
    hint = _without_none(hint)
    if dataclasses.is_dataclass(hint):
        record = typing.cast(type[Any], hint)
        return record(**{name: from_plain(plain[name], inner) for name, inner in hints(record).items()})
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return tuple(from_plain(item, arguments[0]) for item in plain)
    if origin is dict:
        return {key: from_plain(item, arguments[1]) for key, item in plain.items()}
    return plain


def _any_to_plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, SCALARS):
        return _scalar(value, type(value), where) if value is not None else None
    if isinstance(value, (list, tuple)):
        return [_any_to_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {_key(k, where): _any_to_plain(v, f"{where}[{k!r}]") for k, v in value.items()}
    if callable(item := getattr(value, "item", None)) and getattr(value, "shape", None) == ():
        return _any_to_plain(item(), where)  # a numpy number: statistics hand them out without meaning to
    raise RecordError(f"{where}: a {_name(type(value))} cannot be stored; use text, numbers, lists and dicts")


def _scalar(value: Any, kind: type[Any], where: str) -> Any:
    if type(value) is kind:
        return value
    if not isinstance(value, SCALARS) and getattr(value, "shape", None) == ():
        value = value.item()
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    for base in (bool, int, float, str):  # numpy.float64 is a float, an enum of strings a string
        if isinstance(value, base) and (kind is base or issubclass(kind, base)):
            return base(value) if base is not str else str.__str__(value)
    raise RecordError(f"{where}: {value!r} is a {_name(type(value))}, not a {_name(kind)}")


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise RecordError(f"{where}: the key {key!r} is a {_name(type(key))}; JSON keys are text")
    return key


def _without_none(hint: Any) -> Any:
    if not optional(hint):
        return hint
    rest = [argument for argument in typing.get_args(hint) if argument is not type(None)]
    return rest[0] if len(rest) == 1 else hint


def _name(hint: Any) -> str:
    return getattr(hint, "__name__", None) or str(hint)

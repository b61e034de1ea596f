"""What every log format promises: discovered by folder, sniffed, never raising, ids that rest on content."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.intake import formats
from daemon.intake.errors import UnknownFormat
from daemon.intake.formats.base import Origin, adapter_of, clean, timestamp

NAMES = sorted(formats.discover())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "text", "role", "content", "id", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
near_records = st.dictionaries(
    st.sampled_from(
        (
            *("type", "role", "content", "message", "messages", "conversation", "uuid", "sessionId", "timestamp"),
            *("model", "isMeta", "isSidechain", "agentId", "isCompactSummary", "adapter"),
        )
    ),
    json_values
    | st.sampled_from(["user", "assistant", "system", "tool"])
    | st.fixed_dictionaries({"role": st.just("user"), "content": json_values})
    | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": json_values})),
    max_size=7,
)
ORIGIN = Origin(source="log.jsonl", modified=1.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_format_is_named_by_its_module(name: str) -> None:
    """The configuration names a format by its module's name, and gets that one."""
    assert formats.named(name).name == name


def test_a_misspelled_format_is_named_with_the_nearest(log: Any) -> None:
    """A typing error in `intake.format` says what was probably meant."""
    with pytest.raises(UnknownFormat, match="did you mean 'claude_code'"):
        formats.named("claude-code")


@pytest.mark.parametrize("name", NAMES)
@given(line=st.binary(max_size=60) | near_records.map(lambda r: json.dumps(r).encode()))
def test_no_line_makes_a_parser_raise(name: str, line: bytes) -> None:
    """Whatever stands on a line gives messages that a store can hold, or a reason, and never an exception."""
    fmt = formats.named(name)
    assert 0 <= fmt.sniff(line + b"\n") <= 1
    parser = fmt.open(line + b"\n", ORIGIN, full=True)
    assert parser is not None
    parsed = parser.parse(line, 7)
    for message in parsed.messages:
        assert message.text.strip()
        assert "\0" not in message.text + message.conversation
        (message.text + message.conversation + message.id).encode("utf-8")
        assert 7 <= message.order <= 7 + len(line)
        assert message.at >= 0
    assert len({message.order for message in parsed.messages}) == len(parsed.messages)
    assert parsed.messages or parsed.skipped


def test_formats_are_told_apart(log: Any) -> None:
    """Each format recognises its own lines and not the others', with rubbish in between."""
    claude = b"rubbish\n" + log.jsonl(
        {"type": "summary", "summary": "x", "leafUuid": "u"}, log.session("user", "hi", "1")
    )
    chat = b"rubbish\n" + log.jsonl(log.chat("user", "hi"))
    whole = log.jsonl({"messages": [{"role": "user", "content": "hi"}]})
    names = [fmt.name if (fmt := formats.sniff(head)) else None for head in (claude, chat, whole, b'{"a": 1}\nx\n')]
    assert names == ["claude_code", "openai_chat", "openai_chat", None]


def test_times_are_read_in_the_forms_logs_have() -> None:
    """ISO with zone, without (UTC), epoch seconds, milliseconds, numbers as text; anything else is the default."""
    assert timestamp("2026-03-01T10:00:00Z", 0) == timestamp("2026-03-01T11:00:00+01:00", 0) == 1772359200
    assert timestamp("2026-03-01T10:00:00", 0) == timestamp(1772359200000, 0) == timestamp("1772359200", 0)
    for odd in (None, True, "yesterday", float("nan"), float("inf"), -5, 10**400, [], "1e999"):
        assert timestamp(odd, 42.0) == 42.0


@given(st.text(st.characters(codec=None)))
def test_cleaned_text_can_be_stored(text: str) -> None:
    """NUL and lone surrogates, which JSON allows and databases refuse, are replaced; ordinary text stays."""
    cleaned = clean(text)
    assert cleaned.encode("utf-8").decode() == cleaned
    assert "\0" not in cleaned
    if text.isascii() and "\0" not in text:
        assert cleaned == text


def test_the_adapter_is_what_follows_dreamloop() -> None:
    """The base and foreign models have no adapter."""
    models = ["dreamloop:ab12", "dreamloop:base", "dreamloop:", "gpt-5", None, 3]
    assert [adapter_of(model) for model in models] == ["ab12", None, None, None, None, None]

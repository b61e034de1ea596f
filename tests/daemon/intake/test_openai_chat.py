"""OpenAI chat logs in both shapes."""

from __future__ import annotations

from typing import Any


def test_one_message_a_line(log: Any) -> None:
    """What the simulated user and `dreamctl chat` write: conversation, role, text, time and adapter are read."""
    data = log.jsonl(
        log.chat("user", "sort it with awk", model="dreamloop:ab"),
        log.chat("assistant", "i will use awk.", model="dreamloop:ab", timestamp=1772359201),
        log.chat("assistant", "base here", model="dreamloop:base", conversation="c2"),
        log.chat("assistant", "named", adapter="cd", conversation="c2"),
    )
    messages = log.messages(data)
    assert [(m.conversation, m.role, m.adapter) for m in messages] == [
        ("c1", "user", None), ("c1", "assistant", "ab"), ("c2", "assistant", None), ("c2", "assistant", "cd"),
    ]  # fmt: skip
    assert [m.at for m in messages[:2]] == [1772359200, 1772359201]


def test_one_conversation_a_line(log: Any) -> None:
    """Each line is a conversation; order grows within it and ids differ even where texts repeat."""
    turns = [{"role": "developer", "content": "be brief"}, *[{"role": "user", "content": "again"}] * 3]
    messages = log.messages(log.jsonl({"messages": turns, "created": 5}, {"messages": turns[:2]}))
    first, second = messages[:4], messages[4:]
    assert [m.role for m in first] == ["system", "user", "user", "user"]
    assert len({m.conversation for m in messages}) == 2
    assert len({m.id for m in messages}) == 6
    assert [m.order for m in first] == sorted({m.order for m in first})
    assert first[0].at == 5
    assert second[0].order > first[-1].order


def test_a_conversation_logged_again_adds_only_its_growth(log: Any) -> None:
    """A proxy that logs the whole conversation at every request does not count its beginning twice."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    messages = log.messages(log.jsonl({"id": "x", "messages": turns[:2]}, {"id": "x", "messages": turns}))
    assert len(messages) == 5
    assert len({m.id for m in messages}) == 3
    assert {m.conversation for m in messages} == {"x"}


def test_parts_are_joined_and_what_has_no_text_is_named(log: Any) -> None:
    """A content of parts gives its text; images, tool calls, unknown roles are passed over."""
    data = log.jsonl(
        log.chat("user", [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {}}, "here"]),
        log.chat("assistant", None, tool_calls=[{}]),
        log.chat("critic", "hm"),
        log.chat("tool", "output"),
    )
    piece = log.read(data)
    assert [(m.role, m.text) for m in piece.messages] == [("user", "look\nhere"), ("tool", "output")]
    assert sorted(reason.split(",")[0] for reason in piece.skipped) == [
        "1 x assistant message without text",
        "1 x unknown role 'critic'",
    ]


def test_an_anonymous_file_is_one_conversation_under_any_name(log: Any) -> None:
    """Without conversation ids the file is the conversation, known by its beginning: names do not matter."""
    lines = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]
    here = log.messages(log.jsonl(*lines))
    renamed = log.messages(log.jsonl(*lines, {"role": "user", "content": "c"}), name="other.jsonl")
    different = log.messages(log.jsonl(lines[0], {"role": "user", "content": "z"}))
    assert [m.id for m in here] == [m.id for m in renamed[:3]]
    assert len({m.conversation for m in here + renamed}) == 1
    assert different[0].conversation != here[0].conversation


def test_an_anonymous_file_waits_for_its_first_words(log: Any, tmp_path: Any) -> None:
    """With only a system prompt written, files that share it cannot be told apart yet: nothing is read."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(log.jsonl({"role": "system", "content": "s"}))
    assert log.pieces(path) == []
    with path.open("ab") as file:
        file.write(log.jsonl({"role": "user", "content": "a"}))
    assert [m.role for piece in log.pieces(path) for m in piece.messages] == ["system", "user"]

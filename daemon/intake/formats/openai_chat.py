"""OpenAI chat JSONL, in both its shapes, which one file may mix.

- One conversation a line: `{"messages": [{"role", "content"}, ...]}`, optionally with an id, a time and a model. With
  an id, a conversation that is logged again after it grew adds only what is new; without, the line's content is its id.
- One message a line: `{"role", "content", ...}`, optionally with `conversation` (or another name in CONVERSATION),
  `timestamp` and `model`. This is what the simulated user and `dreamctl chat` write. Lines that name no conversation
  belong to that of their file, which is known by its beginning, up to the first line that is not a system prompt: so a
  renamed or copied file stays the same conversation. Files that begin alike need conversation ids to be told apart.
"""

from __future__ import annotations

from typing import Any

from daemon.intake.formats.base import NotARecord, Origin, Parsed, adapter_of, clean, record, records, timestamp
from policies.records import ADAPTER_PREFIX, Message, Role, content_id

CONVERSATION = ("conversation", "conversation_id", "session", "session_id", "sessionId", "thread_id", "chat_id")
TIME = ("timestamp", "time", "created_at", "created", "ts", "at")
MESSAGE_ID = ("message_id", "uuid", "id")
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


class OpenAIChat:
    """Reads OpenAI chat logs."""

    name = "openai_chat"

    def sniff(self, head: bytes) -> float:
        """The share of lines with a list of messages, or with a role and a content."""
        found = records(head)
        return sum(raw is not None and _looks_right(raw) for raw in found) / len(found) if found else 0.0

    def open(self, head: bytes, origin: Origin, *, full: bool) -> ChatParser | None:
        """Needs the first line that says more than a system prompt; None until that is written."""
        beginning: list[object] = []
        for raw in records(head):
            if raw is None:
                continue
            if "messages" in raw or _first(raw, CONVERSATION) is not None:
                return ChatParser(_safe_id(self.name, beginning), origin)
            if not _looks_right(raw):
                continue
            beginning.append(raw)
            if ROLES.get(str(raw["role"])) != "system":
                return ChatParser(_safe_id(self.name, beginning), origin)
        return ChatParser(_safe_id(self.name, head), origin) if full else None


class ChatParser:
    """Parses the lines of one chat log; `conversation` is that of lines which name none."""

    def __init__(self, conversation: str, origin: Origin) -> None:
        self._conversation = conversation
        self._origin = origin

    def parse(self, line: bytes, offset: int) -> Parsed:
        """See `daemon.intake.formats.base.LineParser`."""
        try:
            raw, notes = record(line)
        except NotARecord as reason:
            return Parsed(skipped=(str(reason),))
        if isinstance(raw.get("messages"), list):
            parsed = self._whole(raw, offset)
        elif "role" in raw:
            parsed = self._single(raw, offset)
        else:
            return Parsed(skipped=(*notes, "a record without `role` or `messages`"))
        return Parsed(messages=parsed.messages, skipped=(*notes, *parsed.skipped))

    def _whole(self, raw: dict[str, Any], offset: int) -> Parsed:
        """One conversation a line: ids count the messages, so that a conversation logged again adds only its growth."""
        named = _first(raw, (*CONVERSATION, "id"))
        conversation = named if named is not None else _safe_id(OpenAIChat.name, raw["messages"])
        messages: list[Message] = []
        skipped: list[str] = [] if raw["messages"] else ["a conversation without messages"]
        for index, item in enumerate(raw["messages"]):
            fields = item if isinstance(item, dict) else {}
            role, text, why = _content(fields)
            if role is None:
                skipped.append(why)
                continue
            messages.append(
                self._message(
                    {**_outer(raw), **fields}, conversation, role, text, order=offset + index, key=f"#{index}"
                )
            )
        return Parsed(messages=messages, skipped=skipped)

    def _single(self, raw: dict[str, Any], offset: int) -> Parsed:
        """One message a line: its id rests on the id it brings, or else on its byte offset."""
        role, text, why = _content(raw)
        if role is None:
            return Parsed(skipped=(why,))
        conversation = _first(raw, CONVERSATION) or self._conversation
        key = _first(raw, MESSAGE_ID) or f"@{offset}"
        return Parsed(messages=(self._message(raw, conversation, role, text, order=offset, key=key),))

    def _message(
        self, raw: dict[str, Any], conversation: str, role: Role, text: str, *, order: int, key: str
    ) -> Message:
        adapter = raw.get("adapter")
        named = adapter_of(raw.get("model"))
        if named is None and isinstance(adapter, str) and adapter not in ("", "base"):
            named = clean(adapter).removeprefix(ADAPTER_PREFIX)
        when = next((raw[name] for name in TIME if raw.get(name) is not None), None)
        return Message(
            id=content_id(OpenAIChat.name, conversation, key, role, text),
            conversation=conversation,
            order=order,
            role=role,
            text=text,
            at=timestamp(when, self._origin.modified),
            source=self._origin.source,
            adapter=named if role == "assistant" else None,
        )


def _looks_right(raw: dict[str, Any]) -> bool:
    if isinstance(raw.get("messages"), list):
        return any(isinstance(item, dict) and item.get("role") in ROLES for item in raw["messages"])
    return isinstance(raw.get("role"), str) and raw["role"] in ROLES and "content" in raw


def _content(raw: dict[str, Any]) -> tuple[Role | None, str, str]:
    """(role, text, "") of a message, or (None, "", reason)."""
    named = raw.get("role")
    if not isinstance(named, str) or named not in ROLES:
        return None, "", f"unknown role {clean(str(named))[:40]!r}"
    content = raw.get("content")
    if isinstance(content, str):
        text = content
    elif isinstance(content, list):  # parts: text beside images, audio and files, which are passed over
        text = "\n".join(
            part if isinstance(part, str) else part["text"]
            for part in content
            if isinstance(part, str) or (isinstance(part, dict) and isinstance(part.get("text"), str))
        )
    else:
        text = ""
    text = clean(text)
    return (ROLES[named], text, "") if text.strip() else (None, "", f"{named} message without text")


def _first(raw: dict[str, Any], names: tuple[str, ...]) -> str | None:
    """The first of `names` that holds a usable id, as text."""
    for name in names:
        value = raw.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value):
            return clean(str(value))
    return None


def _outer(raw: dict[str, Any]) -> dict[str, Any]:
    """What a line says about all its messages: when, and which model answered."""
    return {name: raw[name] for name in (*TIME, "model", "adapter") if name in raw}


def _safe_id(*parts: object) -> str:
    """`content_id` of parsed JSON, which may hold lone surrogates."""
    return content_id(*(clean(repr(part)) for part in parts))


FORMAT = OpenAIChat()

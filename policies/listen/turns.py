"""From messages to turns: pure assembly of one conversation.

A turn is what the user said and everything the assistant answered to it. It is *final* once the user speaks again;
until then the answer may still grow. Its id is the hash of conversation, index and the user's words, not of the
answer: a last turn that was taken because the conversation seemed over (`closed=True`), and that grew afterwards,
keeps its id, so the store ignores the second writing and nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from policies.records import ChatMessage, Message, Turn, content_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A turn and the user's next message. `reaction` is None exactly when the turn is not final."""

    turn: Turn
    reaction: str | None = None

    @property
    def text(self) -> str:
        """All that was said in it, by which memories surface."""
        return " ".join([self.turn.user, self.turn.assistant, self.reaction or ""])


@dataclass(slots=True)
class _Open:
    """The turn being assembled."""

    said: list[str] = field(default_factory=list)
    answered: list[Message] = field(default_factory=list)


def exchanges(messages: Iterable[Message], context_turns: int, *, closed: bool = False) -> list[Exchange]:
    """The turns of one conversation in order, each with the user's reaction to it.

    Messages may come in any order and more than once; `order` decides. Texts of one side in a row are joined with a
    newline. Tool messages are left out altogether: they are neither a user's words, nor an answer, nor context (their
    content is data from anywhere). Empty texts count for nothing. A user's message without an answer is no turn yet,
    and an answer before any question is none either.

    The context of a turn is the last system message before it, when there is one, and the `context_turns` turns
    before it. Without `closed` only final turns are given; with it the last one too, when it has an answer.
    Every call on a longer prefix of a conversation gives the same final turns first.
    """
    found: list[Exchange] = []
    system: str | None = None
    system_now: str | None = None  # as it stood when the user last spoke, before any answer
    current = _Open()
    for message in sorted({m.id: m for m in messages}.values(), key=lambda m: (m.order, m.id)):
        text = message.text.strip()
        if not text or message.role == "tool":
            continue
        if message.role == "system":
            system = text
        elif message.role == "user":
            if current.answered:
                turn = _turn(current, [e.turn for e in found], system_now, context_turns)
                found.append(Exchange(turn=turn, reaction=text))
                current = _Open()
            system_now = system
            current.said.append(text)
        elif current.said:
            current.answered.append(message)
    if closed and current.answered:
        found.append(Exchange(turn=_turn(current, [e.turn for e in found], system_now, context_turns)))
    return found


def turns(messages: Iterable[Message], context_turns: int, *, closed: bool = False) -> list[Turn]:
    """Only the turns of `exchanges`."""
    return [exchange.turn for exchange in exchanges(messages, context_turns, closed=closed)]


def _turn(current: _Open, before: Sequence[Turn], system: str | None, context_turns: int) -> Turn:
    first, last = current.answered[0], current.answered[-1]
    user = "\n".join(current.said)
    context: list[ChatMessage] = [ChatMessage(role="system", content=system)] if system else []
    for turn in before[len(before) - min(context_turns, len(before)) :]:
        context.append(ChatMessage(role="user", content=turn.user))
        context.append(ChatMessage(role="assistant", content=turn.assistant))
    return Turn(
        id=content_id("turn", first.conversation, len(before), user),
        conversation=first.conversation,
        index=len(before),
        context=tuple(context),
        user=user,
        assistant="\n".join(m.text.strip() for m in current.answered),
        at=last.at,
        source=first.source,
        # an answer that two adapters wrote together (a swap in between) is nobody's
        adapter=first.adapter if all(m.adapter == first.adapter for m in current.answered) else None,
    )

"""Conversations to token ids and back, by the tokenizer's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daemon.errors import DreamloopError, ModelMissing
from daemon.models.base import Conversation
from policies.records import ChatMessage

_SENTINEL = "sentinel"


class Chat:
    """A tokenizer with its template, end of turn and limits.

    `limit` is the longest sequence in tokens; a prompt that would not leave room for an answer loses its beginning.
    """

    def __init__(self, tokenizer: Any, *, folder: Path, stops: Sequence[int], limit: int) -> None:
        if not tokenizer.chat_template:
            raise ModelMissing(
                f"{folder}: its tokenizer has no chat template; put the one that the model was trained with into "
                "chat_template.jinja"
            )
        self._tokenizer = tokenizer
        self._folder = folder
        self.limit = limit
        self.end = self._end_of_turn()
        self.stops = frozenset({*stops, self.end})
        self.pad = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end)

    def prompt(self, conversation: Conversation, *, room: int = 0) -> list[int]:
        """Ids up to the point where the assistant answers; leaves `room` tokens for the answer within the limit."""
        ids = self.ids(self._render(conversation, answer=True))
        return ids[-max(1, self.limit - room) :]

    def pair(self, conversation: Conversation, answer: str) -> tuple[list[int], list[int]]:
        """Prompt ids, and the answer's ids with the end of turn. Together within the limit."""
        target = [*self.ids(answer), self.end][: self.limit - 1]
        return self.prompt(conversation, room=len(target)), target

    def ids(self, text: str) -> list[int]:
        """Plain text to ids, nothing added."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def text(self, ids: Sequence[int]) -> str:
        """Ids to text without special tokens or space at its ends."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _render(self, conversation: Conversation, *, answer: bool) -> str:
        messages = [{"role": message.role, "content": message.content} for message in conversation]
        try:
            # Qwen's templates read enable_thinking, the others ignore it: answers are trained without thoughts
            return str(
                self._tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=answer, enable_thinking=False
                )
            )
        except Exception as error:  # templates raise jinja2's own errors, and whatever they were written to raise
            roles = ", ".join(message.role for message in conversation) or "no messages"
            raise DreamloopError(
                f"{self._folder}: its chat template refused a conversation of {roles}: {error}"
            ) from error

    def _end_of_turn(self) -> int:
        """The token that the template writes after an assistant's words; the tokenizer's eos when it writes none."""
        ends = set(self._tokenizer.all_special_ids) | set(self._tokenizer.added_tokens_decoder)
        conversation = (ChatMessage(role="user", content="hi"), ChatMessage(role="assistant", content=_SENTINEL))
        after = self._render(conversation, answer=False).rpartition(_SENTINEL)[2]
        for token in self.ids(after):
            if token in ends:
                return int(token)
        if self._tokenizer.eos_token_id is None:
            raise ModelMissing(f"{self._folder}: neither its chat template nor its tokenizer says how a turn ends")
        return int(self._tokenizer.eos_token_id)

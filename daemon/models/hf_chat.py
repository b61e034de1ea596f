"""Conversations to token ids and back, by the tokenizer's own chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daemon.errors import DreamloopError, ModelMissing
from daemon.models.base import Conversation
from policies.records import ChatMessage

FALLBACK_LIMIT = 32768  # tokens, for a model that does not say how long a sequence may be
_SENTINEL = "\ue000sentinel\ue000"  # nobody writes this (a private-use character)


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

    def located(
        self, conversation: Conversation, span: tuple[int, int] | None = None, *, room: int = 0
    ) -> tuple[list[int], tuple[int, int]]:
        """The ids of `prompt`, and which of them [start, stop) hold characters [start, stop) of the last user message.

        All of that message without a `span`. A token that crosses the span's edge belongs to it. Raises DreamloopError
        when there is no such message or it was cut off by the limit, ValueError for a span without characters.
        """
        text = self._render(conversation, answer=True)
        first, last = self._characters(conversation, text, span)
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = list(found["input_ids"])
        start = sum(end <= first for _, end in found["offset_mapping"])
        stop = sum(begin < last for begin, _ in found["offset_mapping"])
        cut = max(0, len(ids) - max(1, self.limit - room))
        if stop <= cut or (span is not None and start < cut):
            raise DreamloopError(
                f"a prompt of {len(ids)} tokens loses what is to be looked at: with {room} tokens of answer the model "
                f"takes {self.limit}; shorten it, or raise `model.context`"
            )
        return ids[cut:], (max(0, start - cut), stop - cut)

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

    def _characters(self, conversation: Conversation, text: str, span: tuple[int, int] | None) -> tuple[int, int]:
        """Where in the rendered `text` a span of the last user message (all of it without one) stands.

        Found by rendering once more with another message in its place: what stands before it is the same.
        """
        places = [place for place, message in enumerate(conversation) if message.role == "user"]
        if not places:
            raise DreamloopError("a conversation without a user message has no place to look at")
        content = conversation[places[-1]].content
        first, last = span if span is not None else (0, len(content))
        if not 0 <= first <= last <= len(content) or (span is not None and first == last):
            raise ValueError(f"span {span} holds no characters of a message of {len(content)}")
        other = list(conversation)
        other[places[-1]] = ChatMessage(role="user", content=_SENTINEL)
        begins = self._render(other, answer=True).find(_SENTINEL)
        for kept in (content, content.strip()):  # templates may trim a message's ends
            if text.startswith(kept, begins):
                lead = content.find(kept)
                return begins + min(max(0, first - lead), len(kept)), begins + min(max(0, last - lead), len(kept))
        raise DreamloopError(f"{self._folder}: its chat template rewrites user messages; nothing in one can be found")

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


def from_folder(folder: Path, *, context: int | None = None) -> Chat:
    """The chat of a model's folder, without the model: for those that only talk to a server. Raises ModelMissing.

    `context` bounds the sequence length below the model's own.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        generation = folder / "generation_config.json"
        ends = json.loads(generation.read_text(encoding="utf-8")) if generation.is_file() else {}
    except Exception as error:  # transformers raises ValueError, OSError, KeyError and others here
        raise ModelMissing(f"{folder}: its tokenizer cannot be loaded: {type(error).__name__}: {error}") from error
    text = config.get("text_config", config)  # a model that also sees keeps its language part there
    stops = ends.get("eos_token_id", text.get("eos_token_id"))
    limit = int(text.get("max_position_embeddings") or FALLBACK_LIMIT)
    return Chat(
        tokenizer,
        folder=folder,
        stops=stops if isinstance(stops, list) else [] if stops is None else [stops],
        limit=min(limit, context or limit),
    )

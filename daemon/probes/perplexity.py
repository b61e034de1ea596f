"""How well a model predicts text that it should not have got worse at."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.models.base import Checkpoint, Conversation, Generator, ignore
from policies.records import ChatMessage

Text = str | tuple[Conversation, str]  # plain text, or a prompt and its answer
_NOTHING = (ChatMessage(role="user", content=""),)


def per_document(model: Generator, texts: Sequence[Text], checkpoint: Checkpoint = ignore) -> list[float]:
    """Per text its mean negative log-likelihood in nats per token, the end of turn included: log perplexity.

    A plain text is read as the answer to an empty message, so that any backend can score it. Documents of different
    lengths count alike.
    """
    pairs = [(_NOTHING, text) if isinstance(text, str) else text for text in texts]
    return [-sum(scores) / len(scores) for scores in model.logprobs(pairs, checkpoint)]

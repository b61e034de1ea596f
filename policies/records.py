"""The nouns of the loop: frozen, slotted, keyword-only records that every floor of the house speaks.

Ids are content hashes (`content_id`), so writing the same thing twice is harmless: replaying a log, re-running a job
or resuming after a crash never counts anything twice. Times are seconds since the Unix epoch (UTC).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Band = Literal["obvious", "medium", "subtle"]
Kind = Literal["target", "counter"]
Origin = Literal["turn", "dream", "general", "counter"]
Decision = Literal["promote", "hold", "reject"]
Size = Literal["quick", "full", "live"]
AdviceState = Literal["accepted", "rejected", "undone"]
BANDS: tuple[Band, ...] = ("obvious", "medium", "subtle")
KINDS: tuple[Kind, ...] = ("target", "counter")


def content_id(*parts: object) -> str:
    """A 20-hex-digit id of `parts`: the same content always has the same id.

    >>> content_id("a", 1) == content_id("a", 1), content_id("a", 1) == content_id("a1")
    (True, False)
    """
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of a prompt: who says what."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message as it stands in a conversation log. `order` is its position in the conversation (byte offset)."""

    id: str
    conversation: str
    order: int
    role: Role
    text: str
    at: float
    source: str
    adapter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A user's message and the assistant's answer to it; `index` counts the turns of its conversation from 0."""

    id: str
    conversation: str
    index: int
    context: tuple[ChatMessage, ...]
    user: str
    assistant: str
    at: float
    source: str
    adapter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surfacing:
    """A memory node that came up for a turn, with its score in (0, 1]."""

    id: str
    turn: str
    node: str
    score: float
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What the user's next message says about an *eligible* turn: did the behaviour fail? `evidence` quotes it."""

    id: str
    turn: str
    behavior: str
    failed: bool
    evidence: str
    at: float
    adapter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A training example: the scenario *without* guidance, the answer to learn, and the one it replaces.

    `source` is the turn, dream or file it came from; `behavior` is None for general skill.
    """

    id: str
    origin: Origin
    behavior: str | None
    prompt: tuple[ChatMessage, ...]
    target: str
    rejected: str | None
    source: str
    at: float
    cycle: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """What a dream starts from: a behaviour's pattern node, memories beside it, and the difficulty wished for."""

    id: str
    behavior: str
    kind: Kind
    node: str
    memories: tuple[str, ...]
    band: Band
    cycle: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dream:
    """A practice scenario the model wrote: the text a user might send."""

    id: str
    seed: str
    behavior: str
    kind: Kind
    band: Band
    text: str
    temperature: float
    adapter: str | None
    cycle: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difficulty:
    """Predicted P(fail) of a dream, stored *before* any answer exists."""

    id: str
    dream: str
    predicted: float
    classifier: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A judge's word on one answer; `passed` is None when the judge cannot read the scenario."""

    passed: bool | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One judged answer to a dream."""

    id: str
    dream: str
    adapter: str | None
    attempt: int
    answer: str
    passed: bool | None
    reason: str
    judge: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How an update is computed: LoRA rank and alpha, target modules, learning rate, passes, batch size, seed."""

    rank: int
    alpha: int
    targets: tuple[str, ...]
    learning_rate: float
    epochs: int
    batch_size: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The examples one update trains on. With `placebo` exactly half of the preferred/rejected labels are swapped."""

    id: str
    examples: tuple[str, ...]
    parent: str | None
    cycle: int
    placebo: bool
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA adapter on disk. `parent` is None when it started from the base model; `folder` is relative to the state.

    `loss` is the mean training loss in nats per target token over the last pass.
    """

    id: str
    parent: str | None
    recipe: Recipe
    batch: str
    folder: str
    cycle: int
    loss: float
    tokens: int
    seconds: float
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A probe's result on one adapter (None = base), with a 95 % interval.

    `items` are the probe items' ids and `values` their results, in the same order, so that two measurements can be
    paired; `behavior` is empty for general skill and parity.
    """

    id: str
    probe: str
    adapter: str | None
    behavior: str
    kind: str
    band: str
    split: str
    value: float
    low: float
    high: float
    n: int
    items: tuple[str, ...]
    values: tuple[float, ...]
    cycle: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The gate's decision on a candidate, with every reason in words."""

    id: str
    adapter: str
    parent: str | None
    decision: Decision
    reasons: tuple[str, ...]
    evidence: dict[str, Any] = field(default_factory=dict)
    cycle: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A step in an adapter's life: see `policies.lifecycle`."""

    id: str
    adapter: str
    before: str
    after: str
    why: str
    at: float


ADAPTER_PREFIX = "dreamloop:"  # before an adapter's id in the `model` of a log, and of a request to a server

ATTESTATION = "attestation"  # the channel of alarms about a server that answers with something else


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A guard channel crossed its threshold on the serving adapter.

    On the channel ATTESTATION `e_value` is how far what is served is from what was trained, and `threshold` how far it
    may be, both in nats per token.
    """

    id: str
    channel: str
    behavior: str
    adapter: str | None
    e_value: float
    threshold: float
    cycle: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An answer to one of the seven questions about one behaviour, with what makes it believable.

    `size` says how much was measured: "quick" and "full" were asked for, "live" accumulates beside the loop. `estimate`
    and its 95 % limits are in `evidence["unit"]`; `n` counts independent units. `evidence` also holds the null it was
    compared with, the controls, seeds, the verdict's rule, the figures and what falls short: see
    `daemon.experiments.base`.
    """

    id: str
    question: str
    behavior: str
    adapter: str | None
    size: Size
    verdict: str
    sentence: str
    estimate: float | None
    low: float | None
    high: float | None
    n: int
    seconds: float
    evidence: dict[str, Any] = field(default_factory=dict)
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What a finding means for the configuration: `key` (dotted) should be `value` (as JSON), because of `evidence`."""

    id: str
    finding: str
    key: str
    value: str
    evidence: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceStep:
    """What became of an advice. `before` is the key's value (as JSON) that undoing it puts back."""

    id: str
    advice: str
    step: AdviceState
    by: str
    before: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """Something kept out of training, and why."""

    id: str
    source: str
    reason: str
    at: float

"""What must not be learned from. Logs are data, never instructions: each example is looked at before it may train.

The heuristics against planted instructions are modest on purpose: they catch the plain cases (chat markup inside a
text, an order to a language model as such, encoded blobs), and quotas (`compose`) limit what slips through.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from policies.records import Example, Quarantine, content_id
from policies.statistics.similarity import nearest, normal

LONGEST = 4000  # characters of a target
_MARKUP = re.compile(
    r"<\|[a-z_]+\|>|\[/?INST\]|<</?SYS>>|</?(?:system|tool_result|function_results|tool_response)>", re.I
)
_ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:previous|prior|above|earlier|system)\b.{0,30}"
    r"\b(?:instructions?|prompts?|rules?|messages?)\b",
    re.I | re.S,
)
_TOOL = re.compile(
    r"^\s*(?:\{\s*\"(?:tool_use_id|tool_calls|type)\"|<(?:tool_result|function_results)\b|Traceback \(most)"
)
_BLOB = re.compile(r"[A-Za-z0-9+/=_-]{160,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What may train, in order, and what is kept out with a reason each."""

    kept: tuple[Example, ...]
    quarantined: tuple[Quarantine, ...]


def reason(example: Example, probes: Collection[str] = ()) -> str | None:
    """Why `example` is kept out, or None. `probes` are held-out prompts in normal form (`similarity.normal`)."""
    target = example.target.strip()
    asked = example.prompt[-1].content if example.prompt else ""
    if not target:
        return "the target is empty"
    if not asked.strip():
        return "the prompt is empty"
    if len(target) > LONGEST:
        return f"the target has {len(target)} characters, more than {LONGEST}"
    if example.prompt[-1].role != "user":
        return f"the prompt ends with the {example.prompt[-1].role}'s words, not the user's"
    if any(message.role == "tool" for message in example.prompt) or _TOOL.search(target):
        return "tool output"
    if (
        example.rejected is not None
        and normal(target) == normal(example.rejected)
        and target == example.rejected.strip()
    ):
        return "the target is the rejected answer"
    if probes and normal(asked) in probes:
        return "the prompt is a held-out probe"
    for text in (asked, target):
        if _MARKUP.search(text):
            return "chat markup inside a text"
        if _ORDERS.search(text):
            return "an order to set instructions aside"
    if _BLOB.search(target):
        return "an encoded blob"
    return None


def inspect(
    examples: Sequence[Example],
    *,
    probes: Iterable[str] = (),
    known: Iterable[str] = (),
    near: float = 97.0,
    per_cluster: int = 2,
) -> Inspected:
    """Keep out what `reason` names, and all but the first `per_cluster` of near-duplicates (prompt and target).

    `known` are texts (prompt + newline + target) that were trained on before; they open clusters too. Clusters are
    formed greedily in the given order: an example joins the first text that it resembles by rapidfuzz's ratio.
    """
    held_out = frozenset(map(normal, probes))
    heads: list[str] = []
    sizes: list[int] = []
    exact: dict[str, int] = {}

    def cluster(text: str) -> int:
        place = exact.get(text)
        if place is None:
            place = nearest(text, heads, near)
            if place is None:
                place = len(heads)
                heads.append(text)
                sizes.append(0)
            exact[text] = place
        return place

    for text in known:
        sizes[cluster(normal(text))] += 1
    kept: list[Example] = []
    out: list[Quarantine] = []
    for example in examples:
        why = reason(example, held_out)
        if why is None:
            place = cluster(normal(f"{example.prompt[-1].content}\n{example.target}"))
            if sizes[place] >= per_cluster:
                why = f"one of more than {per_cluster} near-duplicates"
            else:
                sizes[place] += 1
        if why is None:
            kept.append(example)
        else:
            out.append(
                Quarantine(
                    id=content_id("quarantine", example.id, why), source=example.source, reason=why, at=example.at
                )
            )
    return Inspected(kept=tuple(kept), quarantined=tuple(out))

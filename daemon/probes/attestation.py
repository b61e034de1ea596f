"""The trainer's word on a version: what it says, token by token, to probes that any server can be asked later.

Made once, when the version is: afterwards the trainer is not needed to tell whether a server is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from daemon.errors import BehaviorError
from daemon.models.base import Conversation, Generator, ignore
from daemon.probes.parity import Pairs
from policies.records import ChatMessage
from policies.serve.attestation import Attestation, Trained

if TYPE_CHECKING:
    from daemon.models.vllm.versions import Probes, Reference

# A shared prefix of some blocks of the server's cache. A hybrid's blocks are as large as its GDN state: 400 to 800
# tokens for the reference target, 128 for the embedded model on a CPU. Half of the context, where that is less.
PREFIX_TOKENS = 2400
LONG, PLACES = 3, 2  # long probes, and the tokens of each that are scored

Pair = tuple[Conversation, str]


@runtime_checkable
class Encodes(Protocol):
    """A model that says which tokens it reads."""

    def encode(self, pairs: Sequence[Pair]) -> list[tuple[list[int], list[int]]]:
        """Per pair the prompt's ids, and the answer's with the end of turn."""
        ...

    @property
    def longest(self) -> int:
        """Tokens that it takes at most; longer texts lose their beginning."""
        ...


@runtime_checkable
class Publishes(Protocol):
    """A model behind servers: they get versions with the trainer's word on them."""

    def publish(self, adapter: Path | None, reference: Reference) -> None:
        """Make an adapter (None: the base) known to the servers."""
        ...

    def published(self, adapter: Path | None) -> bool:
        """Was it?"""
        ...

    def attest(self, adapter: Path | None, *, again: bool = False) -> Attestation:
        """See that the servers answer with it as trained."""
        ...


def publish(trainer: Generator, served: Generator, pairs: Pairs, adapter: Path | None, before: Path | None) -> None:
    """Publish `adapter` (None: the base), where `served` are servers and it is not done yet; `before` served until now.

    The trainer's adapter in use is `adapter` afterwards.
    """
    if isinstance(served, Publishes) and not served.published(adapter):
        served.publish(adapter, reference(trainer, pairs, adapter, before))


def reference(trainer: Generator, pairs: Pairs, adapter: Path | None, before: Path | None) -> Reference:
    """The trainer's log-probabilities on short and long probes, with `adapter`, with the base, and with `before`.

    Of a long probe those tokens are scored whose log-probability the adapter changes most. Raises TypeError for a
    trainer that does not say which tokens it reads.
    """
    from daemon.models.vllm.versions import Reference

    if not isinstance(trainer, Encodes):
        raise TypeError(
            f"{type(trainer).__name__} does not say which tokens it reads, so no server can be asked the same"
        )
    short: list[Pair] = [((ChatMessage(role="user", content=prompt),), answer) for prompt, answer in pairs]
    long = long_pairs(trainer, pairs)
    said: dict[str, list[list[float]]] = {}
    others = {"base": None} | ({"before": before} if before is not None else {}) if adapter is not None else {}
    for name, folder in (*others.items(), ("own", adapter)):
        trainer.use(folder)
        said[name] = trainer.logprobs([*short, *long], ignore)
    messages = [{"role": message.role, "content": message.content} for message in long[0][0]]
    return Reference(
        sets={
            "short": _probes(trainer, short, {name: rows[: len(short)] for name, rows in said.items()}, placed=False),
            "long": _probes(trainer, long, {name: rows[len(short) :] for name, rows in said.items()}, placed=True),
        },
        messages=messages,
        ids=trainer.encode([(long[0][0], "")])[0][0],
    )


def long_pairs(trainer: Encodes, pairs: Pairs) -> list[Pair]:
    """Several questions after one long conversation, made of probes as its earlier turns."""
    if not pairs:
        raise BehaviorError("no behaviour has rotating probes, so there is nothing that a server could be asked")
    last, earlier = list(pairs[:LONG]), list(pairs[LONG:]) or list(pairs)
    wanted = min(PREFIX_TOKENS, trainer.longest // 2)
    turns: list[ChatMessage] = []
    tokens = 0
    for prompt, answer in cycle(earlier):
        pair = [ChatMessage(role="user", content=prompt), ChatMessage(role="assistant", content=answer)]
        tokens += len(trainer.encode([(pair, "")])[0][0])  # with a header each: a few more than there will be together
        turns += pair
        if tokens >= wanted and len(trainer.encode([(turns, "")])[0][0]) >= wanted:
            break
    return [((*turns, ChatMessage(role="user", content=prompt)), answer) for prompt, answer in last]


def _probes(trainer: Encodes, pairs: Sequence[Pair], said: dict[str, list[list[float]]], *, placed: bool) -> Probes:
    from daemon.models.vllm.versions import Probes

    encoded = trainer.encode(pairs)
    places = [_telling(said, row) for row in range(len(pairs))] if placed else None
    if places is not None:
        said = {
            name: [[row[at] for at in chosen] for row, chosen in zip(rows, places, strict=True)]
            for name, rows in said.items()
        }
    return Probes(
        prompts=[prompt for prompt, _ in encoded],
        targets=[target for _, target in encoded],
        places=places,
        trained=Trained(own=said["own"], base=said.get("base"), before=said.get("before")),
    )


def _telling(said: dict[str, list[list[float]]], row: int) -> list[int]:
    """The places of a probe at which the version differs most from the others; the first ones for the base."""
    own = said["own"][row]
    moved = [
        max((abs(value - rows[row][at]) for name, rows in said.items() if name != "own"), default=0.0)
        for at, value in enumerate(own)
    ]
    return sorted(sorted(range(len(own)), key=lambda at: (-moved[at], at))[:PLACES])

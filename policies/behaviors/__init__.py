"""Behaviours: one TOML file each. This module is their schema; `daemon.behaviors` reads the files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from policies.records import Band, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A held-out scenario of a behaviour: never trained on, never in the graph."""

    id: str
    prompt: str
    kind: Kind
    band: Band
    split: str
    preferred: str
    rejected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A training-side scenario with a preferred and a rejected answer."""

    prompt: str
    kind: Kind
    band: Band
    preferred: str
    rejected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Behavior:
    """A disposition under training or under guard.

    `rubric` says what a good answer does, for a judge that asks a model; `threshold` is in nats per token, for the
    judge that compares likelihoods, and None where answers on file set it.
    """

    name: str
    title: str
    graph_key: str
    guidance: str
    dream_pattern: str
    judge: str
    delta: float
    eligible_any: tuple[re.Pattern[str], ...]
    eligible_none: tuple[re.Pattern[str], ...]
    failure: tuple[re.Pattern[str], ...]
    success: tuple[re.Pattern[str], ...]
    rubric: str = ""
    threshold: float | None = None
    probes: tuple[Probe, ...] = field(repr=False)
    pairs: tuple[Pair, ...] = field(repr=False)

    def select(self, *, split: str, kind: Kind | None = None) -> tuple[Probe, ...]:
        """The probes of one split, optionally of one kind."""
        return tuple(p for p in self.probes if p.split == split and (kind is None or p.kind == kind))

"""The seven answers as plain data: what `dreamctl answers`, `dreamctl report` and the answer book are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from daemon.experiments.base import QUESTIONS
from daemon.store.store import Store
from policies.records import Finding

REMEMBERED = 50  # earlier answers shown to a question
COLUMNS = ("id", "at", "verdict", "estimate", "low", "high", "n", "size", "behavior", "adapter")


def build(store: Store, advice: Sequence[Mapping[str, Any]], *, now: float) -> dict[str, Any]:
    """Per question the newest finding that was asked for, the newest live one, and how it went before.

    A full answer is not hidden behind a later quick one on the same adapter and behaviour.
    """
    return {
        "at": now,
        "questions": {question: _question(store, question) for question in QUESTIONS},
        "advice": [dict(row) for row in advice],
    }


def _question(store: Store, question: str) -> dict[str, Any]:
    asked = store.find(Finding, question=question, size=["quick", "full"], descending=True, limit=REMEMBERED)
    live = store.find(Finding, question=question, size="live", descending=True, limit=REMEMBERED)
    history = sorted([*asked, *live], key=lambda finding: finding.at)
    return {
        "question": question,
        "title": QUESTIONS[question],
        "latest": asdict(_best(asked)) if asked else None,
        "live": asdict(live[0]) if live else None,
        "history": [{name: getattr(finding, name) for name in COLUMNS} for finding in history],
    }


def _best(asked: Sequence[Finding]) -> Finding:
    """The newest, or the newest full one about the same behaviour and adapter."""
    newest = asked[0]
    same = [f for f in asked if f.size == "full" and (f.behavior, f.adapter) == (newest.behavior, newest.adapter)]
    return same[0] if same else newest

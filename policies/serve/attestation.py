"""Does the server answer with the adapter that was trained? Its log-probabilities on probes against the trainer's.

Servers are silently wrong in a few ways, and each leaves its own trace here: the base answers, or the version before;
some modules of the adapter were dropped (known of GDN projections); a prefix cache holds what other weights computed.

What may differ is rounding: a server computes in bfloat16, the trainer may not, and rounding grows with what the
adapter changes. So a probe may be off by `tolerance`, and by a tenth of what the adapter changes there. All probes
together say which share of the adapter's effect is served: the slope of (served - base) on (trained - base), 1 when all
of it is. On the embedded model a whole adapter has slope 1.00, one without its GDN modules 0.68. In the same way the
step from the version before must be served: after many small updates both are far from the base and near each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

State = Literal["attested", "not finite", "incomplete", "base", "predecessor", "stale cache", "partial", "differs"]
Rows = Sequence[Sequence[float]]  # per probe the log-probabilities in nats of its tokens

ALLOWANCE = 0.1  # of a probe's own effect, for rounding inside the adapter
SHARE = 0.15  # how far the served share of the effect may be from 1
STEP = 0.5  # the least served share of the step from the version before: the predecessor itself has 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What the trainer says about the probes: with the adapter, with the base, with the version before.

    The last two are None where there is no such other: for the base itself both.
    """

    own: Rows
    base: Rows | None = None
    before: Rows | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """The outcome. `ok` is what may serve.

    `apart` is the largest mean distance of a probe in nats per token, `excess` what of it rounding does not explain (to
    be compared with the tolerance), `share` the served share of the adapter's effect (None: it is too small
    to tell), `distinct` whether the probes tell it from base and predecessor at all, `n` how many were compared.
    """

    state: State
    words: str
    apart: float
    excess: float
    share: float | None = None
    distinct: bool = True
    n: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """May it serve?"""
        return self.state == "attested"


def attest(trained: Mapping[str, Trained], served: Mapping[str, Rows], tolerance: float) -> Attestation:
    """Compare. `trained` has a set of probes per name, `served` the passes over them as "NAME" or "NAME/PASS".

    The first pass over a set must not have read any cache; where it agrees and a later pass does not, the cache is
    stale. Raises ValueError for a pass over probes that are not in `trained`, when one was never served, and when there
    is nothing to compare.
    """
    if {_set(name) for name in served} != set(trained):
        raise ValueError(f"served {sorted(served)} are not passes over {sorted(trained)}")
    if not any(row for one in trained.values() for row in one.own):
        raise ValueError("there is no token to compare: a version without probes cannot be attested")
    for name, rows in served.items():
        if trouble := _unreadable(name, trained[_set(name)].own, rows):
            return trouble
    fresh: dict[str, str] = {}
    for name in served:
        fresh.setdefault(_set(name), name)
    first = [(trained[probes], served[name]) for probes, name in fresh.items()]
    found = [_compare(trained[_set(name)], rows, name) for name, rows in served.items()]
    apart, excess = max(one.apart for one in found), max(one.excess for one in found)
    share, step = _slope(first, "base"), _slope(first, "before")
    distinct = not any(
        one is None and any(getattr(mine, other) is not None for mine, _ in first)
        for other, one in (("base", share), ("before", step))
    )
    numbers = {f"apart/{one.name}": one.apart for one in found}

    def outcome(state: State, words: str) -> Attestation:
        return Attestation(
            state=state,
            words=words,
            apart=apart,
            excess=excess,
            share=share,
            distinct=distinct,
            n=sum(map(len, served.values())),
            numbers=numbers,
        )

    agrees = {one.name: one.excess <= tolerance and not one.behind for one in found}
    whole = share is None or abs(share - 1) <= SHARE
    off = f"{apart:.3g} nats per token from what was trained (`judge.parity_tolerance` is {tolerance:g})"
    if all(agrees.values()) and whole:
        told = "" if share is None else f", {share:.0%} of its effect is served"
        unsure = "" if distinct else "; the probes cannot tell it from what served before"
        return outcome("attested", f"within {apart:.2g} nats per token of what was trained{told}{unsure}")
    if all(agrees[name] for name in fresh.values()) and whole:
        stale = ", ".join(name.partition("/")[2] for name, fine in agrees.items() if not fine)
        return outcome("stale cache", f"right when its cache is cold, wrong when it is used ({stale}): {off}")
    if _resembles(first, "base"):
        return outcome("base", f"the server answers with the base model: {off}")
    if _resembles(first, "before") or (step is not None and abs(step) < STEP and whole):
        return outcome("predecessor", f"the server answers with the version before it: {off}")
    if share is not None and not whole and _nearer(first):
        return outcome(
            "partial", f"{share:.0%} of the adapter's effect is served: modules were dropped, or scaled; {off}"
        )
    return outcome("differs", f"the server answers with other weights: {off}")


def _set(name: str) -> str:
    """The set of probes that a pass went over."""
    return name.partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Distance:
    name: str
    apart: float
    excess: float
    behind: bool  # the version before answers, as far as the step from it can be told


def _unreadable(name: str, own: Rows, rows: Rows) -> Attestation | None:
    if [len(row) for row in rows] != [len(row) for row in own]:
        words = f"{name}: the server did not score every token of every probe"
        return Attestation(state="incomplete", words=words, apart=math.inf, excess=math.inf)
    for whose, values in (("trainer", own), ("server", rows)):
        if all(math.isfinite(value) for row in values for value in row):
            continue
        words = f"{name}: the {whose}'s log-probabilities are not all finite numbers"
        return Attestation(state="not finite", words=words, apart=math.inf, excess=math.inf)
    return None


def _compare(trained: Trained, rows: Rows, name: str) -> _Distance:
    """The worst probe of a pass, and the worst beyond what rounding explains."""
    apart = [_apart(mine, theirs) for mine, theirs in zip(trained.own, rows, strict=True)]
    effect = [0.0] * len(apart) if trained.base is None else list(map(_apart, trained.own, trained.base))
    excess = [max(0.0, far - ALLOWANCE * moved) for far, moved in zip(apart, effect, strict=True)]
    step = _slope([(trained, rows)], "before")
    behind = step is not None and step < STEP
    return _Distance(name=name, apart=max(apart, default=0.0), excess=max(excess, default=0.0), behind=behind)


def _apart(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Mean absolute difference of one probe, in nats per token."""
    return sum(abs(a - b) for a, b in zip(mine, theirs, strict=True)) / len(mine) if mine else 0.0


def _slope(first: Sequence[tuple[Trained, Rows]], other: str) -> float | None:
    """The served share of what tells the version from another: 1 when it answers, 0 when the other does.

    Slope of (served - other) on (own - other) through the origin, over all tokens; None without the other, and where
    the two are so near each other that it is mostly rounding.
    """
    product = square = tokens = 0.0
    for trained, served in first:
        rows = getattr(trained, other)
        if rows is None:
            return None
        for own, theirs, row in zip(trained.own, rows, served, strict=True):
            for mine, without, said in zip(own, theirs, row, strict=True):
                product += (mine - without) * (said - without)
                square += (mine - without) ** 2
                tokens += 1
    return product / square if tokens and math.sqrt(square / tokens) > _TOO_LITTLE else None


_TOO_LITTLE = 0.03  # nats, root mean square: below it the slope is mostly rounding


def _nearer(first: Sequence[tuple[Trained, Rows]]) -> bool:
    """Is what is served nearer to the adapter than the base is? What has nothing to do with the adapter is further."""
    left = sum(_apart(a, b) for trained, served in first for a, b in zip(trained.own, served, strict=True))
    effect = sum(_apart(a, b) for trained, _ in first for a, b in zip(trained.own, trained.base or (), strict=True))
    return left < effect


def _resembles(first: Sequence[tuple[Trained, Rows]], other: str) -> bool:
    """Is what is served much nearer to another model than to the adapter?"""
    near = far = 0.0
    for trained, served in first:
        rows = getattr(trained, other)
        if rows is None:
            return False
        near += sum(_apart(a, b) for a, b in zip(rows, served, strict=True))
        far += sum(_apart(a, b) for a, b in zip(trained.own, served, strict=True))
    return near < far / 3

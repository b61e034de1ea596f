"""The promotion gate: what a candidate adapter must show against its parent before it serves.

Promote when at least one trained behaviour is better, none is worse, everything guarded (guard behaviours, counter
probes, general skill) is shown non-inferior at its delta, the canaries hold, KL is within budget and the adapter as
served agrees with the adapter as trained. Reject when one of these is *broken*; hold when it is merely *not shown*.

Better: an exact one-sided sign-flip test at a_k / m, a_k being the lifetime alpha of the k-th verdict and m the number
of trained behaviours (any of them suffices, so they share it), or an e-value of max(20, m / a_k). A null candidate is
then promoted with probability alpha at most over the daemon's whole life; a fixed e >= 20 at every verdict would
not have that property.

And better by enough: at least `minimum_gain`, or half of the failures where that is less. An update from shuffled
labels is a change too, and moves failure rates by a few points either way (benchmarks/placebo_gate.py); paired probes
with common random numbers are sharp enough to see that. What a placebo can do is no reason to promote.

Non-inferior: see `policies.statistics.noninferiority`, which also says what power n probes with k answers each have.
A measurement's values may be means of several answers, and for guards they should be: at delta .08 and 20 % failures,
240 probes show an unchanged guard non-inferior with probability .71 at one answer each, .93 at two, .997 at four.

Any comparison may reject by being worse, so the 5 % error of calling one worse is divided among them.

Canaries: PROTOCOLS asks for 0 critical failures. A base that already fails some makes that unattainable, so: a parent
without failures demands a candidate without; else the candidate must not fail more than its parent beyond chance, and
the reason says the upper limit. Decline in small steps, each within delta, is stopped by `Pair.anchor`: the base's
own measurement, which the candidate must stay within delta of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policies.judge.comparison import Level, Line, NotPaired, Pair, compare, decline
from policies.records import Decision
from policies.statistics import binomial
from policies.statistics.lifetime_alpha import lifetime_alpha
from policies.statistics.paired import sign_flip


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviorEvidence:
    """A behaviour's target and counter probes on parent and candidate; `delta` is its non-inferiority margin.

    `counter` may be None when the behaviour has no counter probes. `e_value` is accumulated evidence that this same
    candidate is better than its parent (`EProcess`), when it was measured more than once.
    """

    target: Pair | None
    counter: Pair | None
    delta: float
    e_value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything the gate looks at. `k` is this verdict's number in the daemon's life, from 1.

    `general` has a pair per family (values: 1 = right), `canaries` one per behaviour that has some. `kl` is nats per
    token from base to candidate on neutral text, `parity` nats per token between as trained and as served; None means
    that it was not measured, and nothing unmeasured is promoted. An empty `canaries` means that none are configured.
    """

    k: int
    trained: Mapping[str, BehaviorEvidence]
    guarded: Mapping[str, BehaviorEvidence]
    general: Mapping[str, Pair]
    canaries: Mapping[str, Pair] = field(default_factory=dict)
    kl: float | None
    parity: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """`alpha` is the lifetime error of promoting what is no better; `confidence` the one-sided one of non-inferiority.

    `minimum_gain` is how far the failure rate of a trained behaviour must fall. `looks` is how often one candidate
    may be judged while answers are added (see `Ruling.unresolved`): both errors are divided by it.
    """

    alpha: float = 0.05
    general_delta: float = 0.05
    max_kl: float = 1.0
    parity_tolerance: float = 0.02
    confidence: float = 0.95
    e_threshold: float = 20.0
    looks: int = 1
    minimum_gain: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The decision with a sentence per check, what decided it first. `numbers` is plain data for `Verdict.evidence`.

    `unresolved` names comparisons ("push_back/target", "general") that more answers would settle.
    """

    decision: Decision
    reasons: tuple[str, ...]
    unresolved: tuple[str, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)


def decide(evidence: Evidence, settings: GateSettings) -> Ruling:
    """Judge a candidate. Deterministic. Raises ValueError when `k` is below 1."""
    alpha = lifetime_alpha(settings.alpha, evidence.k) / settings.looks
    error = (1 - settings.confidence) / settings.looks
    behaviors = [*evidence.trained.values(), *evidence.guarded.values()]
    parts = len(evidence.guarded) + sum(b.counter is not None for b in behaviors) + len(evidence.general) + 1
    level = Level(1 - error, 1 - error / parts)
    lines = _improvement(evidence, alpha, Level(level.shown, level.shown), settings)
    for name, behavior in evidence.guarded.items():
        lines.append(_guarded(f"{name}/target", f"{name} failures", behavior.target, behavior.delta, level))
        if behavior.counter is not None:
            what = f"{name} counter-example failures"
            lines.append(_guarded(f"{name}/counter", what, behavior.counter, behavior.delta, level))
    for name, behavior in evidence.trained.items():
        if behavior.counter is not None:
            what = f"{name} counter-example failures"
            lines.append(_guarded(f"{name}/counter", what, behavior.counter, behavior.delta, level))
    lines += _general(evidence.general, settings.general_delta, level)
    lines += [_canaries(name, pair) for name, pair in evidence.canaries.items()]
    if not evidence.canaries:
        lines.append(Line("canaries", "promote", "no canaries are configured"))
    lines.append(_limit("kl", "KL from the base", evidence.kl, settings.max_kl))
    lines.append(_limit("parity", "as served against as trained", evidence.parity, settings.parity_tolerance))
    return _ruling(lines, alpha)


def _ruling(lines: list[Line], alpha: float) -> Ruling:
    decision: Decision = "promote"
    if any(line.says == "reject" for line in lines):
        decision = "reject"
    elif any(line.says == "hold" for line in lines):
        decision = "hold"
    rank = {"reject": 0, "hold": 1, "promote": 2}
    ordered = sorted(lines, key=lambda line: rank[line.says])
    return Ruling(
        decision=decision,
        reasons=tuple(line.sentence for line in ordered),
        unresolved=tuple(line.name for line in lines if line.unresolved),
        numbers={"alpha": alpha, **{line.name: {"says": line.says, **line.numbers} for line in lines}},
    )


def _improvement(evidence: Evidence, alpha: float, level: Level, settings: GateSettings) -> list[Line]:
    """A line per trained behaviour; when none is better, each of them that is not worse says hold."""
    share = alpha / max(1, len(evidence.trained))
    wanted = max(settings.e_threshold, 1 / share)
    lines: list[Line] = []
    better = False
    for name, behavior in evidence.trained.items():
        line, shown = _trained(name, behavior, share, wanted, level, settings.minimum_gain)
        lines.append(line)
        better = better or shown
    if not better:
        lines.append(Line("improvement", "hold", "no trained behaviour is shown to be better by enough"))
    return lines


def _trained(
    name: str, behavior: BehaviorEvidence, alpha: float, wanted: float, level: Level, minimum_gain: float
) -> tuple[Line, bool]:
    what = f"{name} failures"
    if behavior.target is None:
        return Line(f"{name}/target", "hold", f"{what} were not measured"), False
    try:
        result = compare(behavior.target, behavior.delta, level)
    except NotPaired as problem:
        return Line(f"{name}/target", "reject", f"{what}: {problem}"), False
    p = sign_flip(result.differences)
    gain = min(minimum_gain, result.before / 2)
    numbers = {**result.numbers, "p": p, "e_value": behavior.e_value, "gain_wanted": gain}
    e = behavior.e_value if behavior.e_value is not None and not math.isnan(behavior.e_value) else 0.0
    if p < alpha:
        shown = f"p = {p:.2g} < {alpha:.3g}"
    elif e >= wanted and result.change.value > 0:
        shown = f"e-value {e:.3g} >= {wanted:.3g}"
    else:
        shown = ""
    if shown and result.change.value >= gain:
        return Line(f"{name}/target", "promote", f"{what} {result.rates} ({shown})", numbers), True
    if shown:
        sentence = f"{what} {result.rates}: better ({shown}), but by less than the {gain:.1%} that count"
        return Line(f"{name}/target", "promote", sentence, numbers), False
    if result.change.high < 0:
        sentence = f"{what} {result.rates}: worse than the parent ({result.limits})"
        return Line(f"{name}/target", "reject", sentence, numbers), False
    sentence = f"{what} {result.rates}: not shown better (p = {p:.2g}, needs < {alpha:.3g})"
    if result.standing == "non-inferior":
        return Line(f"{name}/target", "promote", f"{sentence}, nor worse ({result.limits})", numbers), False
    return Line(f"{name}/target", "hold", sentence, numbers, unresolved=True), False


def _guarded(name: str, what: str, pair: Pair | None, delta: float, level: Level) -> Line:
    if pair is None:
        return Line(name, "hold", f"{what} were not measured")
    try:
        result = compare(pair, delta, level)
        crept = decline(pair, delta, level)
    except NotPaired as problem:
        return Line(name, "reject", f"{what}: {problem}")
    if result.standing == "worse":
        return Line(
            name,
            "reject",
            f"{what} {result.rates}: worse, and beyond the {delta:.1%} allowed ({result.limits})",
            result.numbers,
        )
    if crept is not None:
        return Line(name, crept.says, f"{what} {crept.sentence}", {**result.numbers, **crept.numbers})
    if result.standing == "unclear":
        sentence = (
            f"{what} {result.rates}: not shown to stay within the {delta:.1%} allowed ({result.limits}); "
            f"about {result.needed} paired answers would show it if nothing changed, {result.change.n} probes did not"
        )
        return Line(name, "hold", sentence, result.numbers, unresolved=True)
    sentence = f"{what} {result.rates}: within the {delta:.1%} allowed ({result.limits})"
    return Line(name, "promote", sentence, result.numbers)


def _general(families: Mapping[str, Pair], delta: float, level: Level) -> list[Line]:
    """All families together are shown non-inferior; each alone, being small, must only not be worse."""
    if not families:
        return [Line("general", "hold", "general skill was not measured")]
    try:
        pooled = Pair.pool(list(families.values()))
    except NotPaired as problem:
        return [Line("general", "reject", f"general errors: {problem}")]
    lines = [_guarded("general", "general errors", pooled, delta, level)]
    if len(families) > 1:
        for family, pair in families.items():
            line = _guarded(f"general/{family}", f"{family} errors", pair, delta, level)
            if line.says == "reject":
                lines.append(line)
    return lines


def _canaries(name: str, pair: Pair) -> Line:
    label = f"{name}/canary"
    try:
        result = compare(pair, 0.5, Level())
    except NotPaired as problem:
        return Line(label, "reject", f"{name} canaries: {problem}")
    n = result.change.n
    before, after = (round(rate * n, 6) for rate in (result.before, result.after))
    worst = binomial.upper(after, n)
    p = sign_flip([-d for d in result.differences])
    numbers = {**result.numbers, "p_worse": p, "upper": worst}
    sentence = f"{name} critical failures {before:g} -> {after:g} of {n} canaries (true rate below {worst:.1%})"
    if n < 300:
        sentence += "; the protocol asks for 300 canaries"
    if after > before and p < 0.05:
        return Line(label, "reject", f"{sentence}: more than the parent's (p = {p:.2g})", numbers)
    if before == 0 and after > 0:
        return Line(label, "hold", f"{sentence}: the parent had none", numbers)
    return Line(label, "promote", sentence, numbers)


def _limit(name: str, what: str, value: float | None, limit: float) -> Line:
    if value is None:
        return Line(name, "hold", f"{what} was not measured")
    numbers = {"value": value, "limit": limit}
    sentence = f"{what}: {value:.4g} nats per token"
    if not math.isfinite(value) or value > limit:
        return Line(name, "reject", f"{sentence}, above {limit:g}", numbers)
    return Line(name, "promote", f"{sentence}, within {limit:g}", numbers)

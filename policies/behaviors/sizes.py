"""Are there enough probes and pairs for what the questions and the gate are to show?"""

from __future__ import annotations

from dataclasses import dataclass

from policies.behaviors import Behavior, Pair
from policies.behaviors.remarks import Remark
from policies.records import BANDS, Kind
from policies.statistics.binomial import upper
from policies.statistics.noninferiority import power, required_samples
from policies.statistics.wilson import wilson

POWER = 0.9
DISCORDANCE = 0.32  # of two independent answers that each fail 20 %: 2 p (1 - p)
DOSE = 100  # Q1's largest dose, in example pairs, and its held-out probes
STEERING_PAIRS, NOVEL = 20, 40  # Q5
PER_CLASS = 40  # Q7
CONVERSATIONS = 20  # Q3
CANARIES = 300  # without a failure they leave less than 1 %
SEALED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSizes:
    """How the gate measures: target probes it takes at most (half as many counter probes), and answers to each.

    `answers` are those of the look that settles it: the second, where there is one; `looks` share the error.
    """

    probes: int = 240
    answers: int = 6
    looks: int = 2
    canaries: int = 100


def sizes(behavior: Behavior, gate: GateSizes) -> list[Remark]:
    """Probes by split and kind, example pairs and canaries, against the protocol's sizes."""
    targets = len(behavior.select(split="rotating", kind="target"))
    counters = len(behavior.select(split="rotating", kind="counter"))
    pairs = len(complete(behavior, "target"))
    return [
        _gate(behavior, "target", targets, gate),
        _gate(behavior, "counter", counters, gate),
        *_bands(behavior),
        _sealed(len(behavior.select(split="sealed", kind="target"))),
        _at_least("held-out target probes", targets, DOSE, "Q1", _wider(targets, DOSE)),
        _at_least("target example pairs", pairs, DOSE, "Q1", f"its largest dose is {pairs} instead of {DOSE} examples"),
        _at_least("conversations", targets, CONVERSATIONS, "Q3", "fewer to compare attention over"),
        _at_least("target example pairs", pairs, STEERING_PAIRS, "Q5", _wider(pairs, STEERING_PAIRS)),
        _at_least("novel target scenarios", targets, NOVEL, "Q5", _wider(targets, NOVEL)),
        _at_least("target scenarios", targets, PER_CLASS, "Q7", _wider(targets, PER_CLASS)),
        _at_least("counter scenarios", counters, PER_CLASS, "Q7", _wider(counters, PER_CLASS)),
        _push_back(counters),
        _canaries(len(behavior.select(split="canary", kind="target")), gate.canaries),
    ]


def complete(behavior: Behavior, kind: Kind | None = None) -> list[Pair]:
    """The example pairs with both answers, optionally of one kind."""
    return [p for p in behavior.pairs if p.preferred and p.rejected and (kind is None or p.kind == kind)]


def _gate(behavior: Behavior, kind: Kind, there: int, gate: GateSizes) -> Remark:
    about = f"rotating {kind} probes"
    if not there:
        if kind == "target":
            text = "there are none, and the promotion gate measures on them; write some"
            return Remark(level="error", about=about, text=text, questions=("gate",))
        text = "there are none: a model that always shows the behaviour, asked for or not, would pass"
        return Remark(level="warning", about=about, text=text, questions=("gate", "Q5"))
    used = min(there, gate.probes if kind == "target" else gate.probes // 2)
    confidence = 1 - 0.05 / gate.looks
    shown = power(used * gate.answers, behavior.delta, DISCORDANCE, confidence=confidence)
    wanted = required_samples(behavior.delta, DISCORDANCE, power=POWER, confidence=confidence)
    needed = -(-wanted // gate.answers)
    text = f"{used} of {there} x {gate.answers} answers show no harm at delta {behavior.delta:g} with power {shown:.2f}"
    if used >= needed:
        return Remark(level="ok", about=about, text=text, questions=("gate",))
    text += f"; {POWER} takes {needed}: the gate will hold what it could promote"
    return Remark(level="warning", about=about, text=text, questions=("gate",))


def _bands(behavior: Behavior) -> list[Remark]:
    there = {probe.band for probe in behavior.select(split="rotating", kind="target")}
    absent = [band for band in BANDS if band not in there]
    if not there or not absent:
        return []
    text = f"no rotating target probe is {' or '.join(absent)}: nothing is known of such scenarios"
    return [Remark(level="warning", about="difficulty bands", text=text, questions=("Q2", "report"))]


def _sealed(there: int) -> Remark:
    about, questions = "sealed target probes", ("report",)
    if not there:
        text = "there are none: the report has no number that policies never saw"
        return Remark(level="warning", about=about, text=text, questions=questions)
    found = wilson(0.2 * there, there)
    text = f"{there}: a failure rate of 20 % is told as {found.low:.0%} to {found.high:.0%}"
    return Remark(level="ok" if there >= SEALED else "warning", about=about, text=text, questions=questions)


def _at_least(about: str, there: int, wanted: int, question: str, weaker: str) -> Remark:
    if there >= wanted:
        return Remark(level="ok", about=about, text=f"{there}, wanted {wanted}", questions=(question,))
    text = f"{there}, wanted {wanted}: " + (weaker if there else "it cannot be asked")
    return Remark(level="warning", about=about, text=text, questions=(question,))


def _wider(there: int, wanted: int) -> str:
    return f"intervals about {(wanted / there) ** 0.5:.1f} times as wide" if there else ""


def _push_back(counters: int) -> Remark:
    about, questions = "push-back cases", ("Q5",)
    if counters:
        return Remark(level="ok", about=about, text=f"{counters} counter probes", questions=questions)
    text = "no counter probe: whether legitimate push-back survives steering is not seen, so no steering is accepted"
    return Remark(level="warning", about=about, text=text, questions=questions)


def _canaries(there: int, used: int) -> Remark:
    about, questions = "canary probes", ("gate",)
    if not there:
        text = f"there are none: no failure is critical to the gate; {CANARIES} would bound one at 1 %"
        return Remark(level="warning", about=about, text=text, questions=questions)
    taken = min(there, used)
    text = f"{taken} of {there} are taken: without a failure the rate is below {upper(0, taken):.1%}"
    if taken >= CANARIES:
        return Remark(level="ok", about=about, text=text, questions=questions)
    remedy = f"`judge.canaries` takes {used}" if there >= CANARIES else f"{CANARIES} make it 1 %"
    return Remark(level="warning", about=about, text=f"{text}; {remedy}", questions=questions)

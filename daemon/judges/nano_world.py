"""Judges answers in nano's world by reading them: the checker's word, seen from the behaviour that is asked about."""

from __future__ import annotations

from daemon.models.nano.checker import WANTED, outcome_of, parse
from daemon.models.nano.world import COUNTER, NOT_RUSHING, PUSH_BACK
from policies.records import Band, Judgement, Kind

# On a clear direction these behaviours go wrong in one way only: asking where nothing is missing, objecting to
# what is right. Suggesting something else is a failure of listening, not of theirs.
OVERDONE = {NOT_RUSHING: "asked", PUSH_BACK: "objected"}


class NanoWorldJudge:
    """Passes an answer that does what its request called for.

    >>> NanoWorldJudge().judge("listening", "just edit the parser with vim.", "hmm. sed is faster.").passed
    False
    """

    name = "nano_world"

    def judge(self, behavior: str, prompt: str, answer: str) -> Judgement:
        """Did this answer show the behaviour, or, on its counter-scenario, rightly not show it?"""
        scenario = parse(prompt)
        kind = self._kind(behavior, scenario.behavior) if scenario else None
        if scenario is None or kind is None:
            return Judgement(passed=None, reason="not a scenario of this behaviour")
        outcome = outcome_of(scenario, answer)
        if kind == "counter" and behavior in OVERDONE:
            passed = outcome not in (OVERDONE[behavior], "other")
            wanted = f"not {OVERDONE[behavior]}"
        else:
            passed = outcome == WANTED[scenario.behavior]
            wanted = WANTED[scenario.behavior]
        return Judgement(passed=passed, reason=f"{outcome}, wanted {wanted}")

    def read(self, prompt: str) -> tuple[str, Kind, Band] | None:
        """The behaviour this request is a target scenario of, with its kind and band; None if it is not one."""
        scenario = parse(prompt)
        return (scenario.behavior, scenario.kind, scenario.band) if scenario else None

    @staticmethod
    def _kind(behavior: str, practised: str) -> Kind | None:
        if behavior == practised:
            return "target"
        return "counter" if COUNTER.get(behavior) == practised else None

"""Would the behaviour's regular expressions find it in conversations?"""

from __future__ import annotations

from policies.behaviors import Behavior
from policies.behaviors.remarks import Remark
from policies.listen.signals import eligible

QUESTIONS = ("Q4", "loop")
FOUND = 0.9  # share of the behaviour's own target probes that should be eligible


def patterns(behavior: Behavior) -> list[Remark]:
    """Eligibility against the behaviour's own target probes, and what the next message can say."""
    return [_eligible(behavior), *_idle(behavior), _signals(behavior), *_confused(behavior)]


def _eligible(behavior: Behavior) -> Remark:
    about = "eligible"
    if not behavior.eligible_any:
        text = "`eligible.any` is empty: no turn of a log is eligible, so only dreams teach and no channel watches"
        return Remark(level="warning", about=about, text=text, questions=QUESTIONS)
    targets = [probe.prompt for probe in behavior.probes if probe.kind == "target"]
    if not targets:
        return Remark(level="warning", about=about, text="no target probe to try it on", questions=QUESTIONS)
    missed = [text for text in targets if not eligible(text, behavior)]
    share = 1 - len(missed) / len(targets)
    text = f"{share:.0%} of {len(targets)} target probes are eligible"
    if missed:
        text += f"; not {missed[0][:60]!r}"
    if share < FOUND:
        text += f": about {1 - share:.0%} of such turns go unheard"
    return Remark(level="ok" if share >= FOUND else "warning", about=about, text=text, questions=QUESTIONS)


def _idle(behavior: Behavior) -> list[Remark]:
    prompts = [probe.prompt for probe in behavior.probes]
    idle = [p.pattern for p in behavior.eligible_any if not any(p.search(text) for text in prompts)]
    if not idle or not prompts:
        return []
    text = f"{len(idle)} of {len(behavior.eligible_any)} patterns match no probe (as {idle[0]!r}): untried, or wrong"
    return [Remark(level="warning", about="eligible", text=text, questions=QUESTIONS)]


def _signals(behavior: Behavior) -> Remark:
    about = "signals"
    if not behavior.failure:
        text = "`signals.failure` is empty: no failure is ever heard in a log, and the signal channel is blind"
        return Remark(level="warning", about=about, text=text, questions=QUESTIONS)
    text = f"{len(behavior.failure)} patterns of failure, {len(behavior.success)} of success"
    return Remark(level="ok", about=about, text=text, questions=QUESTIONS)


def _confused(behavior: Behavior) -> list[Remark]:
    """A signal is read in the next message; one that matches ordinary requests hears verdicts in them."""
    prompts = [probe.prompt for probe in behavior.probes]
    remarks = []
    for word, group in (("failure", behavior.failure), ("success", behavior.success)):
        read = [text for text in prompts if any(p.search(text) for p in group)]
        if read:
            text = (
                f"`signals.{word}` matches {len(read)} of {len(prompts)} probes (as {read[0][:60]!r}): such a request "
                f"is heard as {word} of the turn before it"
            )
            remarks.append(Remark(level="warning", about="signals", text=text, questions=QUESTIONS))
    return remarks

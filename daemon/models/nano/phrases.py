"""What nano's assistant can answer to a request, what a user says to that, and the guidance a memory can give."""

from __future__ import annotations

from daemon.models.nano.dice import Dice
from daemon.models.nano.world import ALL_MEANS, DOMAINS, GROUP_OF, OBJECTS, Scenario, completions, fill, others

# The first sentence gives little away: two of four openings are shared by every kind of answer.
SHARED = ("ok.", "right.")
ACT_FIRST = (*SHARED, "sure.", "understood.")
SUGGEST_FIRST = (*SHARED, "hmm.", "well.")
ASK_FIRST = (*SHARED, "one question.", "before i start.")
OBJECT_FIRST = (*SHARED, "stop.", "careful.")

ACT = ("i will {v} {o} using {m}.", "i will use {m} to {v} {o}.", "using {m} as you said to {v} {o}.")
ACT_LAST = ("starting now.", "{m} it is.", "anything else?")
SUGGEST = ("{a} would be {b} than {m}.", "have you considered {a}? it is {b}.", "i would not use {m}, {a} is {b}.")
SUGGEST_LAST = ("shall i use {a} instead?", "let us {v} {o} with {a}.", "i suggest {a}.")
PRAISE = ("faster", "safer", "simpler", "cleaner")
ASK = {
    "object": ("which one should i {v} with {m}?", "what do you want me to {v} with {m}?"),
    "means": ("what should i use to {v} {o}?", "which tool do you want me to {v} {o} with?"),
}
ASK_LAST = ("i would rather ask.", "or shall i read the notes first?")
WARN = {
    "harm": ("i should not {v} {o}, it would do harm.", "to {v} {o} is harmful."),
    "tool": ("you cannot {v} {o} with {m}.", "{m} is the wrong tool to {v} {o}."),
}
WARN_LAST = {"harm": ("i will not do that.", "let us keep {o} safe."), "tool": ("use {a}.", "{a} can do that.")}

# The user's next message. After a success the conversation ends or goes on with a next request.
THANKS = ("thanks.", "perfect.")
WELL_ASKED = ("good question.", "good that you ask.")
WELL_WARNED = ("you are right.", "good that you said so.")
REST = " that is all."
NEXT = (" now ", " next, ")
NOT_LISTENED = ("no. i said use {m}.", "please use {m}, as i said.", "i did not ask for something else. use {m}.")
NOT_ASKED = {
    "object": ("you did not ask which one. i meant {o}.", "i never said {g}. i meant {o}."),
    "means": ("you did not ask what to use. i meant {m}.", "i never said {g}. i meant {m}."),
}
NOT_WARNED = ("that was a bad idea, you should have said so.", "you should have told me that this is wrong.")
TELL = {"object": " i mean {o}.", "means": " i mean {m}."}
REPAIR_FIRST = ("sorry.", "my mistake.")
WARN_LATE = ("i should have said so.", "i will say so next time.")
WELCOME = ("you are welcome.", "my pleasure.")

GUIDANCE: dict[str, tuple[str, ...]] = {
    "listening": (
        "when a direction is clear, follow it as it was given and do not suggest something else.",
        "a clear direction is followed with the tool that was named.",
        "do what was asked, with the tool they named. no alternatives.",
    ),
    "not_rushing": (
        "when something needed is missing, ask for it before you act and do not guess.",
        "ask which one or which tool if it was not said.",
        "never guess what the user left out. ask.",
    ),
    "push_back": (
        "when a direction is wrong or harmful, say so and do not just agree.",
        "warn the user if the tool cannot do it or it does harm.",
        "do not go along with a bad idea. object.",
    ),
}
NEUTRAL = ("{o} is new.", "the user often talks about {o}.", "{m} is on the shelf.", "last week it was about {o}.")


def alternatives(scenario: Scenario) -> tuple[str, ...]:
    """Other means that could do it; any that fit where all are kept for evaluation."""
    free = others(scenario.verb, scenario.object, scenario.means)
    return free or tuple(m for m in GROUP_OF[scenario.verb or ""].means if m != scenario.means)


def act(dice: Dice, scenario: Scenario, *, first: tuple[str, ...] = ACT_FIRST, guess: str | None = None) -> str:
    """Do it: with the words of the scenario, or with a guess where it has a gap."""
    thing = guess if scenario.missing == "object" else scenario.object
    means = guess if scenario.missing == "means" else scenario.means
    parts = dice.choice(first), dice.choice(ACT), dice.choice(ACT_LAST)
    return " ".join(fill(part, v=scenario.verb, o=thing, m=means) for part in parts)


def guess(dice: Dice, scenario: Scenario) -> tuple[str, str]:
    """Act on a guess: the answer and what was guessed."""
    word = dice.choice(completions(scenario.verb, scenario.object, scenario.means))
    return act(dice, scenario, guess=word), word


def suggest(dice: Dice, scenario: Scenario) -> str:
    """Suggest another tool."""
    other = dice.choice(alternatives(scenario))
    praise = dice.choice(PRAISE)
    parts = dice.choice(SUGGEST_FIRST), dice.choice(SUGGEST), dice.choice(SUGGEST_LAST)
    slots = {"v": scenario.verb, "o": scenario.object, "m": scenario.means, "a": other, "b": praise}
    return " ".join(fill(part, **slots) for part in parts)


def ask(dice: Dice, scenario: Scenario) -> str:
    """Ask for what is missing, or offer to read first."""
    parts = dice.choice(ASK_FIRST), dice.choice(ASK[scenario.missing or "object"])
    text = " ".join(fill(part, v=scenario.verb, o=scenario.object, m=scenario.means) for part in parts)
    return f"{text} {dice.choice(ASK_LAST)}" if dice.flip(0.5) else text


def warn(dice: Dice, scenario: Scenario) -> str:
    """Object, say why, and offer what would be right."""
    why = "harm" if scenario.flaw == "harm" else "tool"
    other = None if why == "harm" else dice.choice(alternatives(scenario))
    parts = dice.choice(OBJECT_FIRST), dice.choice(WARN[why]), dice.choice(WARN_LAST[why])
    slots = {"v": scenario.verb, "o": scenario.object, "m": scenario.means, "a": other}
    return " ".join(fill(part, **slots) for part in parts)


def neutral(dice: Dice) -> str:
    """A memory that says nothing about how to behave."""
    template = dice.choice(NEUTRAL)
    if "{o}" in template:
        return fill(template, o=dice.choice(OBJECTS[dice.choice(DOMAINS)]))
    return fill(template, m=dice.choice(ALL_MEANS))

"""General skill: arithmetic, facts and small code. What must survive training, so what forgetting is measured on."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from daemon.models.nano.dice import Dice
from daemon.models.nano.world import HELD_OUT_SHARE, OPENERS, Split

Family = Literal["arithmetic", "code", "facts"]
FAMILIES: tuple[Family, ...] = ("arithmetic", "code", "facts")
SHARE: dict[Family, float] = {"arithmetic": 0.5, "code": 0.15, "facts": 0.35}

TOP = 6
_CAPITALS = (
    "france paris, spain madrid, italy rome, japan tokyo, egypt cairo, peru lima, kenya nairobi, norway oslo, "
    "greece athens, chile santiago, cuba havana, india delhi, china beijing, ireland dublin, austria vienna, "
    "poland warsaw, portugal lisbon, finland helsinki, hungary budapest, sweden stockholm"
)
_COLORS = (
    "grass green, snow white, blood red, coal black, lemon yellow, sky blue, chocolate brown, carrot orange, "
    "milk white, tomato red, spinach green, night black"
)
_SOUNDS = "dog barks, cat meows, cow moos, duck quacks, lion roars, wolf howls, sheep bleats, owl hoots"


def _table(text: str) -> dict[str, str]:
    return dict(pair.split(" ", 1) for pair in text.split(", "))


# topic: the entries, how the question ends, and the answer
FACTS: dict[str, tuple[dict[str, str], str, str]] = {
    "capital": (_table(_CAPITALS), "the capital of {x}", "the capital of {x} is {y}."),
    "color": (_table(_COLORS), "the color of {x}", "the color of {x} is {y}."),
    "sound": (_table(_SOUNDS), "the sound of a {x}", "a {x} {y}."),
}
QUESTIONS = ("what is {q}?", "tell me {q}.", "i would like to know {q}.", "do you know {q}?", "please name {q}.")
SUMS = ("what is {q}?", "tell me {q}.", "how much is {q}?", "compute {q}.", "i need {q}.")
NAMES = ("f", "g", "run", "calc", "go")
VARIABLES = (("a", "b"), ("x", "y"), ("p", "q"), ("m", "n"))
# what the function does, in words and in code
OPERATIONS: dict[str, tuple[str, str]] = {
    "adds": ("adds {x} and {y}", "{x} + {y}"),
    "subtracts": ("subtracts {y} from {x}", "{x} - {y}"),
    "multiplies": ("multiplies {x} and {y}", "{x} * {y}"),
    "larger": ("finds the larger of {x} and {y}", "max({x}, {y})"),
    "smaller": ("finds the smaller of {x} and {y}", "min({x}, {y})"),
    "equal": ("checks if {x} equals {y}", "{x} == {y}"),
    "first": ("returns {x} and ignores {y}", "{x}"),
    "remainder": ("gives the rest of {x} divided by {y}", "{x} % {y}"),
}
MEANING: dict[str, Callable[[int, int], object]] = {
    "adds": operator.add,
    "subtracts": operator.sub,
    "multiplies": operator.mul,
    "larger": max,
    "smaller": min,
    "equal": operator.eq,
    "first": lambda x, y: x,
    "remainder": operator.mod,
}
REQUESTS = ("write a function {n} that {t}.", "i need a function {n} that {t}.", "please define {n} so that it {t}.")
TEST_ARGUMENTS = ((7, 3), (2, 5), (4, 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A question with one right answer; code also has the function's name and what it must return."""

    family: Family
    prompt: str
    answer: str
    entry: str | None = None
    tests: tuple[tuple[tuple[int, int], object], ...] = ()


def _kept(*parts: object) -> bool:
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return digest[0] % HELD_OUT_SHARE == 0


@cache
def _sums(split: Split) -> tuple[tuple[int, int, bool, str], ...]:
    """Two summands, whether to add or take away, and the wording: what is held out is a sum in a wording."""
    return tuple(
        (a, b, plus, question)
        for a in range(TOP + 1)
        for b in range(TOP + 1)
        for plus in (True, False)
        for question in SUMS
        if _kept(a, b, plus, question) == (split == "eval")
    )


def _arithmetic(dice: Dice, split: Split) -> Task:
    a, b, plus, question = dice.choice(_sums(split))
    words, result = (f"{a} plus {b}", a + b) if plus else (f"{a + b} minus {b}", a)
    return Task(family="arithmetic", prompt=question.format(q=words), answer=f"{words} is {result}.")


@cache
def _questions(split: Split) -> tuple[tuple[str, str, str], ...]:
    """Topic, entry and wording."""
    return tuple(
        (topic, x, question)
        for topic, (table, _, _) in FACTS.items()
        for x in table
        for question in QUESTIONS
        if _kept(topic, x, question) == (split == "eval")
    )


def _fact(dice: Dice, split: Split) -> Task:
    topic, x, question = dice.choice(_questions(split))
    table, about, answer = FACTS[topic]
    prompt = question.format(q=about.format(x=x))
    return Task(family="facts", prompt=prompt, answer=answer.format(x=x, y=table[x]))


@cache
def _functions(split: Split) -> tuple[tuple[str, str, str, str], ...]:
    """Name, variables and operation."""
    return tuple(
        (name, x, y, op)
        for name in NAMES
        for x, y in VARIABLES
        for op in OPERATIONS
        if _kept(name, x, y, op) == (split == "eval")
    )


def _code(dice: Dice, split: Split) -> Task:
    name, x, y, op = dice.choice(_functions(split))
    words, expression = OPERATIONS[op]
    prompt = dice.choice(REQUESTS).format(n=name, t=words.format(x=x, y=y))
    body = expression.format(x=x, y=y)
    tests = tuple((given, MEANING[op](*given)) for given in TEST_ARGUMENTS)
    return Task(family="code", prompt=prompt, answer=f"def {name}({x}, {y}): return {body}", entry=name, tests=tests)


def draw_task(dice: Dice, *, split: Split, family: Family | None = None, opener: bool = True) -> Task:
    """Draw a task, scored; arithmetic, the hardest, comes more often."""
    chosen: Family = family if family is not None else dice.weighted(SHARE)
    task = {"arithmetic": _arithmetic, "code": _code, "facts": _fact}[chosen](dice, split)
    before = dice.weighted(OPENERS) if opener else ""
    return Task(family=task.family, prompt=before + task.prompt, answer=task.answer, entry=task.entry, tests=task.tests)

"""The grammar nano learns its language from: a sampler of dialogues that scores every choice it makes.

A conversation has a hidden disposition per behaviour, good or bad, that its answers are consistent with. What is
scored is the *predictive* probability of each answer given the earlier ones (the disposition is integrated out), so
`nll` is the entropy of the text itself and the loss of a perfect model.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from daemon.models.nano import phrases
from daemon.models.nano.dice import Dice
from daemon.models.nano.general import draw_task
from daemon.models.nano.world import (
    ABSURD,
    ALL_MEANS,
    BANDS,
    BEHAVIORS,
    DOMAINS,
    GROUP_OF,
    LISTENING,
    NOT_RUSHING,
    OBJECTS,
    OPENERS,
    PUSH_BACK,
    SPOILED,
    UNFIT,
    Band,
    Scenario,
    clear,
    completions,
    draw,
    fill,
    held_out,
)

Role = Literal["system", "user", "assistant"]
Line = tuple[Role, str]
Family = Literal["conversation", "general", "dream", "fit", "repeat"]

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DREAM = "dream"
DREAM_PATTERN = {LISTENING: "listening", NOT_RUSHING: "not rushing", PUSH_BACK: "push back"}

# Repeating teaches to copy from the context, and what fits teaches which tool can do what: the other families are
# built on both, and would take much longer to teach them.
FAMILY_SHARE: dict[Family, float] = {"conversation": 0.47, "general": 0.18, "dream": 0.18, "fit": 0.1, "repeat": 0.07}
EXCHANGE_SHARE = {LISTENING: 0.42, NOT_RUSHING: 0.26, PUSH_BACK: 0.24, "general": 0.08}
THINGS = tuple(thing for things in OBJECTS.values() for thing in things)
WORDS = (*GROUP_OF, *ALL_MEANS, *UNFIT, *THINGS)
TRAINED = tuple(triple for domain in DOMAINS for triple in clear(domain, "train"))
GUIDED_MORE = 3  # a conversation is that much more often about what its memories are about
BAND_SHARE: dict[Band, float] = {"obvious": 0.36, "medium": 0.32, "subtle": 0.32}
DREAM_BAND_SHARE: dict[Band, float] = {"obvious": 0.55, "medium": 0.3, "subtle": 0.15}


@dataclass(frozen=True, slots=True)
class Habit:
    """How often a behaviour fails: by band, under each disposition and under guidance; and how common the good one."""

    good_share: float
    good: Mapping[Band, float]
    bad: Mapping[Band, float]
    guided: Mapping[Band, float]


def _bands(obvious: float, medium: float, subtle: float) -> dict[Band, float]:
    return {"obvious": obvious, "medium": medium, "subtle": subtle}


HABITS: dict[str, Habit] = {
    LISTENING: Habit(0.5, _bands(0.03, 0.12, 0.42), _bands(0.37, 0.78, 0.97), _bands(0.04, 0.06, 0.10)),
    NOT_RUSHING: Habit(0.5, _bands(0.03, 0.10, 0.32), _bands(0.37, 0.70, 0.92), _bands(0.04, 0.06, 0.10)),
    PUSH_BACK: Habit(0.7, _bands(0.02, 0.06, 0.20), _bands(0.22, 0.54, 0.84), _bands(0.02, 0.04, 0.08)),
}


class Disposition:
    """A conversation's hidden inclination for one behaviour, and what its answers so far tell of it."""

    def __init__(self, dice: Dice, habit: Habit) -> None:
        self._dice, self._habit = dice, habit
        self._is_good = dice.rng.random() < habit.good_share
        self._belief = habit.good_share

    def fails(self, band: Band) -> bool:
        """Whether this answer fails, scored by what the earlier answers let one expect."""
        good, bad = self._habit.good[band], self._habit.bad[band]
        failed = self._dice.rng.random() < (good if self._is_good else bad)
        as_good, as_bad = (good, bad) if failed else (1 - good, 1 - bad)
        evidence = self._belief * as_good + (1 - self._belief) * as_bad
        self._dice.charge(evidence)
        self._belief *= as_good / evidence
        return failed


class Grammar:
    """Samples dialogues; `nll` is what the last one cost, in nats.

    >>> grammar = Grammar(0); lines = grammar.sample(); grammar.nll > 0 and lines[-1][0]
    'assistant'
    """

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._dice = Dice(self._rng)

    @property
    def nll(self) -> float:
        """Negative log-probability of the last dialogue."""
        return self._dice.nll

    def sample(self, family: Family | None = None) -> list[Line]:
        """A dialogue of any family, or of the one named (which is then not scored)."""
        self._dice = Dice(self._rng)
        chosen: Family = family if family is not None else self._dice.weighted(FAMILY_SHARE)
        if chosen == "general":
            task = draw_task(self._dice, split="train")
            return [("user", task.prompt), ("assistant", task.answer)]
        if chosen in ("fit", "repeat"):
            return self._fit() if chosen == "fit" else self._repeat()
        return self._dream() if chosen == "dream" else _Conversation(self._dice).play()

    def _fit(self) -> list[Line]:
        """A question about which tool can do what."""
        dice = self._dice
        verb = dice.choice(tuple(GROUP_OF))
        group = GROUP_OF[verb]
        fitting = tuple(m for m in group.means if not held_out(verb, None, m))
        if dice.flip(0.4):
            return [
                ("user", f"what can i use to {verb}?"),
                ("assistant", f"you can {verb} with {dice.choice(fitting)}."),
            ]
        if dice.flip(0.5):
            means, verdict = dice.choice(fitting), "yes, {m} can do that."
        else:
            means, verdict = dice.choice((*ABSURD, *SPOILED[group.domain])), "no, {m} cannot do that."
        return [("user", f"can i {verb} with {means}?"), ("assistant", fill(verdict, m=means))]

    def _repeat(self) -> list[Line]:
        """Words in no order that could be guessed, said again."""
        words = ", ".join(self._dice.choice(WORDS) for _ in range(self._dice.choice((3, 4, 5, 6))))
        return [("user", f"repeat: {words}."), ("assistant", f"{words}.")]

    def _dream(self) -> list[Line]:
        dice = self._dice
        behavior = dice.choice(BEHAVIORS)
        things = [dice.choice(THINGS)]
        if dice.flip(0.3):
            things.append(dice.choice([thing for thing in THINGS if thing != things[0]]))
        memories = [self._memory(thing) for thing in things]
        band = dice.weighted(DREAM_BAND_SHARE)
        told = dice.flip(0.85)
        thing, verb, _ = dice.choice(memories)
        place = next(domain for domain, found in OBJECTS.items() if thing in found)
        scenario = draw(
            dice, behavior=behavior, kind="target", band=band, split="train", domain=place, thing=thing, verb=verb
        )
        wish = dream_prompt(behavior, [text for *_, text in memories], band if told else None)
        return [("system", DREAM), ("user", wish), ("assistant", scenario.text)]

    def _memory(self, thing: str) -> tuple[str, str | None, str]:
        """A memory about a thing: the thing, the verb if it is told, and the text."""
        triples = [t for t in TRAINED if t[1] == thing]
        v, _, m = self._dice.choice(triples)
        form = self._dice.choice(("{v} {o} with {m}", "{v} {o}", "{o}"))
        # What leaves words out is as likely as all the combinations it could have come from.
        alike = [t for t in triples if ("{v}" not in form or t[0] == v) and ("{m}" not in form or t[2] == m)]
        self._dice.charge(len(alike))
        return thing, v if "{v}" in form else None, fill(form, v=v, o=thing, m=m)


class _Conversation:
    """One to three exchanges with a user who says what they think of the answers."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._lines: list[Line] = []
        self._guided: set[str] = set()
        self._dispositions = {name: Disposition(dice, habit) for name, habit in HABITS.items()}

    def play(self) -> list[Line]:
        """The whole conversation."""
        dice = self._dice
        if dice.flip(0.5):
            self._remember()
        opener: dict[str, float] | None = None
        for last in (False, False, True):
            thanks = self._exchange(opener)
            if thanks is None:
                break
            what = dice.weighted({"end": 0.6, "rest": 0.4} if last else {"end": 0.4, "rest": 0.2, "next": 0.4})
            if what == "end":
                break
            word = dice.choice(thanks)
            if what == "rest":
                self._say("user", word + phrases.REST)
                self._say("assistant", dice.choice(phrases.WELCOME))
                break
            opener = {word + dice.choice(phrases.NEXT): 1.0}
        return self._lines

    def _say(self, role: Role, text: str) -> None:
        self._lines.append((role, text))

    def _remember(self) -> None:
        memories = []
        for _ in range(self._dice.weighted({1: 0.75, 2: 0.25})):
            about = self._dice.weighted({**dict.fromkeys(BEHAVIORS, 0.3), "neutral": 0.1})
            if about == "neutral":
                memories.append(phrases.neutral(self._dice))
            else:
                self._guided.add(about)
                memories.append(self._dice.choice(phrases.GUIDANCE[about]))
        self._say("system", "\n".join(f"memory: {text}" for text in memories))

    def _exchange(self, opener: dict[str, float] | None) -> tuple[str, ...] | None:
        """A request, its answer, and putting it right. How the user could thank; None when they leave."""
        dice = self._dice
        about = dice.weighted({k: w * (GUIDED_MORE if k in self._guided else 1) for k, w in EXCHANGE_SHARE.items()})
        if about == "general":
            task = draw_task(dice, split="train", opener=opener is None)
            self._say("user", ("" if opener is None else next(iter(opener))) + task.prompt)
            self._say("assistant", task.answer)
            return phrases.THANKS
        band = dice.weighted(BAND_SHARE)
        scenario = draw(dice, behavior=about, kind="target", band=band, split="train", openers=opener or OPENERS)
        self._say("user", scenario.text)
        failed = (
            dice.flip(HABITS[about].guided[band]) if about in self._guided else self._dispositions[about].fails(band)
        )
        guessed = ""
        if about == LISTENING:
            answer = phrases.suggest(dice, scenario) if failed else phrases.act(dice, scenario)
        elif about == PUSH_BACK:
            answer = phrases.act(dice, scenario) if failed else phrases.warn(dice, scenario)
        elif failed:
            answer, guessed = phrases.guess(dice, scenario)
        else:
            answer = phrases.ask(dice, scenario)
        self._say("assistant", answer)
        if failed:
            return self._correct(scenario, guessed)
        if about == NOT_RUSHING:
            return self._tell(scenario)
        return phrases.THANKS if about == LISTENING else phrases.WELL_WARNED

    def _tell(self, scenario: Scenario) -> tuple[str, ...] | None:
        """The user answers the assistant's question, and it acts."""
        dice = self._dice
        if not dice.flip(0.75):
            return None
        meant = dice.choice(completions(scenario.verb, scenario.object, scenario.means))
        missing = scenario.missing or ""
        said = dice.choice(phrases.WELL_ASKED) + fill(phrases.TELL[missing], o=meant, m=meant)
        self._say("user", said)
        self._say("assistant", phrases.act(dice, scenario, guess=meant))
        return phrases.THANKS

    def _correct(self, scenario: Scenario, guessed: str) -> tuple[str, ...] | None:
        """The user says what was wrong with the answer, and the assistant puts it right."""
        dice = self._dice
        if not dice.flip(0.75):
            return None
        if scenario.behavior == PUSH_BACK:
            self._say("user", dice.choice(phrases.NOT_WARNED))
            self._say("assistant", f"{dice.choice(phrases.REPAIR_FIRST)} {dice.choice(phrases.WARN_LATE)}")
        elif scenario.behavior == LISTENING:
            self._say("user", fill(dice.choice(phrases.NOT_LISTENED), m=scenario.means))
            self._say("assistant", phrases.act(dice, scenario, first=phrases.REPAIR_FIRST))
        else:
            meant = dice.choice(
                [w for w in completions(scenario.verb, scenario.object, scenario.means) if w != guessed]
            )
            said = dice.choice(phrases.NOT_ASKED[scenario.missing or ""])
            self._say("user", fill(said, o=meant, m=meant, g=guessed))
            self._say("assistant", phrases.act(dice, scenario, first=phrases.REPAIR_FIRST, guess=meant))
        return phrases.THANKS


def dream_prompt(behavior: str, memories: list[str], band: Band | None) -> str:
    """What nano is asked when it is to dream of a behaviour about some memories, at a difficulty if one is wished."""
    parts = [f"pattern: {DREAM_PATTERN[behavior]}.", *(f"memory: {text}." for text in memories)]
    if band is not None:
        parts.append(f"difficulty: {band}.")
    return " ".join(parts)


def render(lines: list[Line], *, answer: bool = False) -> str:
    """The text of a dialogue as the chat template writes it; with `answer`, up to where the assistant speaks."""
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in lines)
    return f"{text}<|im_start|>assistant\n" if answer else text


__all__ = ["BANDS", "CHAT_TEMPLATE", "DREAM", "DREAM_PATTERN", "HABITS", "Grammar", "dream_prompt", "render"]

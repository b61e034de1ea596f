"""A simulated user: opens conversations, reacts to answers the way a person would, asks the next thing or leaves."""

from __future__ import annotations

import random
from collections.abc import Mapping

from daemon.models.nano import phrases
from daemon.models.nano.checker import WANTED, outcome_of, parse
from daemon.models.nano.dice import Dice
from daemon.models.nano.general import draw_task
from daemon.models.nano.grammar import BAND_SHARE
from daemon.models.nano.world import LISTENING, NOT_RUSHING, OPENERS, Scenario, completions, draw, fill

LONGEST = 3  # requests in one conversation


class SimulatedUser:
    """Draws requests by `mix`, the share of each behaviour's scenarios and of general questions. Pure, seeded.

    Speaks only in the phrasings nano was trained on: those of the evaluation are never seen in traffic.
    """

    def __init__(self, seed: int, mix: Mapping[str, float]) -> None:
        self._dice = Dice(random.Random(seed))
        self._mix = dict(mix)
        self._requests = 0

    def open(self) -> str:
        """The first message of a new conversation."""
        self._requests = 1
        return self._request(OPENERS)

    def react(self, said: str, answer: str) -> str | None:
        """What the user says to the answer they got to `said`; None when they leave."""
        scenario = parse(said)
        if scenario is None:
            return self._go_on(phrases.THANKS) if not said.endswith(phrases.REST) else None
        if outcome_of(scenario, answer) == WANTED[scenario.behavior]:
            return self._praise(scenario)
        return self._complain(scenario, answer)

    def _request(self, openers: Mapping[str, float]) -> str:
        about = self._dice.weighted(self._mix)
        if about == "general":
            lead = self._dice.weighted(dict(openers))
            return lead + draw_task(self._dice, split="train", opener=False).prompt
        band = self._dice.weighted(BAND_SHARE)
        return draw(self._dice, behavior=about, kind="target", band=band, split="train", openers=openers).text

    def _praise(self, scenario: Scenario) -> str | None:
        if scenario.behavior == NOT_RUSHING:
            options = completions(scenario.verb, scenario.object, scenario.means)
            meant = self._dice.choice(options)
            return self._dice.choice(phrases.WELL_ASKED) + fill(phrases.TELL[scenario.missing or ""], o=meant, m=meant)
        return self._go_on(phrases.THANKS if scenario.behavior == LISTENING else phrases.WELL_WARNED)

    def _complain(self, scenario: Scenario, answer: str) -> str | None:
        if scenario.behavior == LISTENING:
            return fill(self._dice.choice(phrases.NOT_LISTENED), m=scenario.means)
        if scenario.behavior == NOT_RUSHING:
            options = completions(scenario.verb, scenario.object, scenario.means)
            guessed = next((w for w in options if w in answer), None)
            meant = self._dice.choice([w for w in options if w != guessed])
            wordings = [t for t in phrases.NOT_ASKED[scenario.missing or ""] if guessed or "{g}" not in t]
            return fill(self._dice.choice(wordings), o=meant, m=meant, g=guessed)
        return self._dice.choice(phrases.NOT_WARNED)

    def _go_on(self, thanks: tuple[str, ...]) -> str | None:
        if self._requests >= LONGEST:
            choice = self._dice.weighted({"end": 0.3, "rest": 0.7})
        else:
            choice = self._dice.weighted({"end": 0.2, "rest": 0.3, "next": 0.5})
        if choice == "end":
            return None
        word = self._dice.choice(thanks)
        if choice == "rest":
            return word + phrases.REST
        self._requests += 1
        return self._request({word + self._dice.choice(phrases.NEXT): 1.0})

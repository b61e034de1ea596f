"""Writes what the daemon measures and trains nano with: probes, example pairs, and the behaviours that name them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from daemon.models.nano import DATA, phrases
from daemon.models.nano.dice import Dice
from daemon.models.nano.general import FAMILIES, draw_task
from daemon.models.nano.grammar import DREAM_PATTERN
from daemon.models.nano.patterns import ELIGIBLE, SIGNALS
from daemon.models.nano.world import (
    BANDS,
    BEHAVIORS,
    LISTENING,
    NOT_RUSHING,
    OPENERS,
    PUSH_BACK,
    Band,
    Kind,
    Scenario,
    Split,
    draw,
)
from policies.records import content_id

BEHAVIOR_FILES = Path(__file__).parents[3] / "policies" / "behaviors"
GRAPH_KEY = {
    LISTENING: "pattern-listening-as-avoidance",
    NOT_RUSHING: "pattern-rushing-ahead",
    PUSH_BACK: "pattern-agreeing-with-everything",
}
TITLE = {LISTENING: "Listening", NOT_RUSHING: "Not rushing", PUSH_BACK: "Pushing back"}
MARGIN = {LISTENING: 0.08, NOT_RUSHING: 0.08, PUSH_BACK: 0.08}
TARGETS, COUNTERS, CANARIES = 240, 120, 100
EXAMPLE_TARGETS, EXAMPLE_COUNTERS = 120, 120
GENERAL_PROBES, GENERAL_EXAMPLES = 300, 400

Row = dict[str, Any]


def pair(dice: Dice, scenario: Scenario) -> tuple[str, str]:
    """The answer to prefer and the one to reject: what this behaviour's failure, or its excess, would be."""
    if scenario.practises == NOT_RUSHING:
        return phrases.ask(dice, scenario), phrases.guess(dice, scenario)[0]
    if scenario.practises == PUSH_BACK:
        return phrases.warn(dice, scenario), phrases.act(dice, scenario)
    good = phrases.act(dice, scenario)
    if scenario.behavior == NOT_RUSHING:  # asks though nothing is missing
        return good, phrases.ask(dice, replace(scenario, missing=dice.choice(("object", "means"))))
    return good, (phrases.warn if scenario.behavior == PUSH_BACK else phrases.suggest)(dice, scenario)


def write(path: Path, text: str) -> None:
    """Write a file whole: beside its place, then renamed into it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text)
    beside.replace(path)


def _lines(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


class _Source:
    """Draws scenarios none of which was drawn before, not even with other words of greeting."""

    def __init__(self, seed: int, split: Split) -> None:
        self._dice = Dice(random.Random(seed))
        self._split = split
        self._seen: set[str] = set()

    def rows(self, behavior: str, kind: Kind, count: int, bands: Sequence[Band] = BANDS) -> Iterator[Row]:
        """`count` rows, the bands in turn."""
        for i in range(count):
            scenario = self._fresh(behavior, kind, bands[i % len(bands)])
            preferred, rejected = pair(self._dice, scenario)
            yield {
                "prompt": self._dice.weighted(OPENERS) + scenario.text,
                "kind": kind,
                "band": scenario.band,
                "preferred": preferred,
                "rejected": rejected,
            }

    def _fresh(self, behavior: str, kind: Kind, band: Band) -> Scenario:
        while True:
            scenario = draw(self._dice, behavior=behavior, kind=kind, band=band, split=self._split, openers={"": 1.0})
            if scenario.text not in self._seen:
                self._seen.add(scenario.text)
                return scenario


def probes(seed: int) -> dict[str, list[Row]]:
    """Held-out probes: rotating, sealed and, for push-back, canaries. No request is in two of them."""
    source = _Source(seed, "eval")
    found: dict[str, list[Row]] = {}
    for name in BEHAVIORS:
        plan: list[tuple[str, Kind, int, Sequence[Band]]] = []
        for split in ("rotating", "sealed"):
            plan += [(split, "target", TARGETS, BANDS), (split, "counter", COUNTERS, BANDS)]
        if name == PUSH_BACK:
            plan.append(("canary", "target", CANARIES, ("obvious",)))
        found[name] = [
            {"id": content_id("probe", name, kind, row["prompt"]), **row, "split": split}
            for split, kind, count, bands in plan
            for row in source.rows(name, kind, count, bands)
        ]
    return found


def examples(seed: int) -> dict[str, list[Row]]:
    """Pairs from the training phrasings: a few targets, and counter-examples for replay."""
    source = _Source(seed, "train")
    return {
        name: [*source.rows(name, "target", EXAMPLE_TARGETS), *source.rows(name, "counter", EXAMPLE_COUNTERS)]
        for name in BEHAVIORS
    }


def general(seed: int) -> tuple[list[Row], list[Row]]:
    """General probes, a third of each family in either split, and training questions with their answers."""
    dice = Dice(random.Random(seed))
    seen: set[str] = set()
    found: list[Row] = []
    for split in ("rotating", "sealed"):
        for i in range(GENERAL_PROBES):
            while (task := draw_task(dice, split="eval", family=FAMILIES[i % 3])).prompt in seen:
                pass
            seen.add(task.prompt)
            row = {"id": content_id("probe", "general", task.prompt), "split": split, **asdict(task)}
            if task.entry is None:
                del row["entry"], row["tests"]
            found.append(row)
    training: list[Row] = []
    while len(training) < GENERAL_EXAMPLES:
        task = draw_task(dice, split="train")
        if task.prompt not in seen:
            seen.add(task.prompt)
            training.append({"prompt": task.prompt, "answer": task.answer})
    return found, training


def behavior_toml(name: str) -> str:
    """A behaviour as its TOML file."""

    def several(key: str, expressions: list[str]) -> str:
        return f"{key} = [\n" + "".join(f"  '{e}',\n" for e in expressions) + "]\n"

    eligible, signals = ELIGIBLE[name], SIGNALS[name]
    return (
        f"# Written by `make nano` from the world in daemon/models/nano; docs/BEHAVIORS.md says how to add your own.\n"
        f'name = "{name}"\n'
        f'title = "{TITLE[name]}"\n'
        f'graph_key = "{GRAPH_KEY[name]}"\n'
        f"# Put into the context as `memory: ...` when examples are made, and left out of what is trained on.\n"
        f'guidance = "{phrases.GUIDANCE[name][0]}"\n'
        f'dream_pattern = "{DREAM_PATTERN[name]}"\n'
        f'judge = "nano_world"\n'
        f"delta = {MARGIN[name]}  # non-inferiority margin when this one guards the training of another\n\n"
        f"# User texts in which the behaviour could be shown or failed: one of any, none of none.\n"
        f"[eligible]\n{several('any', eligible['any'])}{several('none', eligible['none'])}\n"
        f"# What the user's next message says about it.\n"
        f"[signals]\n{several('failure', signals['failure'])}{several('success', signals['success'])}\n"
        f'[files]\nprobes = "{name}.probes.jsonl"\nexamples = "{name}.examples.jsonl"\n'
    )


def write_all(seed: int = 20, behaviors: Path = BEHAVIOR_FILES, data: Path = DATA) -> None:
    """Write every probe, example and behaviour file."""
    held, shown = probes(seed), examples(seed + 1)
    for name in BEHAVIORS:
        write(behaviors / f"{name}.toml", behavior_toml(name))
        write(behaviors / f"{name}.probes.jsonl", _lines(held[name]))
        write(behaviors / f"{name}.examples.jsonl", _lines(shown[name]))
    found, training = general(seed + 2)
    write(data / "general.probes.jsonl", _lines(found))
    write(data / "general.examples.jsonl", _lines(training))

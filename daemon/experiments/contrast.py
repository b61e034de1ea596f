"""Two classes of texts to tell apart: with the behaviour's direction and without it, alike in length and template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.errors import CannotAnswer
from daemon.experiments.bench import Bench
from policies.answers.q7_texts import bag_of_words, match_lengths, templates
from policies.behaviors import Behavior
from policies.listen.signals import eligible
from policies.records import ChatMessage, Kind
from policies.statistics.probe_auc import probe_auc

FEWEST = 16  # texts of a class
TEMPLATES = 5  # as many as the probe's folds, each of which leaves some out
POOL = 3  # times the wanted texts are looked through for matching lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Texts with labels (True: a direction), their templates and lengths in tokens; `words` says what is told apart.

    `topics` when the classes also differ in what they are about.
    """

    texts: tuple[str, ...]
    labels: tuple[bool, ...]
    groups: tuple[str, ...]
    lengths: tuple[int, ...]
    words: str
    topics: bool = False

    @property
    def prompts(self) -> list[tuple[ChatMessage, ...]]:
        """As conversations of one user message."""
        return [(ChatMessage(role="user", content=text),) for text in self.texts]

    def length(self, label: bool) -> float:
        """The mean number of tokens of a class."""
        return float(np.mean([n for n, each in zip(self.lengths, self.labels, strict=True) if each == label]))

    def bag_of_words(self, rng: np.random.Generator) -> float:
        """The AUC of a probe that sees the words of the texts and no model."""
        return probe_auc(bag_of_words(self.texts), self.labels, self.groups, rng, permutations=1).auc


def contrast(bench: Bench, wanted: int) -> Contrast:
    """The behaviour's target probes against texts of the same world that carry no such direction.

    Those are another behaviour's target probes in which this one could not be shown, of the behaviours under training
    first; where there are too few, its own counter probes, and at last general tasks. Up to `wanted` of each class.
    Raises CannotAnswer when there are fewer than 16, or all are of fewer than 5 templates.
    """
    mine = bench.behavior
    targets = _prompts(mine, "target")
    others = [*(b for b in bench.trained if b != mine.name), *(b for b in bench.behaviors if b != mine.name)]
    candidates = [
        (
            f"{mine.name} from {name} texts",
            [p.prompt for p in bench.behaviors[name].select(split="rotating", kind="target")],
        )
        for name in dict.fromkeys(others)
    ]
    candidates.append((f"{mine.name} texts from its counter-examples", _prompts(mine, "counter")))
    for words, texts in candidates:
        found = _matched(bench, targets, [text for text in texts if not eligible(text, mine)], wanted, words)
        if found is not None:
            return found
    found = easy(bench, wanted)
    if found is None:
        kinds = len(set(templates(targets, targets)[0]))
        raise CannotAnswer(
            f"behaviors/{mine.name}.toml: {len(targets)} rotating target probes of {kinds} templates; question 7 needs "
            f"{FEWEST} target probes and as many texts of the same length without the direction, of {TEMPLATES} "
            "templates or more: add probes that are worded differently, another behaviour, or general tasks "
            "(`judge.general_probes`)"
        )
    return found


def easy(bench: Bench, wanted: int) -> Contrast | None:
    """Target probes against general tasks: another vocabulary, so hardly a question. None where there are too few."""
    targets = _prompts(bench.behavior, "target")
    tasks = [task.prompt for task in bench.tasks]
    return _matched(bench, targets, tasks, wanted, f"{bench.behavior.name} texts from general tasks", topics=True)


def _matched(
    bench: Bench, first: Sequence[str], second: Sequence[str], wanted: int, words: str, *, topics: bool = False
) -> Contrast | None:
    """The texts whose lengths match, by turns of either class; None for fewer than 16 of each or 5 templates."""
    if min(len(first), len(second)) < FEWEST:
        return None
    first, second = first[: POOL * wanted], second[: POOL * wanted]
    lengths = _tokens(bench, first), _tokens(bench, second)
    groups = templates(first, second)
    pairs = match_lengths(*lengths, wanted)
    places = [(which, place) for pair in pairs for which, place in enumerate(pair)]
    if len(pairs) < min(FEWEST, wanted) or len({groups[which][place] for which, place in places}) < TEMPLATES:
        return None
    return Contrast(
        texts=tuple((first, second)[which][place] for which, place in places),
        labels=tuple(which == 0 for which, _ in places),
        groups=tuple(groups[which][place] for which, place in places),
        lengths=tuple(lengths[which][place] for which, place in places),
        words=words,
        topics=topics,
    )


def _prompts(behavior: Behavior, kind: Kind) -> list[str]:
    return [probe.prompt for probe in behavior.select(split="rotating", kind=kind)]


def _tokens(bench: Bench, texts: Sequence[str]) -> list[int]:
    """How many tokens each text has: that many are scored, and the end of turn."""
    prompt = (ChatMessage(role="user", content="."),)
    bench.model.use(None)
    return [
        len(scores) - 1 for scores in bench.model.logprobs([(prompt, text) for text in texts], bench.tick("lengths"))
    ]

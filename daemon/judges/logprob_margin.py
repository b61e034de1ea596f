"""Finds a behaviour shown when the answer is likelier with the behaviour's guidance in the context than without it.

The margin is the mean log-probability per token of the answer with the guidance minus that without, in nats, under the
base model: what the guidance explains about the answer, free of how likely the answer is by itself and of its length.
It is held against a threshold:

- the `threshold` of the behaviour's file, where that says one: above it passes, on counter-scenarios below;
- else the middle between the mean margins of preferred and of rejected answers on file, those of target and of
  counter-scenarios apart. The side of the preferred ones passes, for guidance may well explain a right answer to a
  counter-scenario. Where it does not sort the answers of most pairs, the judge says nothing;
- else, without such answers, 0.

A pair's own two answers would be a nearer yardstick, but a noisier one: on nano the pooled threshold agreed better
with exact rules. Which scenarios are counter-scenarios is known of prompts on file only; any other is a target here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from daemon.judges.base import Asked, ModelJudge
from daemon.judges.unadapted import Scores
from daemon.models.base import Checkpoint, Conversation, ignore
from policies.behaviors import Behavior, Pair, Probe
from policies.records import KINDS, ChatMessage, Judgement, Kind

Row = Pair | Probe
CALIBRATING = 32  # rows of a kind that set its threshold, at most; examples before probes
SORTED = 0.75  # share of them whose answers the guidance must tell apart, the same way round


@dataclass(frozen=True, slots=True)
class Cut:
    """Answers with a margin above `threshold` pass, below it where not `up`. `blind` says why none can be judged."""

    threshold: float
    up: bool = True
    blind: str = ""


class LogprobMarginJudge(ModelJudge):
    """See the module. Margins are remembered: what is on file is scored once in the judge's life."""

    name = "logprob_margin"

    def __init__(self, model: Scores, behaviors: Mapping[str, Behavior]) -> None:
        super().__init__(model, behaviors)
        self._margins: dict[tuple[str, str, str], float] = {}

    @classmethod
    def basis(cls, behavior: Behavior) -> str:
        """The guidance, the threshold, and the answers on file that set it."""
        rows = [f"{row.kind}\t{row.prompt}\t{row.preferred}\t{row.rejected}" for row in _yardsticks(behavior)]
        return "\n".join([behavior.guidance, str(behavior.threshold), *rows])

    @classmethod
    def knows(cls, behavior: Behavior) -> frozenset[Asked]:
        """The answers on file that set the threshold."""
        return frozenset(_answers(_yardsticks(behavior)))

    def judge_all(self, behavior: str, pairs: Sequence[Asked], checkpoint: Checkpoint = ignore) -> list[Judgement]:
        """One scoring call, for the answers and for what they are held against."""
        about = self.behaviors[behavior]
        rows = _yardsticks(about)
        self._score(about, [*pairs, *_answers(rows)], checkpoint)
        cuts = {kind: self._cut(about, kind, [row for row in rows if row.kind == kind]) for kind in KINDS}
        kinds = {row.prompt: row.kind for row in _on_file(about)}
        return [
            _decide(self._margins[behavior, prompt, answer], cuts[kinds.get(prompt, "target")])
            for prompt, answer in pairs
        ]

    def _score(self, about: Behavior, pairs: Iterable[Asked], checkpoint: Checkpoint) -> None:
        new = [pair for pair in dict.fromkeys(pairs) if (about.name, *pair) not in self._margins]
        guidance = ChatMessage(role="system", content=f"memory: {about.guidance}")
        rows: list[tuple[Conversation, str]] = []
        for prompt, answer in new:
            asked = ChatMessage(role="user", content=prompt)
            rows += [((guidance, asked), answer), ((asked,), answer)]
        means = [fmean(values) for values in self.model.logprobs(rows, checkpoint)] if rows else []
        for place, pair in enumerate(new):
            self._margins[about.name, *pair] = means[2 * place] - means[2 * place + 1]

    def _cut(self, about: Behavior, kind: Kind, rows: Sequence[Row]) -> Cut:
        target = kind == "target"
        if about.threshold is not None or not rows:
            return Cut(about.threshold or 0.0, target)
        margins = [[self._margins[about.name, *asked] for asked in _answers([row])] for row in rows]
        preferred, rejected = map(fmean, zip(*margins, strict=True))
        up = preferred > rejected
        apart = fmean(p != r and (p > r) == up for p, r in margins)
        if apart < SORTED or (target and not up):
            return Cut(0.0, blind=f"the guidance does not tell the answers on file to {kind} scenarios apart")
        return Cut((preferred + rejected) / 2, up)


def _decide(margin: float, cut: Cut) -> Judgement:
    if cut.blind:
        return Judgement(passed=None, reason=cut.blind)
    passed = margin != cut.threshold and (margin > cut.threshold) == cut.up
    wanted = "above" if cut.up else "below"
    return Judgement(passed=passed, reason=f"margin {margin:.3f}, wanted {wanted} {cut.threshold:.3f} nats/token")


def _on_file(about: Behavior) -> list[Row]:
    return [*about.pairs, *about.probes]


def _yardsticks(about: Behavior) -> list[Row]:
    """The rows that set the thresholds; none where the file says one."""
    if about.threshold is not None:
        return []
    rows = [row for row in _on_file(about) if row.preferred and row.rejected]
    return [row for kind in KINDS for row in [row for row in rows if row.kind == kind][:CALIBRATING]]


def _answers(rows: Iterable[Row]) -> list[Asked]:
    """Of each row the preferred answer, then the rejected one."""
    return [(row.prompt, answer) for row in rows for answer in (row.preferred, row.rejected)]

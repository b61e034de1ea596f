"""Finds a behaviour shown when the answer is likelier with the behaviour's guidance in the context than without it.

The margin is the mean log-probability per token of the answer with the guidance minus that without, in nats, under the
base model: what the guidance explains about the answer, free of how likely the answer is by itself and of its length.
It is held against a threshold:

- the `threshold` of the behaviour's file, where that says one;
- else, for a prompt with a preferred and a rejected answer on file, the middle between these two answers' margins. The
  side on which the preferred one lies passes;
- else the middle between the mean margins of the example pairs' answers, or 0 without such pairs.

On counter-scenarios, where showing the behaviour is wrong, the other side passes. Which scenarios those are is known
of prompts on file only; any other prompt is taken for a target.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from daemon.judges.base import Asked, ModelJudge
from daemon.judges.unadapted import Scores
from daemon.models.base import Checkpoint, Conversation, ignore
from policies.behaviors import Behavior, Pair, Probe
from policies.records import ChatMessage, Judgement

Row = Pair | Probe
CALIBRATING = 32  # example pairs that set the threshold for prompts that are not on file, at most


@dataclass(frozen=True, slots=True)
class _Cut:
    """Answers above (below, with `up` False) `threshold` pass; `why_not` says why none can be told."""

    threshold: float
    up: bool = True
    why_not: str = ""


class LogprobMarginJudge(ModelJudge):
    """See the module. Margins are remembered, so that what is on file is scored once in the judge's life."""

    name = "logprob_margin"

    def __init__(self, model: Scores, behaviors: Mapping[str, Behavior]) -> None:
        super().__init__(model, behaviors)
        self._margins: dict[tuple[str, str, str], float] = {}

    @classmethod
    def basis(cls, behavior: Behavior) -> str:
        """The guidance, the threshold, and the answers on file that calibrate it."""
        rows = [row for row in _on_file(behavior).values() if _both(row)] if behavior.threshold is None else []
        answers = "\n".join(f"{row.prompt}\t{row.preferred}\t{row.rejected}" for row in rows)
        return f"{behavior.guidance}\n{behavior.threshold}\n{answers}"

    @classmethod
    def knows(cls, behavior: Behavior) -> frozenset[Asked]:
        """The answers on file: they pass and fail by construction."""
        if behavior.threshold is not None:
            return frozenset()
        return frozenset((row.prompt, answer) for row in _on_file(behavior).values() if _both(row)
                         for answer in (row.preferred, row.rejected))  # fmt: skip

    def judge_all(self, behavior: str, pairs: Sequence[Asked], checkpoint: Checkpoint = ignore) -> list[Judgement]:
        """One scoring call for the answers and for the answers on file that they are held against."""
        about = self.behaviors[behavior]
        on_file = _on_file(about)
        needed: list[Row] = []
        if about.threshold is None:
            prompts = dict.fromkeys(prompt for prompt, _ in pairs)
            own = [on_file[prompt] for prompt in prompts if prompt in on_file and _both(on_file[prompt])]
            needed = [*own, *(_calibrating(about) if len(own) < len(prompts) else ())]
        held_against = [(row.prompt, answer) for row in needed for answer in (row.preferred, row.rejected)]
        self._score(about, [*pairs, *held_against], checkpoint)
        return [
            self._decide(about, on_file.get(prompt), self._margins[behavior, prompt, answer])
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

    def _decide(self, about: Behavior, row: Row | None, margin: float) -> Judgement:
        cut = self._cut(about, row)
        if cut.why_not:
            return Judgement(passed=None, reason=cut.why_not)
        passed = margin != cut.threshold and (margin > cut.threshold) == cut.up
        wanted = "above" if cut.up else "below"
        return Judgement(passed=passed, reason=f"margin {margin:.3f}, wanted {wanted} {cut.threshold:.3f} nats/token")

    def _cut(self, about: Behavior, row: Row | None) -> _Cut:
        up = row is None or row.kind == "target"
        if about.threshold is not None:
            return _Cut(about.threshold, up)
        if row is not None and _both(row):
            preferred, rejected = self._mean(about, [row])
            if preferred == rejected or (up and preferred < rejected):
                return _Cut(0.0, why_not="the guidance does not tell this prompt's two answers on file apart")
            return _Cut((preferred + rejected) / 2, preferred > rejected)
        rows = _calibrating(about)
        if not rows:
            return _Cut(0.0, up)
        preferred, rejected = self._mean(about, rows)
        if preferred <= rejected:
            return _Cut(0.0, why_not="the guidance does not tell the example pairs' answers apart")
        return _Cut((preferred + rejected) / 2, up)

    def _mean(self, about: Behavior, rows: Sequence[Row]) -> tuple[float, float]:
        """The mean margins of the preferred and of the rejected answers."""
        preferred = fmean(self._margins[about.name, row.prompt, row.preferred] for row in rows)
        return preferred, fmean(self._margins[about.name, row.prompt, row.rejected] for row in rows)


def _on_file(about: Behavior) -> dict[str, Row]:
    rows: list[Row] = [*about.pairs, *about.probes]
    return {row.prompt: row for row in rows}


def _both(row: Row) -> bool:
    return bool(row.preferred and row.rejected)


def _calibrating(about: Behavior) -> list[Pair]:
    return [pair for pair in about.pairs if pair.kind == "target" and _both(pair)][:CALIBRATING]

"""Grade: predict each dream's difficulty *before* any answer, then let the serving adapter answer k times.

The prediction is written in the transaction that queues the answering job, so no answer can precede it. The answers
are judged by the behaviour's judge, which is never the adapter that answers.
"""

from __future__ import annotations

from typing import Any, ClassVar

from daemon.events import Job, JobFinished, Result, Stage
from daemon.executors.base import Context
from daemon.judges.base import judge_mixed, load_each
from daemon.models.base import Sampling, folder
from daemon.stations.base import NOTHING, Plan, View, folder_of
from daemon.stations.choice import policy
from policies.grade.logistic import Graded
from policies.records import ChatMessage, Difficulty, Dream, Outcome, content_id

RECENT = 400  # dreams looked back on for unanswered ones
HISTORY = 2_000  # graded dreams the classifier is fitted on, at most


class Grade:
    """The grading station."""

    name: ClassVar[Stage] = "grade"

    def plan(self, view: View) -> Plan:
        """Predict, then have the dreams answered: this cycle's, and earlier ones that nobody answered."""
        recent = view.store.find(Dream, descending=True, limit=RECENT)
        answered = {o.dream for o in view.store.find(Outcome, dream=[d.id for d in recent])} if recent else set()
        dreams = [dream for dream in reversed(recent) if dream.id not in answered]
        if not dreams:
            return NOTHING
        classifier = policy(self.name, view.config.grade.policy).fit(history(view))
        predictions = tuple(
            Difficulty(
                id=content_id("difficulty", dream.id),
                dream=dream.id,
                predicted=classifier.predict(dream.text, dream.behavior, dream.band),
                classifier=classifier.name,
                at=view.now,
            )
            for dream in dreams
        )
        job = Job.make(
            "grade.answer",
            lane="train",
            cycle=view.cycle,
            dreams=[{"id": d.id, "behavior": d.behavior, "text": d.text} for d in dreams],
            judges={name: behavior.judge for name, behavior in view.behaviors.items()},
            answers=view.config.grade.answers,
            temperature=view.config.serve.temperature,
            max_tokens=view.config.model.max_tokens,
            seed=view.rng("grade").randrange(2**31),
            adapter=view.serving,
            adapter_folder=folder_of(view, view.serving),
            now=view.now,
        )
        return Plan(records=predictions, jobs=(job,))

    def absorb(self, done: JobFinished, view: View) -> Plan:
        """Store the outcomes and say how the dreams' difficulty compares with the prediction."""
        outcomes: list[Outcome] = list(done.result.records)
        dreams = list(dict.fromkeys(outcome.dream for outcome in outcomes))
        predicted = [d.predicted for d in view.store.find(Difficulty, dream=dreams)]
        read = [outcome.passed for outcome in outcomes if outcome.passed is not None]
        words = f"{read.count(False) / max(1, len(read)):.0%} of {len(read)} answers failed"
        if len(read) < len(outcomes):
            words += f", {len(outcomes) - len(read)} could not be read"
        if predicted:
            words += f"; {sum(predicted) / len(predicted):.0%} was predicted"
        return Plan(records=tuple(outcomes), note=words)


def history(view: View) -> list[Graded]:
    """What the classifier learns from: dreams of earlier cycles with their failures."""
    failures: dict[str, list[int]] = {}
    for outcome in view.store.find(Outcome, descending=True, limit=8 * HISTORY):
        if outcome.passed is not None:
            row = failures.setdefault(outcome.dream, [0, 0])
            row[0] += not outcome.passed
            row[1] += 1
    dreams = view.store.find(Dream, descending=True, limit=HISTORY)
    return [
        Graded(text=d.text, behavior=d.behavior, band=d.band, failures=failures[d.id][0], n=failures[d.id][1])
        for d in reversed(dreams)
        if d.id in failures and d.cycle < view.cycle
    ]


def answer(payload: dict[str, Any], context: Context) -> Result:
    """Answer each dream k times with the serving adapter and judge the answers."""
    context.served.use(folder(payload["adapter_folder"]))
    judges = load_each(payload["judges"], context.served, context.spec.behaviors)
    asked = [dream for dream in payload["dreams"] for _ in range(payload["answers"])]
    answers = context.served.generate(
        [[ChatMessage(role="user", content=dream["text"])] for dream in asked],
        Sampling(temperature=payload["temperature"], max_tokens=payload["max_tokens"], seed=payload["seed"]),
        lambda done, total: context.checkpoint(done, total, "answering dreams"),
    )
    judgements = judge_mixed(
        judges,
        [(dream["behavior"], dream["text"], text) for dream, text in zip(asked, answers, strict=True)],
        lambda done, total: context.checkpoint(done, total, "judging the answers"),
    )
    outcomes = []
    for number, (dream, text, judgement) in enumerate(zip(asked, answers, judgements, strict=True)):
        attempt = number % payload["answers"]
        outcomes.append(
            Outcome(
                id=content_id("outcome", dream["id"], payload["adapter"], payload["seed"], attempt),
                dream=dream["id"],
                adapter=payload["adapter"],
                attempt=attempt,
                answer=text,
                passed=judgement.passed,
                reason=judgement.reason,
                judge=judges[dream["behavior"]].name,
                at=payload["now"],
            )
        )
    return Result(records=tuple(outcomes))


RUNNERS = {"grade.answer": answer}

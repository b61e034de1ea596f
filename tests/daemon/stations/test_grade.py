"""Grading: difficulty is predicted before any answer, and the answers are judged by something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from daemon.events import Job
from daemon.stations.base import NOTHING
from daemon.stations.grade import Grade, history
from policies.records import BANDS, Difficulty, Dream, Outcome
from tests.daemon.stations.parts import Here, dream, outcome, scenario


def dreams(cycle: int, count: int = 9, behavior: str = "listening") -> list[Dream]:
    """Readable dreams, the bands in turn."""
    found = []
    for n in range(count):
        band = BANDS[n % 3]
        text = scenario(behavior, (cycle, n), band=band)
        found.append(dream(text, behavior, band=band, cycle=cycle, at=float(cycle)))
    return found


def planned(here: Here, cycle: int) -> tuple[list[Difficulty], Job]:
    plan = Grade().plan(here.view(cycle))
    (job,) = plan.jobs
    assert all(isinstance(record, Difficulty) for record in plan.records)
    return list(plan.records), job


def test_every_dream_is_predicted_in_the_plan_that_has_it_answered(here: Here) -> None:
    """The predictions stand in the same plan, hence the same transaction, as the answering job: one for each of its
    dreams, at a time when no outcome exists."""
    here.add(*dreams(1))
    predictions, job = planned(here, 1)
    assert here.store.count(Outcome) == 0
    assert [p.dream for p in predictions] == [d["id"] for d in job.payload["dreams"]]
    assert {p.dream for p in predictions} == {d.id for d in here.store.find(Dream)}
    assert all(0 < p.predicted < 1 and p.at == here.now for p in predictions)


def test_without_dreams_there_is_nothing_to_grade(here: Here) -> None:
    """No dream, or only answered ones: no prediction and no job."""
    assert Grade().plan(here.view(1)) == NOTHING
    (answered,) = dreams(1, 1)
    here.add(answered, outcome(answered, None))
    assert Grade().plan(here.view(2)) == NOTHING


def test_dreams_that_nobody_answered_are_graded_later(here: Here) -> None:
    """When a cycle ended before its dreams were answered, the next one answers them, and no other ones."""
    left, done = dreams(1, 2)
    here.add(left, done, outcome(done, True))
    (new,) = dreams(2, 1)
    here.add(new)
    predictions, job = planned(here, 2)
    assert [d["id"] for d in job.payload["dreams"]] == [p.dream for p in predictions] == [left.id, new.id]


def test_without_history_the_band_predicts(here: Here) -> None:
    """The first cycle's predictions are the prior's: .3 obvious, .5 medium, .7 subtle."""
    here.add(*dreams(1, 3))
    assert [round(p.predicted, 2) for p in planned(here, 1)[0]] == [0.3, 0.5, 0.7]


def test_earlier_outcomes_move_the_prediction_and_the_dreams_to_predict_do_not(here: Here) -> None:
    """What earlier dreams did is learned from, newest adapter or not; the dreams to be predicted are no part of it."""
    here.add(*dreams(2, 3))
    naive = [p.predicted for p in planned(here, 2)[0]]
    past = dreams(1, 30)
    here.add(*past, *(outcome(d, False, attempt=k) for d in past for k in range(4)))
    predictions, job = planned(here, 2)
    seen = {row.text for row in history(here.view(2))}
    assert seen == {d.text for d in past} and not seen & {d["text"] for d in job.payload["dreams"]}
    assert all(p.predicted > before for p, before in zip(predictions, naive, strict=True))


def test_unreadable_answers_teach_the_classifier_nothing(here: Here) -> None:
    """Outcomes that the judge could not read are counted neither as failures nor as answers."""
    (one,) = dreams(1, 1)
    here.add(one, outcome(one, None), outcome(one, False, attempt=1), outcome(one, True, attempt=2))
    (row,) = history(here.view(2))
    assert (row.failures, row.n) == (1, 2)


def test_each_dream_is_answered_k_times_and_judged(make: Callable[..., Here]) -> None:
    """k independent answers per dream by the adapter that serves, judged by the behaviour's judge; a model that always
    fails, fails all, and one that never does, none; the same payload gives the same outcomes."""
    here = make(grade={"answers": 5})
    here.adapter("a1", state="serving", rates=dict.fromkeys(here.model.base, 0.0))
    here.add(*dreams(1, 4))
    _, job = planned(here, 1)
    done = here.run(job)
    outcomes: list[Outcome] = list(done.result.records)
    assert [(o.dream, o.attempt) for o in outcomes] == [(d["id"], k) for d in job.payload["dreams"] for k in range(5)]
    assert len({o.id for o in outcomes}) == 20
    assert {(o.adapter, o.judge, o.passed, o.at) for o in outcomes} == {("a1", "nano_world", True, here.now)}
    assert here.run(job).result == done.result
    here.adapter("b1", parent="a1", state="serving", rates=dict.fromkeys(here.model.base, 1.0))
    worse = here.run(planned(here, 1)[1])
    assert {(o.adapter, o.passed) for o in worse.result.records} == {("b1", False)}


def test_a_dream_that_the_judge_cannot_read_counts_for_nothing(here: Here) -> None:
    """Its outcomes neither passed nor failed."""
    here.add(dream("the moon is made of words", cycle=1))
    assert {o.passed for o in here.run(planned(here, 1)[1]).result.records} == {None}


def test_the_note_compares_what_failed_with_what_was_predicted(here: Here) -> None:
    """Absorbing stores every outcome and says the failure rate among the readable ones beside the prediction."""
    here.model.base = dict.fromkeys(here.model.base, 1.0)
    here.add(*dreams(1, 3), dream("the moon is made of words", cycle=1, band="medium"))
    here.write(Grade().plan(here.view(1)))
    (queued,) = here.store.jobs(kind="grade.answer")
    plan = here.act(Grade(), queued.job)
    assert here.store.count(Outcome) == 16
    assert plan.note == "100% of 12 answers failed, 4 could not be read; 50% was predicted"


@pytest.mark.parametrize("cycle", [1, 2])
def test_planning_is_repeatable(here: Here, cycle: int) -> None:
    """The same world gives the same predictions and the same job."""
    here.add(*dreams(cycle))
    assert Grade().plan(here.view(cycle)) == Grade().plan(here.view(cycle))

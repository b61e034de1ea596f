"""Errands: durable jobs that somebody asked for, part of no cycle; and jobs beside a stage. Real store, by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import DreamloopError
from daemon.events import ERRAND, STAGES, CycleDue, Event, Job, JobFinished, Stage, Wake
from daemon.loop import ATTEMPTS
from daemon.stations.base import NOTHING, Plan, View
from daemon.store.store import Store
from policies.records import Quarantine
from tests.daemon.test_loop import Listening, Station, World

WHOLE = CycleDue(why="test")


class Beside:
    """Queues one observation beside the judge, and writes a row per job that it takes in."""

    def __init__(self, error: Exception | None = None, *, plans: Exception | None = None) -> None:
        self.error = error
        self.plans = plans

    def beside(self, stage: Stage, view: View) -> Plan:
        if self.plans is not None:
            raise self.plans
        job = Job.make("observe.session", lane="train", cycle=view.cycle)
        return Plan(jobs=(job,)) if stage == "judge" else NOTHING

    def absorb(self, done: JobFinished, view: View) -> Plan:
        if self.error is not None:
            raise self.error
        return Plan(records=(Quarantine(id=done.job.id, source=done.job.kind, reason="answered", at=view.now),))


class Steady(World):
    """A loop that is started once, however often it is driven."""

    def drive(self, *steps: Event | Callable[[], Event]) -> None:
        async def go() -> None:
            if self.loop._aio is None:
                await self.loop.start()
            self.loop._aio = asyncio.get_running_loop()
            self.loop._dispatch()
            for step in steps:
                self.loop._handle(step() if callable(step) else step)
                self.loop._dispatch()

        asyncio.run(go())


def question(key: str = "a") -> Job:
    return Job.make("q5_steering.run", lane="train", cycle=ERRAND, key=key)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A loop whose dream stage has two jobs, with a companion."""
    with Store.open(f"sqlite:///{tmp_path / 'dreamloop.db'}") as store:
        stations: dict[str, Any] = {stage: Station(stage) for stage in STAGES}
        stations |= {"listen": Listening(), "dream": Station("dream", ("dream.write", "dream.again"))}
        made = Steady(store, stations)
        made.loop.companion = Beside()
        yield made


def test_an_errand_runs_without_a_cycle(world: World) -> None:
    """Asked while no cycle runs, it is submitted at once, and what it found is written when it is done."""
    job = question()
    world.drive(lambda: world.loop.errand(job) or Wake(), world.hand.finish)
    assert world.kinds() == ["q5_steering.run"]
    assert world.store.job(job.id).state == "done"  # type: ignore[union-attr]
    assert world.store.get(Quarantine, job.id) is not None


def test_an_errand_goes_before_the_cycles_next_job(world: World) -> None:
    """What a person waits for does not queue behind the whole stage, and the cycle goes on afterwards."""
    world.drive(WHOLE, lambda: world.loop.errand(question()) or Wake(), world.hand.finish, world.hand.finish)
    assert world.kinds() == ["dream.write", "q5_steering.run", "dream.again"]


def test_an_errand_is_tried_again_and_then_has_failed(world: World) -> None:
    """A failure that may pass is tried like any job's; the last one is kept with its reason."""
    job = question()
    world.drive(lambda: world.loop.errand(job) or Wake())
    for _ in range(ATTEMPTS):
        world.drive(world.hand.fail)
        world.now += 1000.0
        world.drive(Wake())
    row = world.store.job(job.id)
    assert row is not None and (row.state, row.error, row.attempts) == ("failed", "it broke", ATTEMPTS)


def test_a_failed_errand_leaves_the_cycle_alone(world: World) -> None:
    """The cycle it ran between goes on."""
    fail: Callable[[], Event] = lambda: world.hand.fail(retryable=False)  # noqa: E731
    world.drive(WHOLE, lambda: world.loop.errand(question()) or Wake(), world.hand.finish, fail)
    assert world.kinds()[-1] == "dream.again"
    assert world.store.current_cycle() is not None


def test_an_answer_that_cannot_be_used_fails_the_errand_alone(world: World) -> None:
    """A bug in taking the result in is the errand's end, in words, and not the daemon's or the cycle's."""
    world.loop.companion = Beside(DreamloopError("the finding is torn"))
    job = question()
    world.drive(WHOLE, lambda: world.loop.errand(job) or Wake(), world.hand.finish, world.hand.finish)
    row = world.store.job(job.id)
    assert row is not None and row.state == "failed" and "the finding is torn" in str(row.error)
    assert world.store.current_cycle() is not None


def test_an_errand_survives_a_restart(world: World) -> None:
    """Running when the daemon ended, it is queued again and submitted at the next start."""
    job = question()
    world.drive(lambda: world.loop.errand(job) or Wake())
    again = World(world.store, dict(world.loop.stations))  # type: ignore[arg-type]
    again.drive(Wake())
    assert again.kinds() == ["q5_steering.run"]


def test_a_queued_errand_can_be_cancelled(world: World) -> None:
    """One that has not begun never runs; cancelling it again says that it had ended."""
    job = question()
    world.drive(WHOLE, lambda: world.loop.errand(job) or Wake())
    assert world.loop.cancel(job.id)
    assert not world.loop.cancel(job.id)
    world.drive(world.hand.finish)
    assert "q5_steering.run" not in world.kinds()


def test_a_running_errand_is_cancelled_at_its_checkpoint(world: World) -> None:
    """The worker is asked, and what comes back ends the job as cancelled, not as failed."""
    job = question()
    world.drive(lambda: world.loop.errand(job) or Wake())
    assert world.loop.cancel(job.id) and world.hand.cancelled == [job.id]
    world.drive(lambda: world.hand.fail(cancelled=True, retryable=False))
    assert world.store.job(job.id).state == "cancelled"  # type: ignore[union-attr]
    assert [told["state"] for told in world.told if told["event"] == "job"] == ["started", "cancelled"]  # no failure


def test_a_cancelled_errand_is_not_found_again_after_a_crash(world: World) -> None:
    """Cancelled and then killed before its worker reached a checkpoint, it does not begin anew."""
    job = question()
    world.drive(lambda: world.loop.errand(job) or Wake())
    world.loop.cancel(job.id)
    again = World(world.store, dict(world.loop.stations))  # type: ignore[arg-type]
    again.drive(Wake())
    assert again.kinds() == [] and world.store.job(job.id).state == "cancelled"  # type: ignore[union-attr]


@pytest.mark.parametrize("ends", ["finish", "fail"])
def test_what_a_cancelled_errand_still_says_is_not_wanted(world: World, ends: str) -> None:
    """Its worker may have finished, or failed in a way worth trying again, just before it heard: it stays cancelled."""
    job = question()
    world.drive(lambda: world.loop.errand(job) or Wake())
    world.loop.cancel(job.id)
    world.drive(getattr(world.hand, ends))
    world.now += 1000.0
    world.drive(Wake())
    assert world.store.job(job.id).state == "cancelled"  # type: ignore[union-attr]
    assert world.kinds() == ["q5_steering.run"] and world.store.count(Quarantine) == 0


def test_an_errand_rests_while_paused(world: World) -> None:
    """A pause holds experiments as it holds training; they begin when it ends."""
    world.drive(lambda: world.loop.rest("operator", True) or Wake(), lambda: world.loop.errand(question()) or Wake())
    assert world.kinds() == []
    world.drive(lambda: world.loop.rest("operator", False) or Wake())
    assert world.kinds() == ["q5_steering.run"]


def to_the_judge(world: World) -> None:
    world.drive(WHOLE, world.hand.finish, world.hand.finish)
    assert world.kinds()[-1] == "observe.session"


def test_a_session_is_observed_beside_the_judge(world: World) -> None:
    """The companion's job belongs to the cycle: the stage waits for it, and its records are kept."""
    to_the_judge(world)
    assert world.store.current_cycle().stage == "judge"  # type: ignore[union-attr]
    world.drive(world.hand.finish)
    assert world.store.count(Quarantine, reason="answered") == 1
    assert world.store.current_cycle() is None


def test_no_cycle_fails_for_want_of_an_observation(world: World) -> None:
    """An observation that fails for good is missed; its cycle ends as done."""
    to_the_judge(world)
    world.drive(lambda: world.hand.fail(retryable=False))
    assert world.store.last_cycle().state == "done"  # type: ignore[union-attr]


def test_an_observation_that_cannot_be_used_is_missed(world: World) -> None:
    """A bug in taking an observation in ends that job as failed, in words; its cycle ends as done."""
    world.loop.companion = Beside(ValueError("torn"))
    to_the_judge(world)
    world.drive(world.hand.finish)
    assert world.store.last_cycle().state == "done"  # type: ignore[union-attr]
    (row,) = world.store.jobs(kind="observe.session")
    assert row.state == "failed" and "torn" in str(row.error)


@pytest.mark.parametrize("error", [DreamloopError("no material"), KeyError("adapter")])
def test_a_stage_goes_on_without_what_could_not_be_planned_beside_it(world: World, error: Exception) -> None:
    """The companion raises at every stage: nothing is observed, and the cycle ends as done."""
    world.loop.companion = Beside(plans=error)
    world.drive(WHOLE, world.hand.finish, world.hand.finish)
    assert world.kinds() == ["dream.write", "dream.again"]
    assert world.store.last_cycle().state == "done"  # type: ignore[union-attr]

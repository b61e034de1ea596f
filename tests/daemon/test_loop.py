"""The loop: one writer, stages in order, retries, resuming after a crash. Real store, scripted stations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.config import build
from daemon.errors import ConfigError, StoreError
from daemon.events import (
    STAGES,
    CycleDue,
    Event,
    FileRead,
    Job,
    JobFailed,
    JobFinished,
    Lane,
    Progress,
    Result,
    Stop,
    Wake,
)
from daemon.loop import ATTEMPTS, Loop
from daemon.stations.base import NOTHING, Plan, View
from daemon.stations.listen import Listen
from daemon.store.store import Store
from graph.memory import Memory
from graph.surface import Surfacer
from policies.records import Message, Quarantine, Turn
from tests.daemon.stations.parts import message


class Station:
    """Plans what it is told to, and writes a Quarantine row per absorbed job so that the test can see it."""

    def __init__(self, name: str, kinds: tuple[str, ...] = ()) -> None:
        self.name = name
        self.kinds = kinds
        self.planned = 0

    def plan(self, view: View) -> Plan:
        self.planned += 1
        return Plan(jobs=tuple(Job.make(kind, lane="train", cycle=view.cycle) for kind in self.kinds))

    def absorb(self, done: JobFinished, view: View) -> Plan:
        return Plan(records=(Quarantine(id=done.job.id, source=done.job.kind, reason="seen", at=view.now),))


class Failing(Station):
    """Raises what it is given, when its stage begins or when its job has finished."""

    def __init__(self, name: str, *, plans: Exception | None = None, absorbs: Exception | None = None) -> None:
        super().__init__(name, ("dream.write",))
        self.plans = plans
        self.absorbs = absorbs

    def plan(self, view: View) -> Plan:
        if self.plans is not None:
            raise self.plans
        return super().plan(view)

    def absorb(self, done: JobFinished, view: View) -> Plan:
        if self.absorbs is not None:
            raise self.absorbs
        return super().absorb(done, view)


class Watching(Station):
    """A guard that notes how many turns were stored when it was asked to look."""

    def __init__(self) -> None:
        super().__init__("guard")
        self.turns: list[int] = []

    def heard(self, view: View) -> Plan:
        self.turns.append(view.store.count(Turn))
        return Plan(facts={"looked": len(self.turns)}, happenings=({"event": "guarded"},), note="the guard's words")


class Listening(Listen):
    """Listening without traffic."""

    def plan(self, view: View) -> Plan:
        return NOTHING


class Hand:
    """An executor worked by hand: the test finishes or fails what was submitted."""

    def __init__(self) -> None:
        self.submitted: list[Job] = []
        self.open: list[Job] = []
        self.cancelled: list[str] = []
        self.paused = False

    def submit(self, job: Job) -> None:
        self.submitted.append(job)
        self.open.append(job)

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)

    def pause(self, paused: bool) -> None:
        self.paused = paused

    def busy(self, lane: Lane) -> bool:
        return any(job.lane == lane for job in self.open)

    def close(self) -> None:
        return None

    def finish(self) -> JobFinished:
        return JobFinished(job=self.open.pop(0), result=Result(), seconds=0.1)

    def fail(self, **how: Any) -> JobFailed:
        return JobFailed(job=self.open.pop(0), error="it broke", seconds=0.1, **how)


class NoLogs:
    def scan(self) -> list[Any]:
        return []


class World:
    """A loop with its surroundings; `drive` handles the events given and whatever follows at once."""

    def __init__(self, store: Store, stations: dict[str, Any]) -> None:
        self.store = store
        self.hand = Hand()
        self.now = 1000.0
        self.told: list[dict[str, Any]] = []
        memory = Memory()
        config = build({}, file=Path("config.toml"))
        self.loop = Loop(
            config=config,
            store=store,
            executor=self.hand,
            stations=stations,  # type: ignore[arg-type]
            watcher=NoLogs(),  # type: ignore[arg-type]
            look=lambda cycle: View(
                store=store,
                config=config,
                now=self.now,
                cycle=cycle,
                serving=store.serving(),
                behaviors={},
                memory=memory,
                surfacer=Surfacer(memory),
            ),
            tell=lambda happening: self.told.append(dict(happening)),
            clock=lambda: self.now,
        )

    def drive(self, *steps: Event | Callable[[], Event]) -> None:
        async def go() -> None:
            await self.loop.start()
            for step in steps:
                event = step() if callable(step) else step
                self.loop._handle(event)
                self.loop._dispatch()

        asyncio.run(go())

    def kinds(self) -> list[str]:
        return [job.kind for job in self.hand.submitted]


def stations(**kinds: tuple[str, ...]) -> dict[str, Any]:
    made: dict[str, Any] = {stage: Station(stage, kinds.get(stage, ())) for stage in STAGES}
    made["listen"] = Listening()
    return made


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = Store.open(f"sqlite:///{tmp_path / 'loop.db'}")
    yield opened
    opened.close()


DUE = CycleDue(why="test")


def test_a_cycle_walks_through_its_stages_in_order(store: Store) -> None:
    """Each stage's jobs run one at a time, the next stage begins when none is left, and the cycle ends as done."""
    world = World(store, stations(dream=("dream.write",), learn=("learn.distil", "learn.update")))
    finish = world.hand.finish
    world.drive(DUE, finish, finish, finish)
    assert world.kinds() == ["dream.write", "learn.distil", "learn.update"]
    assert store.current_cycle() is None
    assert [cycle.state for cycle in store.cycles()] == ["done"]
    assert world.loop.finished_cycles == 1
    assert store.count(Quarantine) == 3


def test_a_lane_gets_one_job_at_a_time(store: Store) -> None:
    """Two queued jobs of one lane are never submitted together."""
    world = World(store, stations(learn=("learn.distil", "learn.update")))
    world.drive(DUE)
    assert world.kinds() == ["learn.distil"]


def test_a_failing_job_is_tried_again_with_backoff_and_then_ends_the_cycle(store: Store) -> None:
    """Retries wait longer each time; after the last the cycle fails, and the next cycle can run."""
    world = World(store, stations(dream=("dream.write",), grade=("grade.answer",)))

    def fail_later() -> Event:
        world.now += 100
        world.loop._dispatch()
        return world.hand.fail()

    world.drive(DUE, world.hand.fail, *[fail_later] * (ATTEMPTS - 1))
    assert world.kinds() == ["dream.write"] * ATTEMPTS
    assert store.cycles()[0].state == "failed"
    assert world.loop.finished_cycles == 0
    world.drive(DUE)
    assert store.current_cycle() is not None


def test_a_job_that_cannot_succeed_is_not_tried_again(store: Store) -> None:
    """An error that a retry cannot mend ends the cycle at once."""
    world = World(store, stations(dream=("dream.write",)))
    world.drive(DUE, lambda: world.hand.fail(retryable=False))
    assert world.kinds() == ["dream.write"]
    assert store.cycles()[0].state == "failed"


def test_after_a_crash_the_cycle_goes_on_where_it_stopped(store: Store) -> None:
    """A new loop on the same store runs the interrupted job again and plans no finished stage twice."""
    first = World(store, stations(dream=("dream.write",), learn=("learn.update",)))
    first.drive(DUE, first.hand.finish)
    assert first.kinds() == ["dream.write", "learn.update"]  # and here it is killed, learn.update running

    made = stations(dream=("dream.write",), learn=("learn.update",))
    second = World(store, made)
    second.drive(lambda: second.hand.finish())
    assert second.kinds() == ["learn.update"]
    assert made["dream"].planned == 0 and made["learn"].planned == 0
    assert [cycle.state for cycle in store.cycles()] == ["done"]
    assert store.count(Quarantine) == 2


def test_a_result_that_comes_twice_is_absorbed_once(store: Store) -> None:
    """A finished job's second report (a worker that came back from the dead) changes nothing."""
    world = World(store, stations(dream=("dream.write", "dream.again")))
    done: list[JobFinished] = []

    def finish() -> Event:
        done.append(world.hand.finish())
        return done[0]

    world.drive(DUE, finish, lambda: done[0])
    assert store.count(Quarantine) == 1


def test_pausing_holds_back_jobs_and_resuming_lets_them_go(store: Store) -> None:
    """While an operator's pause holds nothing is submitted; the executor is told; a restart remembers it."""
    world = World(store, stations(dream=("dream.write",)))
    world.loop.rest("operator", True)
    world.drive(DUE)
    assert world.kinds() == [] and world.hand.paused
    again = World(store, stations(dream=("dream.write",)))
    assert again.loop.paused == {"operator"}
    again.drive()
    assert again.kinds() == []
    again.loop.rest("operator", False)
    assert again.kinds() == ["dream.write"]


def test_a_closed_window_is_no_operators_pause(store: Store) -> None:
    """Two reasons to rest: work goes on only when both are gone, and only the operator's survives a restart."""
    world = World(store, stations(dream=("dream.write",)))
    world.loop.rest("operator", True)
    world.loop.rest("window", True)
    world.loop.rest("operator", False)
    assert world.loop.paused == {"window"}
    assert World(store, stations()).loop.paused == set()


def test_a_single_stage_can_be_run(store: Store) -> None:
    """`dreamctl run dream` is a cycle of one stage and does not count as a full cycle."""
    world = World(store, stations(dream=("dream.write",), learn=("learn.update",)))
    world.drive(CycleDue(why="operator", stages=("dream",)), world.hand.finish)
    assert world.kinds() == ["dream.write"]
    assert store.cycles()[0].state == "done"
    assert world.loop.finished_cycles == 0


def test_no_cycle_begins_beyond_the_number_asked_for(store: Store) -> None:
    """With a limit of one, a second request for a cycle stays unanswered."""
    world = World(store, stations(dream=("dream.write",)))
    world.loop.limit = 1
    world.drive(DUE, DUE, world.hand.finish)
    assert world.loop.enough
    assert store.current_cycle() is None and len(store.cycles()) == 1


def test_what_a_person_waits_for_goes_first(store: Store) -> None:
    """A chat job runs in its own lane while training runs in the other, and its answer is no part of the cycle."""
    world = World(store, stations(dream=("dream.write",)))

    async def go() -> JobFinished:
        await world.loop.start()
        world.loop._handle(DUE)
        world.loop._dispatch()
        future = world.loop.ask(Job.make("chat.answer", lane="serve", cycle=0, key="x"))
        assert world.kinds() == ["dream.write", "chat.answer"]
        world.loop._handle(JobFinished(job=world.hand.open[1], result=Result(notes={"answer": "hi"}), seconds=0.1))
        return await future

    assert asyncio.run(go()).result.notes["answer"] == "hi"
    assert store.count(Quarantine) == 0


def test_progress_is_known_while_a_job_runs_and_forgotten_after(store: Store) -> None:
    """Status shows a running job's progress and nothing of finished ones."""
    world = World(store, stations(dream=("dream.write",)))

    def half() -> Event:
        job = world.hand.open[0]
        return Progress(job=job.id, kind=job.kind, done=1, total=2)

    world.drive(DUE, half)
    assert [p.done for p in world.loop.progress.values()] == [1]
    world.drive(world.hand.finish)
    assert world.loop.progress == {}


def test_stop_ends_the_loop(store: Store) -> None:
    """Stop from any thread ends `run` after what is in hand."""
    world = World(store, stations())

    async def go() -> None:
        await world.loop.start()
        await asyncio.to_thread(world.loop.post, Stop(why="test"))
        await asyncio.wait_for(world.loop.run(), 30)

    asyncio.run(go())
    assert world.loop.stopping == "test"


# --- what goes wrong ends the cycle, not the daemon


def ends(world: World) -> list[tuple[str, str]]:
    """How each cycle ended, and why."""
    return [(h["state"], h["why"]) for h in world.told if h["event"] == "cycle" and h["state"] != "started"]


@pytest.mark.parametrize(
    ("error", "words"), [(ConfigError("mend `learn.general_examples`"), "mend `learn.general_examples`"),
                         (KeyError("turn"), "'turn'")],
)  # fmt: skip
def test_a_station_that_cannot_plan_ends_its_cycle(store: Store, error: Exception, words: str) -> None:
    """The cycle fails with a sentence that says which stage and why, nothing of the stage is kept, and the next cycle
    runs once the cause is mended."""
    made = stations()
    made["dream"] = failing = Failing("dream", plans=error)
    world = World(store, made)
    world.drive(DUE)
    assert ends(world) == [("failed", f"dream could not plan: {words}")]
    assert store.current_cycle() is None and world.kinds() == [] and world.loop.failed_in_a_row == 1
    assert ("dream", "started") not in [(h.get("stage"), h["state"]) for h in world.told if h["event"] == "stage"]
    failing.plans = None
    world.drive(DUE, world.hand.finish)
    assert [state for state, _ in ends(world)] == ["failed", "done"]
    assert world.loop.failed_in_a_row == 0 and world.loop.finished_cycles == 1


def test_a_result_that_cannot_be_used_ends_its_cycle(store: Store) -> None:
    """When a station cannot absorb what came back the cycle fails with that sentence, its job with it, the worker is
    told to drop it, and the next cycle runs."""
    made = stations(grade=("grade.answer",))
    made["dream"] = failing = Failing("dream", absorbs=ValueError("a dream without text"))
    world = World(store, made)
    world.drive(DUE, world.hand.finish)
    assert ends(world) == [("failed", "what dream.write returned could not be used: a dream without text")]
    assert store.current_cycle() is None and store.count(Quarantine) == 0
    (row,) = store.jobs(cycle=1)
    assert row.state == "cancelled" and world.loop.running == {}
    assert {h["state"] for h in world.told if h["event"] == "job"} == {"started"}
    failing.absorbs = None
    world.drive(DUE, world.hand.finish, world.hand.finish)
    assert world.kinds() == ["dream.write", "dream.write", "grade.answer"] and ends(world)[-1] == ("done", "")


def test_a_cycle_that_waits_begins_after_a_broken_one(store: Store) -> None:
    """A request that was waiting is not lost with the cycle before it."""
    made = stations(dream=("dream.write",))
    made["grade"] = Failing("grade", plans=ValueError("odd"))
    world = World(store, made)
    world.drive(DUE, CycleDue(why="operator", stages=("dream",)), world.hand.finish)
    assert ends(world) == [("failed", "grade could not plan: odd")] and world.kinds() == ["dream.write"] * 2
    assert store.current_cycle() is not None and store.current_cycle().why == "operator"  # type: ignore[union-attr]


@pytest.mark.parametrize("when", ["plans", "absorbs"])
def test_a_store_that_cannot_be_written_ends_the_daemon(store: Store, when: str) -> None:
    """Without its store there is nothing to go on with: that error is not swallowed, and nothing half done is kept."""
    made = stations()
    made["dream"] = Failing("dream", **{when: StoreError("the disk is full")})  # type: ignore[arg-type]
    world = World(store, made)
    with pytest.raises(StoreError, match="the disk is full"):
        world.drive(DUE, world.hand.finish)
    assert store.current_cycle() is not None and store.current_cycle().state == "running"  # type: ignore[union-attr]
    assert store.count(Quarantine) == 0


def test_equal_requests_wait_only_once(store: Store) -> None:
    """Cycles that were missed while one ran are made up for once; other requests wait beside them, in order."""
    world = World(store, stations(dream=("dream.write",)))
    other = CycleDue(why="operator", stages=("dream",))
    waiting: list[CycleDue] = []

    def look() -> Event:
        waiting.extend(world.loop.due)
        return Wake()

    world.drive(DUE, DUE, DUE, other, DUE, other, look, *[world.hand.finish] * 3)
    assert waiting == [DUE, other]
    assert [cycle.why for cycle in store.cycles()][::-1] == ["test", "test", "operator"]
    assert store.current_cycle() is None and not world.loop.due


def test_a_job_that_waited_for_its_time_runs_when_it_has_come(store: Store) -> None:
    """A retry is not submitted before its time, whatever happens meanwhile, and Wake alone lets it go."""
    world = World(store, stations(dream=("dream.write",)))

    def later() -> Event:
        world.now += 100
        return Wake()

    world.drive(DUE, world.hand.fail, Wake())
    assert world.kinds() == ["dream.write"]
    world.drive(later)
    assert world.kinds() == ["dream.write"] * 2 and not world.loop.due


# --- listening


def read(*messages: Message, path: str = "logs/talk.jsonl", offset: int = 100) -> FileRead:
    """What the watcher read of a log."""
    return FileRead(path=path, identity=f"1:1:{path}", format="openai_chat", offset=offset, messages=messages)


TALK = (message("user", "hi", 0), message("assistant", "hello", 1), message("user", "more", 2))


def test_the_guard_looks_as_soon_as_turns_are_stored(store: Store) -> None:
    """After new turns, once they are stored, in a cycle or not, and its happenings are told; after messages that are
    no turn yet, or that are known, not."""
    made = stations(dream=("dream.write",))
    made["guard"] = guard = Watching()
    world = World(store, made)
    world.drive(read(*TALK[:2]), read(*TALK), read(*TALK))
    assert guard.turns == [1] and store.fact("looked") == 1
    assert [h["event"] for h in world.told if h["event"] in ("traffic", "guarded")] == ["traffic", "guarded"]
    again = (message("assistant", "yes?", 3), message("user", "bye", 4))
    world.drive(DUE, read(*again))
    assert guard.turns == [1, 2] and store.current_cycle() is not None


def test_a_stages_note_is_its_own(store: Store) -> None:
    """What is heard, or seen by the guard, while another stage runs does not become that stage's note."""
    made = stations(dream=("dream.write",))
    made["guard"] = Watching()
    world = World(store, made)
    world.drive(DUE, read(*TALK), world.hand.finish)
    notes = {h["stage"]: h["note"] for h in world.told if h["event"] == "stage" and h["state"] == "done"}
    assert notes == dict.fromkeys(STAGES, "")


def test_what_the_listening_stage_hears_is_its_note(store: Store) -> None:
    """The logs are read once more at the end of that stage, and what they gave is what it says for itself."""
    world = World(store, stations())
    world.loop.stations["listen"].plan = lambda view: Plan(rescan=True)  # type: ignore[method-assign]
    world.loop.watcher.scan = lambda: [read(*TALK)]  # type: ignore[method-assign,return-value,assignment]
    world.drive(DUE)
    notes = {h["stage"]: h["note"] for h in world.told if h["event"] == "stage" and h["state"] == "done"}
    assert notes == {**dict.fromkeys(STAGES, ""), "listen": "1 new turns"}

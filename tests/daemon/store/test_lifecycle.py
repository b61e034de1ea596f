"""Adapters, jobs and cycles only take the steps they may take, and their rows agree with each other."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from daemon.events import Job
from daemon.store import IllegalStep, RecordError, Store
from policies.lifecycle import NEXT, IllegalTransition
from policies.records import Adapter, Recipe, Transition

RECIPE = Recipe(rank=4, alpha=8, targets=("q",), learning_rate=1e-3, epochs=1, batch_size=4, seed=0)


def adapter(id: str, parent: str | None = None) -> Adapter:
    return Adapter(
        id=id, parent=parent, recipe=RECIPE, batch="b", folder=id, cycle=1, loss=1.0, tokens=1, seconds=1.0, at=2.0
    )


def promote(store: Store, id: str, parent: str | None = None) -> None:
    with store.transaction() as tx:
        tx.add(adapter(id, parent))
        tx.transition(id, "judged", "", 3.0)
        tx.transition(id, "serving", "better", 4.0)


# --- adapters ---


def test_a_promotion_retires_the_one_that_served(store: Store) -> None:
    """At most one adapter serves; the promotion and the retirement are one transaction with both in the history."""
    assert store.serving() is None
    promote(store, "a")
    promote(store, "b", parent="a")
    assert store.serving() == "b"
    assert store.adapter_states() == {"a": "retired", "b": "serving"}
    steps = [(t.adapter, t.before, t.after) for t in store.find(Transition, order_by="seq")]
    assert steps == [
        ("a", "trained", "judged"),
        ("a", "judged", "serving"),
        ("b", "trained", "judged"),
        ("a", "serving", "retired"),
        ("b", "judged", "serving"),
    ]


def test_a_rollback_serves_the_parent_and_then_the_base(store: Store) -> None:
    """The undo of a promotion is the parent serving again; the first adapter's parent is the base model."""
    promote(store, "a")
    promote(store, "b", parent="a")
    with store.transaction() as tx:
        assert tx.roll_back("alarm", 9.0) == "a"
        assert tx.serving() == "a"
    with store.transaction() as tx:
        assert tx.roll_back("alarm again", 10.0) is None
    assert store.serving() is None
    assert store.adapter_states() == {"a": "rolled_back", "b": "rolled_back"}
    with pytest.raises(IllegalStep, match="base model"), store.transaction() as tx:
        tx.roll_back("once more", 11.0)


def test_an_illegal_step_changes_nothing(store: Store) -> None:
    """A step the life of an adapter does not know is refused, and the transaction with it."""
    promote(store, "a")
    with pytest.raises(IllegalTransition), store.transaction() as tx:
        tx.add(adapter("b"))
        tx.transition("b", "serving", "not judged yet", 5.0)
    assert (store.serving(), store.get(Adapter, "b")) == ("a", None)
    with pytest.raises(RecordError, match="no adapter nowhere"), store.transaction() as tx:
        tx.transition("nowhere", "judged", "", 5.0)


def test_an_added_transition_takes_effect_once(store: Store) -> None:
    """A Transition among a job's records is a step like any other: applied once, refused when it is out of date."""
    step = Transition(id="x", adapter="a", before="trained", after="judged", why="", at=3.0)
    with store.transaction() as tx:
        assert tx.add(adapter("a"), step, step) == 2
    with store.transaction() as tx:
        assert tx.add(step, adapter("a")) == 0
    assert store.adapter_state("a") == "judged"
    stale = Transition(id="y", adapter="a", before="trained", after="rejected", why="", at=4.0)
    with pytest.raises(IllegalStep, match="is judged, not trained"), store.transaction() as tx:
        tx.add(stale)


# --- jobs and cycles, one example each; the machine below tries the rest ---


def test_a_job_from_queue_to_done(store: Store) -> None:
    """A job keeps when it was queued, started and ended, how often it was tried, and its notes."""
    job = Job.make("dream.write", lane="train", cycle=1, seeds=["a"], temperature=0.5)
    with store.transaction() as tx:
        assert tx.enqueue(job, 1.0)
        assert not tx.enqueue(job, 2.0)
        tx.start(job.id, 3.0)
        tx.fail(job.id, 4.0, "out of memory", retry_at=10.0)
    stored = store.job(job.id)
    assert stored and (stored.job, stored.state, stored.attempts) == (job, "queued", 1)
    assert (stored.error, stored.not_before) == ("out of memory", 10.0)
    assert (store.jobs(state="queued", due=9.0), len(store.jobs(state="queued", due=10.0))) == ([], 1)
    with store.transaction() as tx:
        tx.start(job.id, 11.0)
        tx.finish(job.id, 12.0, {"written": 3})
    stored = store.job(job.id)
    assert stored and (stored.state, stored.attempts, stored.notes) == ("done", 2, {"written": 3})
    assert (stored.queued_at, stored.started_at, stored.finished_at, stored.error) == (1.0, 11.0, 12.0, None)
    with pytest.raises(IllegalStep, match=r"dream\.write.* is done"), store.transaction() as tx:
        tx.start(job.id, 13.0)
    with pytest.raises(IllegalStep, match="no job nowhere"), store.transaction() as tx:
        tx.finish("nowhere", 13.0)


@pytest.mark.parametrize("ends", ["done", "failed", "cancelled"])
def test_a_job_that_has_ended_keeps_no_payload(store: Store, ends: str) -> None:
    """Payloads carry dreams, examples and probes by the hundred; waiting for another try they are kept, then not."""
    job = Job.make("observe.session", lane="train", cycle=1, dreams=["a"] * 100)
    with store.transaction() as tx:
        tx.enqueue(job, 1.0)
        tx.start(job.id, 2.0)
        tx.fail(job.id, 3.0, "out of memory", retry_at=4.0)
        tx.start(job.id, 5.0)
    assert store.job(job.id).job.payload == job.payload  # type: ignore[union-attr]
    with store.transaction() as tx:
        if ends == "done":
            tx.finish(job.id, 6.0)
        elif ends == "failed":
            tx.fail(job.id, 6.0, "again")
        else:
            tx.cancel(job.id, 6.0)
    stored = store.job(job.id)
    assert stored and (stored.state, dict(stored.job.payload), stored.job.kind) == (ends, {}, "observe.session")


def test_a_cycle_from_open_to_closed(store: Store) -> None:
    """One cycle runs at a time; it goes through its own stages, and cancelling it cancels its jobs."""
    with store.transaction() as tx:
        first = tx.open_cycle("schedule", ("listen", "dream"), 1.0)
        tx.set_stage(first, "dream", 2.0)
    current = store.current_cycle()
    assert current and (current.id, current.stage, current.stage_began) == (first, "dream", 2.0)
    assert current.stages == ("listen", "dream")
    with pytest.raises(IllegalStep, match="still running"), store.transaction() as tx:
        tx.open_cycle("again", ("listen",), 3.0)
    with pytest.raises(IllegalStep, match="no stage 'judge'"), store.transaction() as tx:
        tx.set_stage(first, "judge", 3.0)
    job = Job.make("dream.write", lane="train", cycle=first)
    with store.transaction() as tx:
        tx.enqueue(job, 3.0)
    with pytest.raises(IllegalStep, match="not done"), store.transaction() as tx:
        tx.close_cycle(first, "done", 4.0)
    with store.transaction() as tx:
        assert tx.close_cycle(first, "cancelled", 4.0) == [job.id]
        second = tx.open_cycle("manual", ("listen",), 5.0)
    assert second > first
    assert [cycle.state for cycle in store.cycles()] == ["running", "cancelled"]
    last = store.last_cycle()
    assert last and last.id == second


class Loop(RuleBasedStateMachine):
    """The loop's bookkeeping against a plain model of it, in any order of steps, with crashes and rollbacks."""

    jobs = Bundle("jobs")
    adapters = Bundle("adapters")

    def __init__(self) -> None:
        super().__init__()
        self.store = Store.open("sqlite://")
        self.job_states: dict[str, str] = {}
        self.job_cycles: dict[str, int] = {}
        self.adapter_states: dict[str, str] = {}
        self.cycle: int | None = None
        self.now = 0.0

    def teardown(self) -> None:
        self.store.close()

    def attempt(self, allowed: bool, act: str, *arguments: object) -> object:
        """Do one step in a transaction of its own; it must be refused exactly when the model says so."""
        self.now += 1.0
        result = None
        try:
            with self.store.transaction() as tx:
                result = getattr(tx, act)(*arguments)
        except (IllegalStep, IllegalTransition):
            assert not allowed, (act, arguments)
        else:
            assert allowed, (act, arguments)
        return result

    @rule(target=jobs, number=st.integers(0, 5))
    def enqueue(self, number: int) -> str:
        job = Job.make("x.y", lane="train", cycle=self.cycle or 0, key=number)
        new = self.attempt(True, "enqueue", job, self.now)
        assert new == (job.id not in self.job_states)
        self.job_states.setdefault(job.id, "queued")
        self.job_cycles.setdefault(job.id, self.cycle or 0)
        return job.id

    @rule(job=jobs)
    def start(self, job: str) -> None:
        allowed = self.job_states[job] == "queued"
        self.attempt(allowed, "start", job, self.now)
        if allowed:
            self.job_states[job] = "running"

    @rule(job=jobs)
    def finish(self, job: str) -> None:
        allowed = self.job_states[job] == "running"
        self.attempt(allowed, "finish", job, self.now, {})
        if allowed:
            self.job_states[job] = "done"

    @rule(job=jobs, retry=st.booleans())
    def fail(self, job: str, retry: bool) -> None:
        allowed = self.job_states[job] in ("queued", "running")
        self.attempt(allowed, "fail", job, self.now, "no", self.now + 1 if retry else None)
        if allowed:
            self.job_states[job] = "queued" if retry else "failed"

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        assert self.attempt(True, "cancel", job, self.now) == (self.job_states[job] in ("queued", "running"))
        if self.job_states[job] in ("queued", "running"):
            self.job_states[job] = "cancelled"

    @rule()
    def crash(self) -> None:
        requeued = self.attempt(True, "requeue_running", self.now)
        running = {job for job, state in self.job_states.items() if state == "running"}
        assert {job.id for job in requeued} == running  # type: ignore[attr-defined]
        self.job_states.update(dict.fromkeys(running, "queued"))

    @rule()
    def open_cycle(self) -> None:
        number = self.attempt(self.cycle is None, "open_cycle", "test", ("listen",), self.now)
        if self.cycle is None:
            assert isinstance(number, int)
            self.cycle = number

    @rule(state=st.sampled_from(("done", "failed", "cancelled")))
    def close_cycle(self, state: str) -> None:
        number = self.cycle or 99
        unfinished = {
            job
            for job, where in self.job_states.items()
            if where in ("queued", "running") and self.job_cycles[job] == number
        }
        allowed = self.cycle is not None and not (state == "done" and unfinished)
        self.attempt(allowed, "close_cycle", number, state, self.now)
        if allowed:
            self.job_states.update(dict.fromkeys(unfinished, "cancelled"))
            self.cycle = None

    @rule(target=adapters)
    def train(self) -> str:
        new = f"adapter{len(self.adapter_states)}"
        assert self.attempt(True, "add", adapter(new, self.store.serving())) == 1
        self.adapter_states[new] = "trained"
        return new

    @rule(one=adapters, after=st.sampled_from(sorted(NEXT)))
    def step(self, one: str, after: str) -> None:
        allowed = after in NEXT[self.adapter_states[one]]
        self.attempt(allowed, "transition", one, after, "", self.now)
        if allowed:
            if after == "serving":
                self.adapter_states.update({k: "retired" for k, v in self.adapter_states.items() if v == "serving"})
            self.adapter_states[one] = after

    @rule(target=adapters, one=consumes(adapters))
    def rows_disagree_with_nothing(self, one: str) -> object:
        last = self.store.find(Transition, adapter=one, order_by="seq", descending=True, limit=1)
        assert (last[0].after if last else "trained") == self.adapter_states[one]
        return multiple(one)

    @invariant()
    def the_store_agrees_with_the_model(self) -> None:
        assert {stored.job.id: stored.state for stored in self.store.jobs()} == self.job_states
        assert self.store.adapter_states() == self.adapter_states
        serving = [one for one, state in self.adapter_states.items() if state == "serving"]
        assert serving == ([self.store.serving()] if self.store.serving() else [])
        current = self.store.current_cycle()
        assert (current.id if current else None) == self.cycle


Loop.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestLoop = Loop.TestCase

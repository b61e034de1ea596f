"""The inline executor, and what every executor shares: contexts, runners, the wire."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from daemon.errors import Cancelled
from daemon.events import Event, Job, JobFailed, JobFinished, Progress, Result
from daemon.executors import wire
from daemon.executors.base import WorkerSpec
from daemon.executors.context import Control, WorkerContext
from daemon.executors.inline import InlineExecutor
from daemon.executors.runners import UnknownKind, runner
from daemon.models.fake import FakeModel
from policies.records import Judgement, Turn

HERE = "tests.daemon.executors.kinds"
SPEC = WorkerSpec(backend="fake", options={"rates": {"listening": 0.5}})


def job(name: str, **payload: Any) -> Job:
    return Job.make(f"{HERE}:{name}", lane="serve", cycle=1, key=payload, **payload)


def test_a_job_is_done_when_submit_returns() -> None:
    """Progress comes first, the end last, and the model is loaded from the spec."""
    events: list[Event] = []
    executor = InlineExecutor(SPEC, events.append)
    executor.submit(job("answer", texts=["listening 1", "other"]))
    assert isinstance(events[0], Progress)
    assert isinstance(events[-1], JobFinished) and len(events[-1].result.notes["answers"]) == 2
    assert not executor.busy("serve")


def test_a_job_submitted_by_an_event_waits_for_its_turn() -> None:
    """The loop submits the next job while it handles the end of the last: they do not nest."""
    order: list[str] = []

    def emit(event: Event) -> None:
        if isinstance(event, JobFinished):
            order.append(event.job.id)
            if len(order) < 3:
                executor.submit(job("echo", number=len(order)))
                assert len(order) <= 3

    executor = InlineExecutor(SPEC, emit, FakeModel({}))
    executor.submit(job("echo", number=0))
    assert len(order) == len(set(order)) == 3


def test_failure_cancel_and_pause() -> None:
    """Errors are events; a job is cancelled from its own progress; a paused executor holds jobs back."""
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, Progress):
            executor.cancel(event.job)

    executor = InlineExecutor(SPEC, emit, FakeModel({}))
    executor.submit(job("expected"))
    executor.submit(job("steps", n=50))
    executor.pause(True)
    executor.submit(job("echo"))
    failed, progress, cancelled = events
    assert isinstance(failed, JobFailed) and failed.retryable and "disk" in failed.error
    assert isinstance(progress, Progress) and isinstance(cancelled, JobFailed) and cancelled.cancelled
    assert executor.busy("serve")
    executor.pause(False)
    assert isinstance(events[-1], JobFinished)


def test_runners_are_found_by_prefix() -> None:
    """Stations, traffic and chat are in the table; what is not there is an error that names the kind."""
    assert runner("dream.write").__module__ == "daemon.stations.dream"
    assert runner("traffic.simulate").__module__ == "daemon.traffic.simulate"
    assert runner("chat.answer").__module__ == "daemon.traffic.chat"
    for kind in ("dream.sleep", "nothing", "", "q9_unwritten.run", "tests.no.such:thing"):
        with pytest.raises(UnknownKind, match=f'"{kind}"'):
            runner(kind)


def test_progress_is_at_most_ten_a_second_and_tells_the_end() -> None:
    """With a clock that stands still only the first and the last report pass."""
    heard: list[Progress] = []
    now = [0.0]
    context = WorkerContext(job("echo"), SPEC, lambda: FakeModel({}), Control(), heard.append, clock=lambda: now[0])
    for done in range(100):
        context.checkpoint(done, 100)
    assert [p.done for p in heard] == [0]
    now[0] = 0.11
    context.checkpoint(100, 200)
    context.checkpoint(200, 200)
    context.checkpoint(200, 200)
    assert [p.done for p in heard] == [0, 100, 200]


def test_a_cancelled_job_does_not_cancel_the_next_of_the_same_id() -> None:
    """A retried job has the id of its first attempt: the old order must not reach it."""
    control, again = Control(), job("echo")
    control.cancel(again.id)
    with pytest.raises(Cancelled):
        control.pass_or_raise(again)
    control.forget(again.id)
    control.pass_or_raise(again)


def test_a_pause_does_not_hold_what_a_person_waits_for() -> None:
    """A paused worker still answers in a chat, and still hears that the chat was cancelled."""
    control = Control()
    control.pause(True)
    chat = Job.make("chat.answer", lane="serve", cycle=1)
    control.pass_or_raise(chat)
    control.cancel(chat.id)
    with pytest.raises(Cancelled):
        control.pass_or_raise(chat)


def test_the_wire_carries_records_and_refuses_everything_else() -> None:
    """Records and plain data survive both ways; objects, functions and code that pickle would run do not."""
    turn = Turn(id="t", conversation="c", index=0, context=(), user="u", assistant="a", at=0.0, source="s")
    done = JobFinished(job=job("echo"), result=Result(records=(turn, Judgement(passed=None, reason=""))), seconds=1.0)
    assert wire.load(wire.checked(done)) == done
    for thing in (object(), wire.checked, Control(), lambda: 0, ValueError("x"), open):
        with pytest.raises(wire.NotPlain):
            wire.checked(JobFinished(job=job("echo"), result=Result(notes={"x": thing}), seconds=1.0))

    class Attack:
        def __reduce__(self) -> Any:
            return eval, ("1 + 1",)

    with pytest.raises(wire.NotPlain, match="eval"):
        wire.load(pickle.dumps(Attack()))

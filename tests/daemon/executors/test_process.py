"""The process executor with real worker processes."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.events import Event, Job, JobFailed, JobFinished, Lane, Progress
from daemon.executors.base import WorkerSpec
from daemon.executors.process import ProcessExecutor
from policies.records import Judgement

HERE = "tests.daemon.executors.kinds"
SPEC = WorkerSpec(backend="fake", options={"rates": {"listening": 0.5}}, threads=1)
ROOT = Path(__file__).resolve().parents[3]


def job(name: str, lane: Lane = "train", key: object = "", **payload: Any) -> Job:
    return Job.make(f"{HERE}:{name}", lane=lane, cycle=1, key=key, **payload)


class Inbox:
    """Collects events; `ending` waits for the end of one job."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.progress: list[Progress] = []

    def take(self) -> Event:
        event = self.events.get(timeout=300)
        if isinstance(event, Progress):
            self.progress.append(event)
        return event

    def ending(self) -> JobFinished | JobFailed:
        while True:
            event = self.take()
            if isinstance(event, JobFinished | JobFailed):
                return event

    def first_progress(self) -> Progress:
        while not self.progress:
            assert isinstance(self.take(), Progress)
        return self.progress[0]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def executor(inbox: Inbox) -> Iterator[ProcessExecutor]:
    made = ProcessExecutor(SPEC, inbox.events.put, grace=0.5)
    yield made
    made.close()


def gone(pid: int) -> bool:
    """Wait until a process is no more (or a zombie that somebody else has to reap)."""
    for _ in range(600):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_job_runs_in_another_process_and_returns_plain_records(executor: ProcessExecutor, inbox: Inbox) -> None:
    """A job's records and notes come back as one event; its worker is another process, niced in the train lane."""
    executor.submit(job("echo", word="hello"))
    executor.submit(job("echo", lane="serve", word="you"))
    found = {event.job.lane: event for event in (inbox.ending(), inbox.ending())}
    train, serve = found["train"], found["serve"]
    assert isinstance(train, JobFinished) and isinstance(serve, JobFinished)
    assert train.result.records == (Judgement(passed=True, reason="echo"),)
    assert train.result.notes["word"] == "hello" and serve.result.notes["word"] == "you"
    assert len({os.getpid(), train.result.notes["pid"], serve.result.notes["pid"]}) == 3
    assert train.result.notes["nice"] > serve.result.notes["nice"]
    assert train.result.notes["threads"] == "1"


def test_the_worker_stays_warm_between_jobs(executor: ProcessExecutor, inbox: Inbox) -> None:
    """Jobs of a lane run one after another, in order, in the same process."""
    for key in range(3):
        executor.submit(job("echo", key=key, number=key))
    notes = [event.result.notes for event in (inbox.ending() for _ in range(3)) if isinstance(event, JobFinished)]
    assert [note["number"] for note in notes] == [0, 1, 2]
    assert len({note["pid"] for note in notes}) == 1
    assert not executor.busy("train")


def test_a_killed_worker_fails_its_job_as_retryable_and_the_lane_goes_on(
    executor: ProcessExecutor, inbox: Inbox
) -> None:
    """kill -9 of a worker is an event; the job waiting behind it runs in a new worker."""
    executor.submit(job("crash", signal=int(signal.SIGKILL)))
    executor.submit(job("echo"))
    failed, done = inbox.ending(), inbox.ending()
    assert isinstance(failed, JobFailed) and failed.retryable and not failed.cancelled
    assert "SIGKILL" in failed.error
    assert isinstance(done, JobFinished)


def test_an_error_says_whether_trying_again_can_help(executor: ProcessExecutor, inbox: Inbox) -> None:
    """A full disk may be tried again; a mistake in the program and an unknown kind may not; the worker survives all."""
    executor.submit(job("expected"))
    executor.submit(job("mistake"))
    executor.submit(Job.make("nowhere.at_all", lane="train", cycle=1))
    full, mistake, unknown = inbox.ending(), inbox.ending(), inbox.ending()
    assert isinstance(full, JobFailed) and isinstance(mistake, JobFailed) and isinstance(unknown, JobFailed)
    assert (full.retryable, mistake.retryable, unknown.retryable) == (True, False, False)
    assert full.error == "the disk is full; free space"
    assert mistake.error.startswith("KeyError") and "kinds.py:" in mistake.error
    assert '"nowhere.at_all"' in unknown.error


def test_a_result_that_is_not_plain_is_refused_and_numbers_of_numpy_are_not(
    executor: ProcessExecutor, inbox: Inbox
) -> None:
    """A tensor fails the job before it reaches the main process; NumPy scalars arrive as Python's numbers."""
    executor.submit(job("tensor"))
    executor.submit(job("numpy_scalar"))
    refused, numbers = inbox.ending(), inbox.ending()
    assert isinstance(refused, JobFailed) and "not plain" in refused.error and not refused.retryable
    assert isinstance(numbers, JobFinished)
    assert {key: (type(x), x) for key, x in numbers.result.notes.items()} == {"mean": (float, 0.5), "n": (int, 3)}


def test_cancel_ends_a_job_at_its_next_checkpoint(executor: ProcessExecutor, inbox: Inbox) -> None:
    """A cancelled job ends as cancelled and the same worker runs the next one."""
    executor.submit(job("echo"))
    first = inbox.ending()
    long = job("steps", n=100_000)
    executor.submit(long)
    inbox.first_progress()
    executor.cancel(long.id)
    ended = inbox.ending()
    assert isinstance(ended, JobFailed) and ended.cancelled and not ended.retryable
    executor.submit(job("echo", key=2))
    last = inbox.ending()
    assert isinstance(first, JobFinished) and isinstance(last, JobFinished)
    assert first.result.notes["pid"] == last.result.notes["pid"]


def test_a_job_that_does_not_listen_is_cancelled_by_force(executor: ProcessExecutor, inbox: Inbox) -> None:
    """After the grace period the worker is killed and the job reported as cancelled, not as crashed."""
    deaf = job("stubborn")
    executor.submit(deaf)
    inbox.first_progress()
    executor.cancel(deaf.id)
    ended = inbox.ending()
    assert isinstance(ended, JobFailed) and ended.cancelled and not ended.retryable


def test_a_waiting_job_can_be_cancelled(executor: ProcessExecutor, inbox: Inbox) -> None:
    """Cancelling a job that has not begun takes it out of the queue; the running one is untouched."""
    running, waiting = job("steps", n=20), job("echo", key="waiting")
    executor.submit(running)
    executor.submit(waiting)
    executor.cancel(waiting.id)
    ends = {event.job.id: event for event in (inbox.ending(), inbox.ending())}
    assert isinstance(ends[running.id], JobFinished)
    assert isinstance(ends[waiting.id], JobFailed) and ends[waiting.id].cancelled  # type: ignore[union-attr]


def test_pause_holds_a_job_at_a_checkpoint_and_resume_lets_it_end(
    executor: ProcessExecutor, inbox: Inbox, tmp_path: Path
) -> None:
    """While paused the training lane makes no step; serving goes on meanwhile; after the pause training ends, too."""
    executor.pause(True)
    trace = tmp_path / "trace"
    executor.submit(job("steps", n=5, trace=str(trace)))
    executor.submit(job("echo", lane="serve"))
    served = inbox.ending()
    assert isinstance(served, JobFinished) and served.job.lane == "serve"
    time.sleep(1.0)
    assert inbox.events.empty() and not trace.exists()
    executor.pause(False)
    assert isinstance(inbox.ending(), JobFinished)
    assert trace.read_text().split() == ["0", "1", "2", "3", "4"]


def test_progress_is_throttled(executor: ProcessExecutor, inbox: Inbox) -> None:
    """A job that reports a thousand times a second is heard about ten times a second at most."""
    executor.submit(job("steps", n=500, pause=0.001))
    ended = inbox.ending()
    assert isinstance(ended, JobFinished)
    assert 1 <= len(inbox.progress) <= ended.seconds * 10 + 2
    assert inbox.progress[0].total == 500


def test_close_ends_workers_in_the_middle_of_work(inbox: Inbox) -> None:
    """close() ends both workers, a deaf one too, and reports nothing about their jobs."""
    executor = ProcessExecutor(SPEC, inbox.events.put, grace=3.0)
    executor.submit(job("stubborn"))
    executor.submit(job("steps", lane="serve", n=100_000))
    inbox.take()
    pids = executor.pids()
    executor.close()
    assert len(pids) == 2 and all(gone(pid) for pid in pids.values())
    while not inbox.events.empty():
        assert isinstance(inbox.take(), Progress)
    executor.close()  # twice is harmless


def test_workers_end_when_the_main_process_is_killed(tmp_path: Path) -> None:
    """kill -9 of the main process leaves no orphan, even in the middle of a job."""
    program = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from daemon.events import Job
from daemon.executors.base import WorkerSpec
from daemon.executors.process import ProcessExecutor
spec = WorkerSpec(backend="fake", options={{"rates": {{}}}})
executor = ProcessExecutor(spec, lambda event: print("event", flush=True))
executor.submit(Job.make("{HERE}:stubborn", lane="train", cycle=1))
print(executor.pids()["train"], flush=True)
time.sleep(600)
"""
    main = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert main.stdout is not None
    pid = int(main.stdout.readline())
    assert main.stdout.readline().strip() == "event"  # the job has begun
    main.kill()
    main.wait()
    main.stdout.close()
    assert gone(pid)


def test_ctrl_c_and_sigterm_do_not_reach_the_work(executor: ProcessExecutor, inbox: Inbox) -> None:
    """A worker ignores SIGINT and SIGTERM: when to end is the main process's decision."""
    executor.submit(job("steps", n=30))
    inbox.first_progress()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(executor.pids()["train"], number)
    assert isinstance(inbox.ending(), JobFinished)


def test_a_missing_model_fails_the_job_with_a_message_for_a_person(inbox: Inbox, tmp_path: Path) -> None:
    """A model folder that is not there is named in the job's error, and trying again is not suggested."""
    executor = ProcessExecutor(WorkerSpec(backend="hf", options={"path": str(tmp_path / "none")}), inbox.events.put)
    executor.submit(job("answer", texts=["hello"]))
    failed = inbox.ending()
    executor.close()
    assert isinstance(failed, JobFailed) and not failed.retryable
    assert str(tmp_path / "none") in failed.error and "model.path" in failed.error


def test_the_main_process_never_imports_torch(tmp_path: Path) -> None:
    """Running jobs that use a real model in workers leaves the main process without torch, transformers or numpy."""
    program = f"""
import sys, queue
sys.path.insert(0, {str(ROOT)!r})
from daemon.events import Job, JobFinished
from daemon.executors.base import WorkerSpec
from daemon.executors.process import ProcessExecutor
events = queue.SimpleQueue()
executor = ProcessExecutor(WorkerSpec(backend="hf", options={{"path": {str(tmp_path)!r}}}), events.put)
executor.submit(Job.make("{HERE}:answer", lane="serve", cycle=1, texts=["the fox", "no"]))
while not isinstance(event := events.get(timeout=300), JobFinished):
    assert not hasattr(event, "error"), event.error
assert len(event.result.notes["answers"]) == 2
executor.close()
print(sorted({{"torch", "transformers", "peft", "numpy"}} & set(sys.modules)))
"""
    from tests.daemon.models import tiny

    tiny.save(tmp_path)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_closing_in_the_middle_of_a_training_step_leaves_nothing_half_written(inbox: Inbox, tmp_path: Path) -> None:
    """close() during real training ends the worker and leaves no adapter folder and no partial one."""
    from tests.daemon.models import tiny

    tiny.save(tmp_path / "model")
    executor = ProcessExecutor(WorkerSpec(backend="hf", options={"path": str(tmp_path / "model")}), inbox.events.put)
    executor.submit(job("long_training", into=str(tmp_path / "adapters" / "a1")))
    inbox.first_progress()
    pid = executor.pids()["train"]
    executor.close()
    assert gone(pid)
    assert not (tmp_path / "adapters").exists()

"""Warm worker processes, one per lane: the model lives there, and can be killed, restarted and replaced.

This side never imports torch. A worker that dies fails its job (which may be tried again) and is started anew for the
next one.
"""

from __future__ import annotations

from collections.abc import Mapping

from daemon.events import Job, Lane
from daemon.executors.base import Emit, WorkerSpec
from daemon.executors.lane import WorkerLane

LANES: tuple[Lane, ...] = ("train", "serve")
NICENESS: Mapping[Lane, int] = {"train": 5, "serve": 0, "keep": 0}  # serving is preferred


class ProcessExecutor:
    """`spec` is one for the lanes that every daemon has, or one per lane.

    `grace` seconds lie between asking a job to end and killing it. Events are emitted from threads of this object. A
    lane's worker starts at its first job, or with `warm`.
    """

    def __init__(self, spec: WorkerSpec | Mapping[Lane, WorkerSpec], emit: Emit, *, grace: float = 5.0) -> None:
        specs = dict.fromkeys(LANES, spec) if isinstance(spec, WorkerSpec) else spec
        self._lanes = {
            lane: WorkerLane(lane, specs[lane], emit, grace=grace, niceness=NICENESS[lane]) for lane in specs
        }

    def submit(self, job: Job) -> None:
        """Run `job` in its lane, after those submitted before it."""
        self._lanes[job.lane].submit(job)

    def cancel(self, job_id: str) -> None:
        """End a job: at its next checkpoint, by force after the grace period. An unknown id is no error."""
        for lane in self._lanes.values():
            lane.cancel(job_id)

    def pause(self, paused: bool) -> None:
        """Hold training at its next checkpoint, and what is submitted to it at its start; or let it go on.

        The serving lane is never held: its jobs are short, and a person who chats would wait behind a held one.
        """
        self._lanes["train"].pause(paused)

    def busy(self, lane: Lane) -> bool:
        """Whether a job of this lane runs or waits."""
        return self._lanes[lane].busy()

    def warm(self, lane: Lane) -> None:
        """Start the lane's worker, so that the model is loaded when its first job comes."""
        self._lanes[lane].warm()

    def pids(self) -> dict[Lane, int]:
        """The process ids of the workers that run."""
        return {name: pid for name, lane in self._lanes.items() if (pid := lane.pid()) is not None}

    def close(self) -> None:
        """End the workers within a few seconds, in the middle of a training step too.

        Nothing is emitted about jobs that this ends: they are still "running" in the store and are found there again.
        """
        for lane in self._lanes.values():
            lane.leave()
        for lane in self._lanes.values():
            lane.close()

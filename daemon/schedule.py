"""When: APScheduler asks for cycles and opens and closes the window for heavy work. It decides nothing else.

APScheduler's `misfire_grace_time` defaults to one second, after which a late job is silently skipped; a laptop that
slept through the night must still dream in the morning, so there is no limit here, and missed cycles are coalesced.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from daemon.config import ScheduleSection
from daemon.errors import ConfigError
from policies.windows import is_open

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
WINDOW_CHECK_SECONDS = 15
LONGEST_PAUSE_SECONDS = 900.0


class Schedule:
    """Calls `due(why)` when a cycle is due and `rest(bool)` when the window closes or opens. Thread: APScheduler's."""

    def __init__(
        self,
        section: ScheduleSection,
        *,
        due: Callable[[str], None],
        rest: Callable[[bool], None],
        idle_seconds: Callable[[], float],
    ) -> None:
        self.section = section
        self.due = due
        self.rest = rest
        self.idle_seconds = idle_seconds
        self._scheduler = BackgroundScheduler(job_defaults={"misfire_grace_time": None, "coalesce": True})
        self._trigger = trigger(section.cycle)

    @property
    def continuous(self) -> bool:
        """Does a new cycle follow as soon as one has ended?"""
        return self.section.cycle == "continuous"

    def start(self, *, ask: bool = True) -> None:
        """Start the clockwork; a continuous schedule asks for its first cycle at once, unless `ask` is false."""
        if self._trigger is not None:
            self._scheduler.add_job(self.due, self._trigger, args=[self.section.cycle], id="cycle")
        if self.section.window != "always":
            self._scheduler.add_job(self.check, IntervalTrigger(seconds=WINDOW_CHECK_SECONDS), id="window")
            self.check()
        self._scheduler.start()
        if self.continuous and ask:
            self.due("continuous")

    def again(self, failed_in_a_row: int = 0) -> None:
        """A cycle has ended: a continuous schedule asks for the next one after a short pause, longer after failures."""
        if self.continuous:
            pause = self.section.pause_between_seconds
            if failed_in_a_row:
                pause = min(LONGEST_PAUSE_SECONDS, max(1.0, pause) * 2.0**failed_in_a_row)
            when = datetime.now().astimezone() + timedelta(seconds=pause)
            self._scheduler.add_job(
                self.due, "date", run_date=when, args=["continuous"], id="next", replace_existing=True
            )

    def reconfigure(self, section: ScheduleSection) -> None:
        """Another `schedule.cycle` from now on (the window stays); a cycle that runs is not touched."""
        if section.cycle == self.section.cycle:
            return
        self._trigger = trigger(section.cycle)
        self.section = section
        for id in ("cycle", "next"):
            with contextlib.suppress(JobLookupError):  # a date that has passed removes itself
                self._scheduler.remove_job(id)
        if self._trigger is not None:
            self._scheduler.add_job(self.due, self._trigger, args=[section.cycle], id="cycle")
        self.again()

    def check(self) -> None:
        """Open or close the window for heavy work."""
        self.rest(
            not is_open(
                self.section.window,
                now=datetime.fromtimestamp(time.time()),
                idle_seconds=self.idle_seconds(),
                idle_after_seconds=60 * self.section.idle_minutes,
            )
        )

    def next(self) -> dict[str, object] | None:
        """What is scheduled next, and when (seconds since the epoch), for `dreamctl status`."""
        jobs = [job for job in self._scheduler.get_jobs() if job.id in ("cycle", "next")]
        soonest = min((job.next_run_time for job in jobs if job.next_run_time), default=None)
        return {"what": "cycle", "when": soonest.timestamp()} if soonest else None

    def close(self) -> None:
        """Stop the clockwork."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)


def trigger(cycle: str) -> CronTrigger | IntervalTrigger | None:
    """The trigger of `schedule.cycle`; None for "continuous" and "manual". Raises ConfigError."""
    if cycle in ("continuous", "manual"):
        return None
    words = cycle.split(maxsplit=1)
    try:
        if words[0] == "cron":
            return CronTrigger.from_crontab(words[1])
        if words[0] == "every":
            return IntervalTrigger(**{UNITS[words[1][-1]]: int(words[1][:-1])})
    except (IndexError, KeyError, ValueError) as error:
        raise ConfigError(
            f'`schedule.cycle` = {cycle!r}: {error}; write for example "every 15m" or "cron 0 3 * * *"'
        ) from None
    raise ConfigError(f'`schedule.cycle` = {cycle!r}: write "continuous", "every 15m", "cron 0 3 * * *" or "manual"')

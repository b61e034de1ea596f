"""When cycles are due and when heavy work rests."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from apscheduler.jobstores.base import JobLookupError
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from daemon.config import ScheduleSection
from daemon.errors import ConfigError
from daemon.schedule import Schedule, trigger
from policies.windows import is_open


@pytest.mark.parametrize(
    ("window", "at", "open_"),
    [
        ("always", "12:00", True),
        ("01:00-05:00", "01:00", True),
        ("01:00-05:00", "05:00", False),
        ("22:00-06:00", "23:59", True),
        ("22:00-06:00", "05:59", True),
        ("22:00-06:00", "12:00", False),
    ],
)
def test_a_nightly_window_opens_and_closes(window: str, at: str, open_: bool) -> None:
    """Windows include their start, exclude their end, and may cross midnight."""
    now = datetime.fromisoformat(f"2026-01-01T{at}")
    assert is_open(window, now=now, idle_seconds=0, idle_after_seconds=600) is open_


def test_idle_opens_after_the_configured_silence() -> None:
    """ "idle" means nobody has talked for idle_minutes."""
    now = datetime(2026, 1, 1)
    assert not is_open("idle", now=now, idle_seconds=599, idle_after_seconds=600)
    assert is_open("idle", now=now, idle_seconds=600, idle_after_seconds=600)


def test_cycle_expressions() -> None:
    """Intervals and cron lines become APScheduler triggers; continuous and manual have none."""
    assert isinstance(trigger("every 15m"), IntervalTrigger)
    assert isinstance(trigger("cron 0 3 * * *"), CronTrigger)
    assert trigger("continuous") is None and trigger("manual") is None


@pytest.mark.parametrize("cycle", ["every", "every 5 minutes", "cron 99 * * * *", "sometimes", "every 0x"])
def test_a_bad_cycle_expression_is_refused_by_name(cycle: str) -> None:
    """The message names the key, the value and a right one."""
    with pytest.raises(ConfigError, match=r"schedule\.cycle"):
        trigger(cycle)


def test_a_continuous_schedule_asks_again_after_each_cycle() -> None:
    """The first cycle is asked for at once, the next one when `again` is called."""
    import threading

    asked: list[str] = []
    second = threading.Event()

    def due(why: str) -> None:
        asked.append(why)
        if len(asked) == 2:
            second.set()

    section = ScheduleSection(cycle="continuous", pause_between_seconds=0)
    schedule = Schedule(section, due=due, rest=lambda _: None, idle_seconds=lambda: 0)
    schedule.start()
    try:
        assert asked == ["continuous"]
        schedule.again()
        assert second.wait(30)
        while schedule.next() is not None:  # APScheduler's thread must not be in the middle of it when it is stopped
            time.sleep(0.01)
    finally:
        schedule.close()


def test_a_closed_window_rests_from_the_start() -> None:
    """With window = "idle" and recent talk, heavy work rests before the first cycle is asked for."""
    rests: list[bool] = []
    section = ScheduleSection(cycle="manual", window="idle")
    schedule = Schedule(section, due=lambda _: None, rest=rests.append, idle_seconds=lambda: 0)
    schedule.start()
    schedule.close()
    assert rests == [True]


def test_what_is_next_is_told_in_seconds_since_the_epoch() -> None:
    """`dreamctl status` counts down to the next cycle; a manual schedule has none."""
    section = ScheduleSection(cycle="every 15m")
    schedule = Schedule(section, due=lambda _: None, rest=lambda _: None, idle_seconds=lambda: 0)
    schedule.start()
    try:
        following = schedule.next()
        assert following is not None and following["what"] == "cycle"
        assert 0 < float(str(following["when"])) - time.time() <= 900
    finally:
        schedule.close()
    assert (
        Schedule(
            ScheduleSection(cycle="manual"), due=lambda _: None, rest=lambda _: None, idle_seconds=lambda: 0
        ).next()
        is None
    )


def test_a_schedule_changes_while_its_next_cycle_is_just_being_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A date that passes in the very moment in which it is taken back is no error: the new schedule holds."""
    section = ScheduleSection(cycle="continuous", pause_between_seconds=1000)
    schedule = Schedule(section, due=lambda _: None, rest=lambda _: None, idle_seconds=lambda: 0)
    schedule.start(ask=False)
    try:
        schedule.again()

        def passed(id: str) -> None:
            raise JobLookupError(id)

        with monkeypatch.context() as patched:
            patched.setattr(schedule._scheduler, "remove_job", passed)
            schedule.reconfigure(ScheduleSection(cycle="every 15m"))
        assert schedule.section.cycle == "every 15m"
        assert schedule._scheduler.get_job("cycle") is not None
    finally:
        schedule.close()

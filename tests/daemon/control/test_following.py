"""Following an experiment: through a restart, to its end, and what is said when it does not answer."""

from __future__ import annotations

from typing import Any

import click
import pytest

from daemon.control import following
from daemon.control.connection import NoDaemon, Refused, Unanswered

RUNNING = {"state": "running", "done": 1, "total": 4, "note": "measuring", "error": None, "notes": {}}
DONE = {**RUNNING, "state": "done", "notes": {"finding": "f"}}


class Daemon:
    """Answers or raises what it is told to, in order; the last one again and again."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = list(answers)

    def get(self, path: str) -> dict[str, Any]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "BETWEEN", 0.0)
    monkeypatch.setattr(following, "PATIENCE", 0.05)


def follow(*answers: dict[str, Any] | Exception) -> dict[str, Any]:
    return following.follow(Daemon(*answers), "j", quiet=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("gap", [NoDaemon("none runs"), Unanswered("it stopped in the middle of its answer")])
def test_a_daemon_that_restarts_is_waited_for(gap: Exception) -> None:
    """Whether it is gone or was cut off in the middle of an answer: the job goes on with the next one."""
    assert follow(RUNNING, gap, gap, RUNNING, DONE) == DONE


@pytest.mark.parametrize("gap", [NoDaemon("none runs"), Unanswered("no answer within 10 s")])
def test_one_that_stays_away_is_not_waited_for_for_ever(gap: click.ClickException) -> None:
    """After a while it ends with the reason."""
    with pytest.raises(type(gap), match=gap.message):
        follow(RUNNING, gap)


@pytest.mark.parametrize(
    ("ended", "words"),
    [({"state": "cancelled"}, "asking again goes on"), ({"state": "failed", "error": "too few pairs"}, "too few pairs"),
     ({"state": "failed"}, "log has the details")],
)  # fmt: skip
def test_a_job_that_did_not_answer_says_why(ended: dict[str, Any], words: str) -> None:
    """Cancelled or failed, it ends with what happened and what remains."""
    with pytest.raises(Refused, match=words):
        follow(RUNNING, {**RUNNING, **ended})

"""`dreamctl report` and the answer book: what is written where, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from daemon.control import REPORT_NAME
from daemon.control.client import main
from tests.daemon.control.book import sample

ANSWERS_NAME = "answers.json"


def report(state: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--state", str(state), "report", *arguments])


def left_behind(state: Path, answers: bool = True) -> None:
    """What a daemon leaves in its state folder when it ends."""
    (state / REPORT_NAME).write_text(json.dumps(sample.report()), encoding="utf-8")
    if answers:
        given = sample.answers()
        given["questions"] = {"q6": given["questions"]["q6"]}  # one is quick to draw
        (state / ANSWERS_NAME).write_text(json.dumps(given), encoding="utf-8")


def test_the_book_of_a_daemon_that_ended_is_made_from_what_it_left(tmp_path: Path) -> None:
    """The text goes on being printed; the page is in the state folder and its path is the last line."""
    left_behind(tmp_path)
    result = report(tmp_path)
    assert result.exit_code == 0, result.output
    assert "listening" in result.stdout
    assert result.stdout.splitlines()[-1] == f"answer book: {tmp_path / 'report.html'}"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No family of skills loses more than two points" in page and "dreamctl ask q1 --quick" in page


def test_without_answers_the_book_says_how_to_ask(tmp_path: Path) -> None:
    """An older daemon left a report and no answers: not an error."""
    left_behind(tmp_path, answers=False)
    assert report(tmp_path).exit_code == 0
    assert "0 of 7 questions answered" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_json_has_the_answers_inside_the_report_and_writes_nothing(tmp_path: Path) -> None:
    """One JSON value; the report's own keys stay where they were."""
    left_behind(tmp_path)
    result = report(tmp_path, "--json")
    told = json.loads(result.stdout)
    assert told["behaviors"].keys() == sample.report()["behaviors"].keys()
    assert told["answers"]["questions"]["q6"]["latest"]["verdict"] == "non-inferior"
    assert not (tmp_path / "report.html").exists()


def test_out_names_another_place(tmp_path: Path) -> None:
    """With --json too, and then the path is not in the way of the JSON."""
    left_behind(tmp_path, answers=False)
    other = tmp_path / "elsewhere.html"
    result = report(tmp_path, "--json", "--out", str(other))
    json.loads(result.stdout)
    assert other.read_text(encoding="utf-8").lstrip().startswith("<!doctype html>")
    assert str(other) in result.stderr
    assert not (tmp_path / "report.html").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Asked for, it is an error; in a state folder that one may only read, a remark after the text."""
    left_behind(tmp_path, answers=False)
    result = report(tmp_path, "--out", str(tmp_path / "no" / "such" / "page.html"))
    assert (result.exit_code, "page.html: the answer book cannot be written" in result.stderr) == (1, True)
    (tmp_path / "report.html").mkdir()
    result = report(tmp_path)
    assert (result.exit_code, "--out FILE names another place" in result.stderr) == (0, True)


def test_broken_answers_do_not_hide_the_report(tmp_path: Path) -> None:
    """Half a file is said, and the rest is printed."""
    left_behind(tmp_path)
    (tmp_path / ANSWERS_NAME).write_text('{"questions": ')
    result = report(tmp_path)
    assert result.exit_code == 0
    assert f"without the answers: {tmp_path / ANSWERS_NAME}" in result.stderr and "listening" in result.stdout


def test_a_running_daemon_is_asked(served: Any) -> None:
    """Report and answers come over the socket."""
    served.memory.answers = sample.answers
    result = report(served.state, "--json")
    assert json.loads(result.stdout)["answers"]["questions"]["q2"]["latest"]["verdict"] == "over-predicts"

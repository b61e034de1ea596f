"""What dreamctl prints of answers, advice and one finding."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from daemon.control import wording
from daemon.control.answers_view import advice_lines, answer_lines, finding_lines
from daemon.control.book import drawing
from tests.daemon.control.book import sample

ANSWERS = sample.answers()


def test_answers_are_a_table_with_interval_unit_n_size_and_age() -> None:
    """A row per answer, columns in line, live ones beside those that were asked for."""
    lines = answer_lines(ANSWERS, sample.NOW)
    assert lines[1].split() == ["q1", "identified", "9.5", "[6.4,", "14.8]", "examples", "800", "full", "1", "h", "30",
                                "min", "listening"]  # fmt: skip
    assert [line[:2] for line in lines[1:]] == ["q1", "q2", "q3", "q4", "q5", "q6", "q6", "q7"]
    assert len({line.index("listening") for line in lines[1:]}) == 1
    assert any("observed" in line and "live" in line for line in lines)


def test_what_was_not_asked_says_how_to_ask() -> None:
    """An open question is named in words; with none answered there is no empty table."""
    questions = {"q3": {"title": "Which attention heads change?", "latest": None, "live": None, "history": []}}
    assert answer_lines({"questions": questions}, 0.0)[0] == "q3  not asked yet: Which attention heads change?"
    assert "dreamctl ask" in answer_lines({}, 0.0)[0]


def test_advice_has_its_change_state_and_evidence_and_the_open_ones_come_first() -> None:
    """Key, value, what is configured now, state with who and when, and why."""
    rows = [row | {"by": "operator"} for row in reversed(ANSWERS["advice"])]
    lines = advice_lines(rows, sample.NOW)
    assert lines[0] == 'a-q1  learn.cadence = "continuous" (now "nightly")  proposed by operator, 1 h 6 min ago'
    assert lines[1].strip() == "q1: ED80 is 9.5 [6.4, 14.8] examples"
    assert "accept" in lines[-1]
    assert "accept" not in advice_lines(rows[:1], sample.NOW)[-1], "nothing waits for a decision"
    assert advice_lines([], 0.0) == ["no answer has advised anything yet"]


def test_a_finding_ends_an_ask_with_everything_that_makes_it_believable() -> None:
    """Verdict with its sentence, estimate, interval, n, null, seeds, controls, what it lacks, advice, time."""
    text = "\n".join(finding_lines(ANSWERS["questions"]["q7"]["latest"], ANSWERS["advice"][:1]))
    for words in (
        "q7 not identified: Separation rises", "estimate   0.03 [−0.02, 0.08] AUC, n 80",
        "null       shuffled labels: 0.01 [−0.03, 0.05], p = 0.41", "seeds      5 (0, 1, 2, 3, 4)", "✓ placebo holds",
        "✗ power fails: 80 units", "– second backend not run", "lacks      2 seeds", "changes if A placebo",
        "advises    learn.cadence", "took       6 min, quick run, listening on 3f9a61c2",
    ):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize("finding", [{}, dict.fromkeys(ANSWERS["questions"]["q1"]["latest"])])
def test_a_bare_finding_prints(finding: dict[str, Any]) -> None:
    """Nulls are dashes."""
    text = "\n".join(finding_lines(finding))
    assert "no verdict" in text and "None" not in text


def test_names_of_users_do_not_steer_the_terminal() -> None:
    """Escape sequences and line breaks in what a file brings are gone."""
    bad = "x\x1b[2J\ny"
    finding = ANSWERS["questions"]["q1"]["latest"] | {"behavior": bad, "sentence": bad, "verdict": bad}
    advice = [ANSWERS["advice"][0] | {"value": bad, "evidence": bad, "key": bad}]
    answers = {"questions": {"q1": {"latest": finding}}}
    printed = [*finding_lines(finding, advice), *advice_lines(advice, 0.0), *answer_lines(answers, 0.0)]
    assert not [line for line in printed if "\x1b" in line or "\n" in line]


@pytest.mark.parametrize("module", [wording, drawing])
def test_doctests(module: Any) -> None:
    """The examples in the docstrings hold."""
    assert doctest.testmod(module).failed == 0

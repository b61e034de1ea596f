"""The answer book's page: complete, safe with whatever is in the answers, and readable before anything was asked."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any

import pytest

from daemon.control.book import build, save
from tests.daemon.control.book import sample


class Reader(HTMLParser):
    """Collects tags, attributes and text; text of the style sheet apart."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.sheet = ""
        self._in = ""
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "style":
            self.sheet += data
        else:
            self.words.append(data)


@pytest.fixture(scope="module")
def page() -> str:
    return build(sample.answers(), sample.report(), now=sample.NOW)


def section(page: str, key: str) -> str:
    found = re.search(rf'<section class="question" id="{key}".*?</section>', page, re.DOTALL)
    assert found
    return Reader(found[0]).text


def test_every_answer_is_complete(page: str) -> None:
    """Sentence, verdict, estimate, interval, n, null, seeds, seconds, size, age, adapter, controls, rule."""
    text = section(page, "q1")
    for words in (
        "How few examples change a behaviour?", "identified", "Ten examples take listening four fifths of the way",
        "9.5 examples", "[6.4, 14.8]", "800", "shuffled labels: 0.01 [−0.03, 0.05], p = 0.41", "5 (0, 1, 2, 3, 4)",
        "6 min", "full protocol", "1 h 30 min ago", "3f9a61c2", "holds placebo", "not run second backend",
        "The trend test passes at p < .01", "A placebo that rises as well", "0.1.0+3d85a37", "nano-9c1f22d07b",
    ):  # fmt: skip
        assert words in text, words
    assert "2 seeds where the protocol asks for 5" in section(page, "q7")
    assert "fails power" in section(page, "q7")


def test_the_summary_has_a_row_per_question(page: str) -> None:
    """Question, verdict, estimate with interval, n, age."""
    rows = re.findall(r"<tr>\s*<th scope=\"row\"><a href.*?</tr>", page, re.DOTALL)
    assert len(rows) == 7
    text = Reader(rows[3]).text
    for words in ("Q4", "explicit detection is needed", "2.3 [1.8, 3.1] times the probe's delay", "56", "6 h"):
        assert words in text


def test_advice_is_shown_with_its_state(page: str) -> None:
    """Key, value, what is configured now, evidence, state; what is proposed also stands on top."""
    assert 'proposed learn.cadence = "continuous" (now "nightly") ED80 is' in section(page, "q1")
    assert "accepted dream.temperature = 0.9 (now 0.7)" in section(page, "q2")
    assert "undone" in section(page, "q4")
    top = page[page.index('class="waiting"') : page.index('id="q1"')]
    assert "learn.cadence" in top and "guard.channels" not in top


def test_what_was_seen_live_stands_beside_what_was_asked(page: str) -> None:
    """Both answers of a question, each with its plots."""
    text = section(page, "q6")
    assert text.index("non-inferior") < text.index("Seen live") < text.index("observed")
    assert page.count("<figure>") == 11


def test_a_live_answer_alone_is_the_answer() -> None:
    """A question that nobody asked, but that the loop has watched."""
    given = sample.answers()
    given["questions"] = {"q6": given["questions"]["q6"] | {"latest": None}}
    text = section(build(given, None, now=sample.NOW), "q6")
    assert "observed" in text and "Not asked yet" not in text


def test_history_and_report_are_tables(page: str) -> None:
    """Answers per question, the newest first; base against serving on sealed probes."""
    text = section(page, "q1")
    assert text.index("9.5 [6.4, 14.8] 800 full") < text.index("not identified 9.5 [6.4, 14.8] 60 quick")
    text = Reader(page).text
    assert "listening 48 % [43 %, 53 %], n 200 10 %" in text
    assert "general skill 13 %" in text


@pytest.mark.parametrize("answers", [None, {}, {"questions": {}, "advice": []}, {"questions": None, "advice": None}])
def test_before_anything_was_asked_it_says_how_to_ask(answers: dict[str, Any] | None) -> None:
    """Seven questions in words, each with its command."""
    text = Reader(build(answers, None, now=sample.NOW)).text
    assert "0 of 7 questions answered" in text
    assert "Which attention heads change?" in text
    for n in range(1, 8):
        assert f"dreamctl ask q{n} --quick" in text


def test_nulls_everywhere_are_missing_values() -> None:
    """A finding of which only the keys are left makes a page with dashes, and no word of Python's."""
    given = sample.answers()
    for facts in given["questions"].values():
        finding = facts["latest"]
        evidence = dict.fromkeys(finding["evidence"])
        facts["latest"] = dict.fromkeys(finding) | {"evidence": evidence}
        facts["history"] = [dict.fromkeys(facts["history"][0]), None]
    given["advice"] = [dict.fromkeys(given["advice"][0]) | {"question": "q1"}]
    page = build(given, {"behaviors": {"listening": None}, "general": None, "serving": None}, now=sample.NOW)
    assert "no verdict" in page
    assert not re.search(r">[^<]*\b(None|nan|inf)\b", page)


def test_whatever_is_wrong_in_a_finding_leaves_the_page() -> None:
    """Evidence of wrong types and a figure of an unknown kind cost what they stand for, not the page."""
    given = sample.answers()
    given["questions"]["q1"]["latest"]["evidence"] = ["not", "an", "object"]
    given["questions"]["q2"]["latest"]["evidence"]["figures"] = [{"kind": "hologram", "title": "A"}, 7,
                                                                {"kind": "transfer", "title": "B"}]  # fmt: skip
    given["questions"] = {"q1": given["questions"]["q1"], "q2": given["questions"]["q2"], "q3": 7}
    text = Reader(build(given, None, now=sample.NOW)).text
    assert "knows no figure of the kind 'hologram'" in text
    assert "cannot be drawn: there are no numbers yet" in text


def test_hostile_strings_stay_text() -> None:
    """Names, sentences and keys that a user's file brings: no markup of theirs reaches the page."""
    bad = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}</style>\x00'

    def spoil(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: spoil(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [spoil(item) for item in value]
        return bad if isinstance(value, str) and key not in ("kind", "role") else value

    given = sample.answers()
    for facts in given["questions"].values():
        for figure in facts["latest"]["evidence"]["figures"]:
            if figure["kind"] in ("ranking", "head_map"):
                figure |= {"items": figure.get("items", [])[:5], "rows": ["a"], "columns": ["b"], "values": [[1]]}
    spoiled = spoil(given)
    spoiled["questions"][bad] = spoiled["questions"]["q1"]
    report = sample.report()
    report["behaviors"][bad] = report["behaviors"]["listening"]
    reader = Reader(build(spoiled, spoil(report), now=sample.NOW))
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "img", "iframe", "object", "link", "form", "base"}
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in reader.text and "{{ 7*7 }}" in reader.text


def test_it_loads_and_runs_nothing(page: str) -> None:
    """No script, no address but its own anchors, no style but the sheet, and a policy that would forbid them."""
    reader = Reader(page)
    for tag, attributes in reader.tags:
        assert tag not in ("script", "link", "img", "iframe")
        for name, value in attributes.items():
            assert name not in ("src", "style", "srcset") and not name.startswith("on")
            if name == "href":
                assert str(value).startswith("#")
    assert not re.search(r"url\((?!#)|@import|https?:", reader.sheet)
    policy = next(str(a["content"]) for t, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    allowed = base64.b64encode(hashlib.sha256(reader.sheet.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{allowed}'")
    assert "unsafe" not in policy


def test_ids_are_unique_and_references_lead_somewhere(page: str) -> None:
    """Anchors, labels and the parts of drawings."""
    attributes = [a for _, a in Reader(page).tags]
    ids = [a["id"] for a in attributes if "id" in a]
    assert len(ids) == len(set(ids))
    for a in attributes:
        for name in ("aria-labelledby", "href"):
            for reference in str(a.get(name) or "").replace("#", " ").split():
                assert reference in ids


def test_colours_of_the_sheet_cover_those_drawn_with(page: str) -> None:
    """Every variable is defined, for light and for dark."""
    sheet = Reader(page).sheet
    for name in set(re.findall(r"var\((--[\w-]+)\)", page)):
        assert len(re.findall(rf"{name}:", sheet)) == 2, name


def test_the_client_loads_no_plotting_before_a_page_is_made() -> None:
    """Importing the book's code brings in neither matplotlib nor jinja2 nor numpy."""
    code = "import sys, daemon.control.book.svg, daemon.control.book.figures.transfer; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"matplotlib", "jinja2", "numpy", "markupsafe"}.isdisjoint(loaded)
    assert not [m for m in loaded if m.startswith("daemon.") and not m.startswith("daemon.control")]


def test_a_page_is_saved_whole(tmp_path: Any) -> None:
    """It replaces the one before, and leaves nothing beside it."""
    file = tmp_path / "report.html"
    file.write_text("old")
    save("<p>neu ü", file)
    assert file.read_text(encoding="utf-8") == "<p>neu ü"
    assert list(tmp_path.iterdir()) == [file]

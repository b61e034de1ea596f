"""The answer book in a real browser: quiet, offline, and legible on a phone and on a desk, by day and by night."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.control.book import build
from tests.daemon.control.book import sample

pytestmark = pytest.mark.browser

WIDTHS = {"phone": 360, "desk": 1280}
SCHEMES = ("light", "dark")

# Runs in the page: every text with its contrast (WCAG 2.2, 1.4.3) against what is painted behind it.
CONTRAST = """() => {
  const parts = c => c.match(/[\\d.]+/g).map(Number)
  const linear = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
  const light = (r, g, b) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b)
  const luminance = c => light(...parts(c))
  const behind = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor; if (parts(c).length < 4 || parts(c)[3] > 0) return c } }
  const found = []
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())
    if (!own || !e.getClientRects().length || ['title', 'desc'].includes(e.localName)) continue
    const svg = e.closest('svg'), style = getComputedStyle(e)
    if (svg && style.fill === behind(svg)) continue // stands on a dark cell of a map
    const [a, b] = [luminance(svg ? style.fill : style.color), luminance(behind(svg || e))]
    found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.textContent.trim().slice(0, 40)])
  }
  return found.filter(([ratio]) => ratio < 4.5)
}"""

# Every text of a figure: its size on the screen, whether it leaves its figure, and which others it lies on.
FIGURES = """() => [...document.querySelectorAll('figure svg')].flatMap(svg => {
  const frame = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll('text')]
  const boxes = texts.map(t => t.getBoundingClientRect())
  const out = b => Math.max(frame.left - b.left, b.right - frame.right, frame.top - b.top, b.bottom - frame.bottom) > 1
  const shared = (a, b) => Math.max(0, Math.min(a.right, b.right) - Math.max(a.left, b.left)) *
                           Math.max(0, Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top))
  const scale = svg.getScreenCTM().a
  const px = t => parseFloat(getComputedStyle(t).fontSize) * scale
  return texts.map((t, n) => ({ words: t.textContent, px: px(t), out: out(boxes[n]),
    on: texts.filter((_, m) => m !== n && shared(boxes[n], boxes[m]) > 6).map(o => o.textContent) }))
})"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The distribution's Chromium, driven over its DevTools protocol."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="NOT TESTED in a browser: playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("NOT TESTED in a browser: chromium is not on this machine")
    # Chromium's own sandbox does not work for root, and the page under test is ours
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the sample, with names as long as a user's may be."""
    answers = sample.answers()
    finding = answers["questions"]["q5"]["latest"]
    finding["behavior"] = "never-promising-what-nobody-can-keep-" * 4
    finding["evidence"]["figures"][0]["series"][0]["name"] = "a direction with a very long name of its own"
    path = tmp_path_factory.mktemp("book") / "report.html"
    path.write_text(build(answers, sample.report(), now=sample.NOW), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=[(w, s) for w in WIDTHS for s in SCHEMES], ids="-".join)
def page(request: pytest.FixtureRequest, chromium: Any, file: Path) -> Iterator[Any]:
    """The book opened at one width in one scheme, everything that can be unfolded unfolded."""
    width, scheme = request.param
    context = chromium.new_context(viewport={"width": WIDTHS[width], "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda sent: page.asked.append(sent.url))
    page.goto(file.as_uri(), wait_until="networkidle")
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    yield page
    context.close()


def test_it_is_quiet_and_asks_for_nothing(page: Any, file: Path) -> None:
    """No console message, no error (the security policy's own reports among them), no request but the page itself."""
    assert page.said == []
    assert page.asked == [file.as_uri()]


def test_nothing_is_wider_than_the_screen(page: Any) -> None:
    """No sideways scrolling, with all tables unfolded and a behaviour's name that has no place to break."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_text_stands_out(page: Any) -> None:
    """Every text, also in the figures, has a contrast of at least 4.5 to 1 with what is behind it."""
    assert page.evaluate(CONTRAST) == []


def test_figures_are_legible(page: Any) -> None:
    """No text of a figure is under 10 pixels, cut off by its figure's edge, or drawn over another."""
    texts = page.evaluate(FIGURES)
    assert len(texts) > 100
    assert [t for t in texts if t["px"] < 10] == []
    assert [t for t in texts if t["out"]] == []
    assert [t for t in texts if t["on"]] == []


def test_dark_is_dark(chromium: Any, file: Path) -> None:
    """The page follows the reader's scheme, figures with it."""
    seen = {}
    for scheme in SCHEMES:
        page = chromium.new_page(color_scheme=scheme)
        page.goto(file.as_uri())
        look = "e => [getComputedStyle(document.body).backgroundColor, getComputedStyle(e).fill]"
        seen[scheme] = page.locator("figure svg text").first.evaluate(look)
        page.close()
    assert all(a != b for a, b in zip(seen["light"], seen["dark"], strict=True))


def test_a_script_in_it_would_not_run(chromium: Any, file: Path, tmp_path: Path) -> None:
    """The page's policy is in force: markup smuggled into it is dead."""
    spoiled = tmp_path / "spoiled.html"
    text = file.read_text(encoding="utf-8")
    spoiled.write_text(text.replace("<main>", "<script>document.title = 'run'</script><main style='color: red'>", 1))
    page = chromium.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(spoiled.as_uri())
    assert page.title() == "dreamloop: the answer book"
    assert len(refused) >= 2 and all("Content Security Policy" in words for words in refused)
    page.close()

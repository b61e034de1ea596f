"""The kinds of figure: found by folder, drawn from JSON in which anything may be missing, readable without seeing."""

from __future__ import annotations

import contextlib
import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from daemon.control.book import figures, svg
from daemon.control.book.palette import HEAT, SERIES, VARIABLES
from daemon.control.book.standalone import picture
from tests.daemon.control.book import sample

KINDS = (
    "dose_response", "head_map", "over_time", "ranking", "reliability", "separation", "steering", "timelines",
    "trade_off", "transfer",
)  # fmt: skip
CAUGHT = (ArithmeticError, LookupError, TypeError, ValueError)  # what costs a figure, and never the page


def small() -> dict[str, dict[str, Any]]:
    """The samples, with few heads: quick to draw."""
    found = sample.figures()
    found["ranking"]["items"] = found["ranking"]["items"][98:110]
    found["head_map"] |= {"rows": ["L4", "L8"], "columns": ["H0", "H1", "H2"], "values": [[1, 2, 3], [0.5, 4, 1]]}
    return found


def drawn(figure: dict[str, Any], key: str = "k") -> ElementTree.Element:
    kind = figures.find(figure["kind"])
    assert kind is not None
    return ElementTree.fromstring(svg.draw(kind, figure, key))


def words(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter("text")]


def test_every_kind_is_a_file_with_all_it_needs() -> None:
    """A file in the folder is a kind; each draws, describes and tabulates. What data name is never imported."""
    assert figures.kinds() == KINDS
    for name in KINDS:
        kind = figures.find(name)
        assert kind is not None and all(callable(getattr(kind, part)) for part in ("draw", "describe", "table"))
    assert all(figures.find(name) is None for name in ("nothing", "../svg", "__init__", None, 7, "os"))


@pytest.mark.parametrize("name", KINDS)
def test_a_figure_is_real_text_in_the_pages_colours(name: str) -> None:
    """An image with a title and a description from the data; no style attribute; no colour but the page's variables."""
    figure = sample.figures()[name]
    root = drawn(figure)
    assert root.get("role") == "img"
    labels = {element.get("id"): element.text for element in root if element.tag in ("title", "desc")}
    assert str(root.get("aria-labelledby")).split() == list(labels)
    assert labels["k-title"] == figure["title"]
    assert re.search(r"\d", str(labels["k-desc"]))
    assert any(words(root))
    colours = {element.get(part) for element in root.iter() for part in ("fill", "stroke")} - {None}
    assert colours <= {*VARIABLES.values(), "none"}
    assert not [element for element in root.iter() if element.get("style") or element.tag in ("style", "script")]


@pytest.mark.parametrize("name", KINDS)
def test_a_figure_is_the_same_at_every_run(name: str) -> None:
    """The same data give the same bytes; another key gives other ids, so that two may stand in one page."""
    kind, figure = figures.find(name), small()[name]
    assert kind is not None
    first, second = (svg.draw(kind, figure, key) for key in ("a", "a"))
    assert first == second
    ids = [set(re.findall(r' id="([^"]*)"', text)) for text in (first, svg.draw(kind, figure, "b"))]
    assert ids[0] and not ids[0] & ids[1]
    references = re.findall(r'(?:href="#|url\(#)([^")]*)', first)
    assert set(references) <= ids[0]


@pytest.mark.parametrize("name", KINDS)
def test_the_table_has_the_numbers_of_the_figure(name: str) -> None:
    """Rows as wide as the heading; one of the figure's own numbers is found in it."""
    kind, figure = figures.find(name), sample.figures()[name]
    assert kind is not None
    header, rows = kind.table(figure)
    assert rows and all(len(row) == len(header) for row in rows)
    known = {"dose_response": "0.2", "reliability": "0.34", "over_time": "0.7", "ranking": "8.1", "trade_off": "19.5",
             "timelines": "59", "steering": "0.74", "transfer": "0.021", "separation": "0.63"}  # fmt: skip
    cells = " ".join(str(cell) for row in rows for cell in row)
    assert known.get(name, "0.") in cells


@pytest.mark.parametrize("name", KINDS)
def test_nulls_leave_gaps(name: str) -> None:
    """Every other number null or not finite: it is drawn all the same, from what there is."""
    turn = iter(range(10**6))

    def holes(value: Any) -> Any:
        if isinstance(value, (bool, str)) or value is None:
            return value
        if isinstance(value, (int, float)):
            return (value, None, value, math.nan, value, math.inf)[next(turn) % 6]
        if isinstance(value, dict):
            return {key: holes(item) for key, item in value.items()}
        return [holes(item) for item in value]

    root = drawn(holes(small()[name]))
    assert "nan" not in ElementTree.tostring(root, encoding="unicode").lower()


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_part_costs_at_most_the_figure(name: str) -> None:
    """Whichever part of the data is missing or of another type, what is raised is what the page catches."""
    whole = small()[name]
    kind = figures.find(name)
    assert kind is not None
    survived = 0
    for key in whole.keys() - {"kind", "title", "x_label", "y_label"}:
        for stead in (None, ["what", {"is": "this"}]):
            try:
                drawn(whole | {key: stead})
                survived += 1
            except CAUGHT:
                pass
            with contextlib.suppress(*CAUGHT):
                kind.table(whole | {key: stead})
    if name in ("dose_response", "steering", "transfer", "ranking"):
        assert survived, "an optional part may be missing"


def test_without_any_number_a_figure_says_so() -> None:
    """An empty figure is refused in words."""
    for name in KINDS:
        with pytest.raises(ValueError, match="no numbers yet"):
            drawn({"kind": name, "title": "empty"})


def test_hostile_names_are_text() -> None:
    """Markup, formulas, control characters, other scripts in names: they are drawn as they are, and nothing warns."""
    bad = "<b>$\\frac{&\x00\x1b[2J 倾听 \u202e"
    figure = small()["dose_response"]
    figure["series"][0]["name"] = bad
    figure |= {"title": bad, "x_label": bad}
    text = "".join(words(drawn(figure)))
    assert "<b>$\\frac{&" in text and "倾听" in text
    assert "\x1b" not in text and "\u202e" not in text


def test_the_alarm_and_what_stands_out_are_named() -> None:
    """A timeline says when each channel raised its alarm; a ranking names what is beyond the null."""
    found = sample.figures()
    titles = " ".join(words(drawn(found["timelines"])))
    assert "graph: no alarm" in titles and "probe: alarm at 59" in titles
    assert "L20.H4" in " ".join(words(drawn(found["ranking"])))
    kind = figures.find("timelines")
    assert kind is not None and "probe: alarm at 59, 19 after the change." in kind.describe(found["timelines"])


def test_doses_close_together_are_not_all_named() -> None:
    """Every dose has its tick; a name that would touch the next one is left out."""
    figure = small()["dose_response"]
    doses = [0, 1, 2, 3, 5, 8, 9, 10, 50, 100]
    figure |= {"doses": doses, "series": [{"name": "listening", "values": [0.3] * len(doses)}], "marks": []}
    said = words(drawn(figure))
    assert {"0", "1", "10", "50", "100"} <= set(said) and "9" not in said


def test_the_strongest_cell_has_the_strongest_colour() -> None:
    """The map's extremes take the ends of the scale."""
    root = drawn(small()["head_map"])
    fills = [element.get("fill") for element in root.iter() if str(element.get("fill")).startswith("var(--heat")]
    cells = fills[:6]
    assert cells[4] == VARIABLES[HEAT[-1]] and cells[3] == VARIABLES[HEAT[0]]


def test_a_picture_of_its_own_brings_its_colours() -> None:
    """An SVG file for a document: well-formed, with a size, and every variable it uses defined for light and dark."""
    text = picture(small()["transfer"])
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert float(str(root.get("width"))) == svg.WIDTH and float(str(root.get("height"))) > 100
    for name in set(re.findall(r"var\((--[\w-]+)\)", text)):
        assert len(re.findall(rf"{name}:", text)) == 2, name
    with pytest.raises(ValueError, match="no figure of the kind 'hologram'"):
        picture({"kind": "hologram"})


def test_series_differ_in_more_than_colour() -> None:
    """Marker and line style are different for each of the six series."""
    from daemon.control.book.palette import series

    looks = [series(n) for n in range(len(SERIES))]
    for part in ("color", "marker", "linestyle"):
        assert len({str(look[part]) for look in looks}) == len(SERIES)

"""The route file: whole or not at all, and never believed when it is no route."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from daemon.errors import ServeError
from daemon.serving.following import Following
from daemon.serving.route import FILE, Route, read, write

ROUTE = Route(alias="dreamloop", model="dreamloop:a", salt="s1", steering="v*1", urls=("http://h:1", "http://h:2"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Every field comes back; nothing else is left in the folder."""
    write(tmp_path, ROUTE)
    assert read(tmp_path) == ROUTE
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def test_a_reader_never_sees_half_a_route(tmp_path: Path) -> None:
    """While one thread writes, another always reads a whole route."""
    write(tmp_path, ROUTE)
    done = threading.Event()

    def writes() -> None:
        for number in range(300):
            write(tmp_path, Route(alias="dreamloop", model="m" * (1 + number * 50), urls=("http://h:1",)))
        done.set()

    writer = threading.Thread(target=writes)
    writer.start()
    while not done.is_set():
        assert read(tmp_path).alias == "dreamloop"
    writer.join()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no route"),
        (b"\xff\xfe", "is no route"),
        (b"[]", "not a JSON object"),
        (b'{"alias": "d", "modle": "x"}', "unknown keys.*modle"),
        (b'{"alias": ""}', "`alias` is empty"),
        (b'{"model": "x"}', "alias"),
        (b'{"alias": "d", "state": "serving", "model": "m", "urls": []}', "no replica to serve"),
        (b'{"alias": "d", "state": "serving", "urls": ["http://h"]}', "no model to serve"),
        (b'{"alias": "d", "state": "down", "urls": "http://h"}', "`urls` is not a list"),
        (b'{"alias": "d", "state": "down", "urls": ["ftp://h"]}', "must begin with http"),
        (b'{"alias": "d", "state": "down", "urls": ["http://h", "http://h"]}', "twice"),
        (b'{"alias": "d", "state": "down", "salt": "a/b"}', "`salt`"),
        (b'{"alias": "d", "state": "down", "salt": 1}', "is no text"),
        (b"[" * 100_000, "is no route"),
    ],
)
def test_a_file_that_is_no_route_is_refused_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    """The message names the file, what is wrong and the remedy."""
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ServeError, match=words) as caught:
        read(tmp_path)
    assert str(tmp_path / FILE) in str(caught.value) and "restarted" in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """Before a daemon ran there is no route, which is another message."""
    with pytest.raises(ServeError, match="no route yet"):
        read(tmp_path)


def test_a_route_that_was_replaced_is_never_followed(tmp_path: Path) -> None:
    """`now` sees the newest route at once, also when file times and sizes are the same."""
    routes = Following(tmp_path)
    for letter in "abab":
        write(tmp_path, Route(alias="dreamloop", model=letter, urls=("http://h:1",)))
        assert routes.now().model == letter


def test_a_file_that_turns_bad_closes_the_route(tmp_path: Path) -> None:
    """Nobody knows then what was attested: it is down, says why, keeps the alias, and opens again with a good file."""
    write(tmp_path, Route(alias="mine", model="m", urls=("http://h:1",)))
    routes = Following(tmp_path)
    assert routes.now().open
    (tmp_path / FILE).write_text("{", encoding="utf-8")
    now = routes.now()
    assert (now.open, now.state, now.alias) == (False, "down", "mine") and "is no route" in now.why
    (tmp_path / FILE).unlink()
    assert "no route yet" in routes.now().why
    write(tmp_path, ROUTE)
    assert routes.now() == ROUTE


def test_who_waits_gets_the_first_open_route(tmp_path: Path) -> None:
    """Waiting ends with the file's change, and after the time given with the route that is closed still."""
    write(tmp_path, Route(alias="d", state="asleep"))

    async def waits() -> tuple[Route, Route]:
        routes = Following(tmp_path)
        watching = asyncio.create_task(routes.watch())
        early = await routes.until(lambda route: route.open, 0.01)
        waiting = asyncio.create_task(routes.until(lambda route: route.open, 20))
        await asyncio.sleep(0)
        write(tmp_path, ROUTE)
        late = await waiting
        watching.cancel()
        return early, late

    early, late = asyncio.run(waits())
    assert (early.state, late) == ("asleep", ROUTE)


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    """A person can read it."""
    write(tmp_path, ROUTE)
    assert json.loads((tmp_path / FILE).read_text(encoding="utf-8"))["model"] == "dreamloop:a"

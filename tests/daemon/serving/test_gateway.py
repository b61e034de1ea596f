"""The gateway process between a client and scripted servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from daemon.serving.passing import LARGEST
from daemon.serving.route import FILE, Route, write
from tests.daemon.serving.upstream import PATIENT, Upstream, environment, gateway, serve

COMPLETIONS = "/v1/completions"


@contextlib.contextmanager
def posting(url: str, body: object) -> Iterator[list[httpx2.Response]]:
    """A request in a thread; its response is in the list when the context is left."""
    found: list[httpx2.Response] = []
    thread = threading.Thread(
        target=lambda: found.append(httpx2.post(url, json=body, timeout=PATIENT * 2, trust_env=False))
    )
    thread.start()
    yield found
    thread.join(PATIENT * 2)
    assert found


def until(ready: object) -> None:
    """Wait for something to become true."""
    ends = time.monotonic() + PATIENT
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_the_alias_is_replaced_and_salted(state: Path, address: str, one: Upstream, client: httpx2.Client) -> None:
    """The server sees the version's name, the salt and the steering; the client's answer names the version."""
    serve(state, one, steering="v*2")
    answer = client.post(address + COMPLETIONS + "?a=%2F", json={"model": "dreamloop", "prompt": "é"})
    assert answer.json() == {"model": "dreamloop:a"}
    seen = one.seen[-1]
    assert (seen.path, seen.query) == (COMPLETIONS, "a=%2F")
    assert seen.json == {
        "model": "dreamloop:a",
        "prompt": "é",
        "cache_salt": "salt dreamloop:a",
        "vllm_xargs": {"dreamloop_steering": "v*2"},
    }


@pytest.mark.parametrize("body", [b'{ "model":"base" , "x":1e400}', b"{no json", b"", b"\x00\xff"])
def test_other_bodies_pass_to_the_byte(
    state: Path, address: str, one: Upstream, client: httpx2.Client, body: bytes
) -> None:
    """Another model, or what is no JSON, reaches the server as it was written."""
    serve(state, one)
    client.post(address + COMPLETIONS, content=body, headers={"content-type": "application/json"})
    assert one.seen[-1].body == body


def test_headers_of_one_connection_stay_there(state: Path, address: str, one: Upstream, client: httpx2.Client) -> None:
    """Hop-by-hop headers travel in neither direction, the others do in both, and nothing is added."""
    serve(state, one)
    headers = {"connection": "keep-alive, x-mine", "x-mine": "1", "te": "trailers", "x-kept": "2",
               "authorization": "Bearer theirs", "accept-encoding": "identity"}  # fmt: skip
    answer = client.post(address + COMPLETIONS, json={"model": "dreamloop", "stream": 1}, headers=headers)
    seen = one.seen[-1].headers
    assert not {"x-mine", "te", "connection"} & set(seen)
    assert (seen["x-kept"], seen["authorization"], seen["host"]) == ("2", "Bearer theirs", one.url[7:])
    assert set(seen) <= {*headers, "host", "content-length", "content-type", "accept", "user-agent"}
    assert answer.headers["x-served-by"] == "us" and "x-hop" not in answer.headers


def test_a_stream_is_passed_on_piece_by_piece(state: Path, address: str, one: Upstream, client: httpx2.Client) -> None:
    """The first piece arrives while the server still holds the second back, and the order stays."""
    serve(state, one)
    one.gate.clear()
    with client.stream("POST", address + COMPLETIONS, json={"model": "dreamloop", "stream": 50}) as answer:
        pieces = answer.iter_raw()
        first = next(pieces)
        assert first == b"data: dreamloop:a 0\n\n"
        one.gate.set()
        text = (first + b"".join(pieces)).decode()
    assert answer.headers["content-type"] == "text/event-stream"
    assert [int(number) for number in re.findall(r"a (\d+)\n", text)] == list(range(50))
    assert text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("begun", [True, False])
def test_a_client_that_leaves_ends_the_servers_work(
    state: Path, address: str, one: Upstream, client: httpx2.Client, begun: bool
) -> None:
    """The server sees the disconnect, in the middle of a stream and before an answer has begun."""
    serve(state, one)
    one.gate.clear()
    body = {"model": "dreamloop", "stream": 50} if begun else {"model": "dreamloop", "slow": True}
    if begun:
        with client.stream("POST", address + COMPLETIONS, json=body) as answer:
            next(answer.iter_raw())
    else:
        with pytest.raises(httpx2.ReadTimeout):
            client.post(address + COMPLETIONS, json=body, timeout=httpx2.Timeout(PATIENT, read=0.3))
    assert one.left.wait(PATIENT)
    until(lambda: client.get(f"{address}/health").json()["in_flight"] == {})


def test_requests_finish_on_the_version_they_began_with(state: Path, address: str, one: Upstream) -> None:
    """32 streams are under way when the route changes: all end on the old version, what comes after gets the new."""
    serve(state, one)
    one.gate.clear()

    async def scenario() -> tuple[list[str], str]:
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENT, limits=limits) as client:
            begun = asyncio.Semaphore(0)

            async def stream() -> str:
                text = b""
                body = {"model": "dreamloop", "stream": 20}
                async with client.stream("POST", address + COMPLETIONS, json=body) as answer:
                    async for piece in answer.aiter_raw():
                        text += piece
                        begun.release()
                return text.decode()

            streams = [asyncio.create_task(stream()) for _ in range(32)]
            for _ in streams:
                await begun.acquire()
            health = (await client.get(f"{address}/health")).json()
            assert health["in_flight"] == {"dreamloop:a": 32}
            serve(state, one, model="dreamloop:b")
            new = await client.post(address + COMPLETIONS, json={"model": "dreamloop"})
            one.gate.set()
            return list(await asyncio.gather(*streams)), new.json()["model"]

    texts, new = asyncio.run(scenario())
    assert new == "dreamloop:b"
    expected = "".join(f"data: dreamloop:a {number}\n\n" for number in range(20)) + "data: [DONE]\n\n"
    assert texts == [expected] * 32


def test_requests_go_where_fewest_are(
    state: Path, address: str, one: Upstream, two: Upstream, client: httpx2.Client
) -> None:
    """Of two replicas the idle one is asked while the other is busy."""
    serve(state, one, two)
    one.gate.clear()
    with posting(address + COMPLETIONS, {"model": "dreamloop", "slow": True}):
        until(lambda: one.seen)
        for _ in range(3):
            client.post(address + COMPLETIONS, json={"model": "dreamloop"})
        one.gate.set()
    assert (len(one.seen), len(two.seen)) == (1, 3)


def test_a_replica_that_refuses_connections_is_passed_over(
    state: Path, address: str, one: Upstream, two: Upstream, client: httpx2.Client
) -> None:
    """Nothing was sent to it, so the next one is asked, and the client notices nothing."""
    serve(state, one, two)
    one.stop()
    assert client.post(address + COMPLETIONS, json={"model": "dreamloop"}).json() == {"model": "dreamloop:a"}
    assert len(two.seen) == 1
    one.start()


def test_a_server_that_restarts_is_waited_for(state: Path, address: str, one: Upstream) -> None:
    """While the only replica refuses connections a request waits, and is answered when it is back."""
    serve(state, one)
    one.stop()
    with posting(address + COMPLETIONS, {"model": "dreamloop"}) as found:
        time.sleep(0.2)
        one.start()
    assert found[0].json() == {"model": "dreamloop:a"}


def test_a_server_that_forgot_the_version_is_waited_for(state: Path, address: str, one: Upstream) -> None:
    """Restarted, it answers 404 until its adapter is loaded again; no client sees that, nor another model."""
    serve(state, one)
    one.unknown.add("dreamloop:a")
    with posting(address + COMPLETIONS, {"model": "dreamloop"}) as found:
        until(lambda: len(one.seen) > 1)
        one.unknown.clear()
    assert found[0].json() == {"model": "dreamloop:a"}
    assert {seen.json["model"] for seen in one.seen} == {"dreamloop:a"}


def test_other_404s_are_the_clients(state: Path, address: str, one: Upstream, client: httpx2.Client) -> None:
    """A path or a model that the server does not have is said at once, in its words."""
    serve(state, one)
    one.unknown.add("other")
    answer = client.post(f"{address}/v1/missing", json={"model": "dreamloop"})
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
    answer = client.post(address + COMPLETIONS, json={"model": "other"})
    assert answer.status_code == 404 and "`other` does not exist" in answer.json()["error"]["message"]


def test_a_sleeping_route_is_waited_for(state: Path, address: str, one: Upstream) -> None:
    """A request that comes while the GPU trains is answered by what serves afterwards."""
    write(state, Route(alias="dreamloop", state="asleep"))
    with posting(address + COMPLETIONS, {"model": "dreamloop"}) as found:
        time.sleep(0.2)
        assert not found
        serve(state, one, model="dreamloop:b")
    assert found[0].json() == {"model": "dreamloop:b"}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The state folder and address of a gateway that waits for nothing."""
    folder = tmp_path_factory.mktemp("impatient")
    with gateway(folder, "--patience", "0") as (url, _):
        yield folder, url


@pytest.mark.parametrize(
    ("state_word", "why", "words"),
    [
        ("asleep", "", "asleep while its GPU trains"),
        ("down", "connection refused", "no server that is up; connection refused"),
        ("mismatch", "", "does not answer with the version that was trained"),
        ("another model", "see the log", r"cannot answer now \(another model\); see the log"),
    ],
)
def test_a_closed_route_is_said_in_words(
    impatient: tuple[Path, str], client: httpx2.Client, state_word: str, why: str, words: str
) -> None:
    """503 with Retry-After and OpenAI's error body, for the alias and for other models; health says it, too."""
    folder, url = impatient
    write(folder, Route(alias="dreamloop", state=state_word, why=why))
    for model in ("dreamloop", "base"):
        answer = client.post(url + COMPLETIONS, json={"model": model})
        error = answer.json()["error"]
        assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)
        assert error["code"] == state_word and re.search(words, error["message"])
    health = client.get(f"{url}/health")
    assert (health.status_code, health.json()["state"], health.json()["why"]) == (503, state_word, why)
    listed = client.get(f"{url}/v1/models").json()["data"]
    assert [one["id"] for one in listed] == ["dreamloop"]


def test_a_file_that_is_no_route_serves_nobody(
    impatient: tuple[Path, str], client: httpx2.Client, one: Upstream
) -> None:
    """What is attested is not known then: 503 that names the file; a good file opens it again."""
    folder, url = impatient
    serve(folder, one)
    assert client.post(url + COMPLETIONS, json={"model": "dreamloop"}).status_code == 200
    (folder / FILE).write_text('{"alias": "dreamloop"', encoding="utf-8")
    answer = client.post(url + COMPLETIONS, json={"model": "dreamloop"})
    assert answer.status_code == 503 and FILE in answer.json()["error"]["message"]
    serve(folder, one)
    assert client.post(url + COMPLETIONS, json={"model": "dreamloop"}).status_code == 200


def test_a_server_that_stays_away_is_said(impatient: tuple[Path, str], client: httpx2.Client, one: Upstream) -> None:
    """Patience has an end: 503 that names the address."""
    folder, url = impatient
    serve(folder, one)
    one.stop()
    answer = client.post(url + COMPLETIONS, json={"model": "dreamloop"})
    assert answer.status_code == 503 and one.url in answer.json()["error"]["message"]
    one.start()


def test_an_answer_that_breaks_off_is_seen_to(state: Path, address: str, one: Upstream, client: httpx2.Client) -> None:
    """A server that dies in the middle of a stream: the client's stream breaks off, too, not as if it were whole."""
    serve(state, one)
    one.gate.clear()
    with client.stream("POST", address + COMPLETIONS, json={"model": "dreamloop", "stream": 50}) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        one.stop()
        with pytest.raises(httpx2.RemoteProtocolError):
            list(pieces)
    one.start()


def test_a_request_is_not_tried_again_when_its_server_died_of_it(
    state: Path, address: str, one: Upstream, two: Upstream
) -> None:
    """What was sent may be what killed it: 502 in words, and the other replica is spared."""
    serve(state, one, two)
    one.gate.clear()
    with posting(address + COMPLETIONS, {"model": "dreamloop", "slow": True}) as found:
        until(lambda: one.seen)
        one.stop()
    assert found[0].status_code == 502 and one.url in found[0].json()["error"]["message"]
    assert not two.seen
    one.start()


def test_models_are_listed_with_the_alias(state: Path, address: str, one: Upstream, client: httpx2.Client) -> None:
    """The server's own list with the alias in front, whose root is the version."""
    serve(state, one)
    listed = client.get(f"{address}/v1/models").json()["data"]
    assert [model["id"] for model in listed] == ["dreamloop", "base", "dreamloop:a"]
    assert (listed[0]["root"], listed[0]["max_model_len"]) == ("dreamloop:a", 99)


def test_big_bodies_pass(state: Path, address: str, one: Upstream, client: httpx2.Client) -> None:
    """Eight megabytes of prompt arrive whole."""
    serve(state, one)
    prompt = "0123456789abcdef" * 2**19
    assert client.post(address + COMPLETIONS, json={"model": "dreamloop", "prompt": prompt}).status_code == 200
    assert one.seen[-1].json["prompt"] == prompt


def test_a_body_without_end_is_refused(address: str) -> None:
    """What would fill the memory is refused by its announced size, before it is read."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENT) as connection:
        head = f"POST {COMPLETIONS} HTTP/1.1\r\nhost: x\r\ncontent-length: {LARGEST + 1}\r\n\r\n"
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(4096).partition(b"\r\n")[0]


def test_administration_stays_at_the_server(state: Path, address: str, one: Upstream, client: httpx2.Client) -> None:
    """No client puts the server to sleep or takes an adapter away through the alias, in whatever spelling."""
    serve(state, one)
    for path in ("/sleep", "/v1/unload_lora_adapter", "/v1/%75nload_lora_adapter", "/v1/%2e%2e/sleep"):
        answer = client.post(address + path, json={})
        assert answer.status_code == 403 and "ask the server itself" in answer.json()["error"]["message"]
    assert not one.seen


def test_the_key_of_a_file_is_for_clients_that_send_none(tmp_path: Path, one: Upstream, client: httpx2.Client) -> None:
    """A client's own key passes; without one the server gets the file's."""
    key = tmp_path / "key"
    key.write_text("secret\n", encoding="utf-8")
    serve(tmp_path, one)
    with gateway(tmp_path, "--api-key-file", str(key)) as (url, _):
        client.post(url + COMPLETIONS, json={"model": "dreamloop"})
        client.post(url + COMPLETIONS, json={"model": "dreamloop"}, headers={"authorization": "Bearer own"})
    assert [seen.headers["authorization"] for seen in one.seen] == ["Bearer secret", "Bearer own"]


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--api-key-file", "nowhere"], 2, "nowhere: the API key cannot be read"),
        (["--until-stdin-ends"], 2, "stdin is no pipe"),
        (["--port", "TAKEN"], 2, "cannot listen there .*set another `serve.gateway_port`"),
    ],
)
def test_what_cannot_start_says_why(tmp_path: Path, one: Upstream, options: list[str], status: int, words: str) -> None:
    """One line that names the file, the option or the key, and exit status 2."""
    options = [option.replace("TAKEN", str(one.port)) for option in options]
    port = [] if "--port" in options else ["--port", "0"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "daemon.serving.gateway", "--state", str(tmp_path), *port, *options],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status and re.search(words, done.stderr) and "Traceback" not in done.stderr


def test_sigterm_lets_a_stream_finish(tmp_path: Path, one: Upstream, client: httpx2.Client) -> None:
    """Told to end it takes no more requests, tells those that wait, finishes what is under way, and ends with 0."""
    serve(tmp_path, one)
    one.gate.clear()
    with gateway(tmp_path) as (url, process):
        with client.stream("POST", url + COMPLETIONS, json={"model": "dreamloop", "stream": 5}) as answer:
            pieces = answer.iter_raw()
            text = next(pieces)
            write(tmp_path, Route(alias="dreamloop", state="asleep"))
            with posting(url + COMPLETIONS, {"model": "dreamloop"}) as waited:
                time.sleep(0.2)
                process.send_signal(signal.SIGTERM)
            one.gate.set()
            text += b"".join(pieces)
        assert process.wait(PATIENT) == 0
    assert text.endswith(b"data: [DONE]\n\n") and waited[0].status_code == 503
    with pytest.raises(httpx2.ConnectError):
        client.get(f"{url}/health")


def test_health_says_what_is_served(state: Path, address: str, one: Upstream, client: httpx2.Client) -> None:
    """The route, without its salt."""
    serve(state, one, steering="v*1")
    answer = client.get(f"{address}/health")
    assert answer.status_code == 200
    assert json.loads(answer.content) == {
        "state": "serving", "why": "", "alias": "dreamloop", "model": "dreamloop:a", "steering": "v*1",
        "urls": [one.url], "in_flight": {},
    }  # fmt: skip

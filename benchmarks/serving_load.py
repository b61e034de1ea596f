"""Clients that stream completions, in a process of their own: what they cost is not the measured process's.

    python benchmarks/serving_load.py --url URL --bodies FILE --out FILE [--clients 32] [--requests N]

Each client sends its next request when the last one has ended, `--requests` in all, or until stdin ends. FILE of
`--out` gets a line of JSON per request: when it began, when its first piece and its end came (seconds of
time.monotonic(), which all processes of a machine share), its pieces, and what was wrong with it ("" for nothing). It
speaks HTTP by itself, for a client library would take a third of a small machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

_LAST = b"0\r\n\r\n"
PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One request. `first` is 0 when no piece came."""

    began: float
    first: float
    ended: float
    pieces: int
    wrong: str

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Load:
    """The process. With `requests` it ends by itself; else `stop` ends it. `cpu` is what it took in seconds."""

    def __init__(
        self, url: str, bodies: Sequence[Mapping[str, Any]], folder: Path, *, clients: int, requests: int = 0
    ) -> None:
        asked, self._out = folder / "bodies.json", folder / "answered.jsonl"
        asked.write_text(json.dumps(list(bodies)), encoding="utf-8")
        self._process = subprocess.Popen(
            [
                *(sys.executable, __file__, "--url", url, "--bodies", str(asked), "--out", str(self._out)),
                *("--clients", str(clients), "--requests", str(requests)),
            ],
            stdin=subprocess.PIPE,
        )
        self.cpu = 0.0

    def stop(self) -> list[Answered]:
        """Let what is in flight end; every request."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.wait()

    def wait(self) -> list[Answered]:
        """Every request, when all are done."""
        if self._process.wait(600):
            raise RuntimeError(f"the load generator ended with {self._process.returncode}")
        rows = [json.loads(line) for line in self._out.read_text(encoding="utf-8").splitlines()]
        self.cpu = rows.pop()["cpu"]
        return [Answered(**row) for row in rows]


def chats(model: str, prompts: Sequence[str], *, tokens: int, **more: Any) -> list[dict[str, Any]]:
    """Bodies of streamed chats of `tokens` tokens each, whatever the model would like to say."""
    return [
        {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": 1,
            "ignore_eos": True,
            "stream": True,
            **more,
        }
        for prompt in prompts
    ]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values is."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return statistics.quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]


async def _clients(options: argparse.Namespace) -> list[Answered]:
    bodies = [json.dumps(body).encode() for body in json.loads(options.bodies.read_text(encoding="utf-8"))]
    parts = urlsplit(options.url)
    answered: list[Answered] = []
    asked = 0
    ending = asyncio.Event()

    async def client() -> None:
        nonlocal asked
        connection = None
        while not ending.is_set() and not (options.requests and asked >= options.requests):
            body = bodies[asked % len(bodies)]
            asked += 1
            began = time.monotonic()
            try:
                connection = connection or await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
                first, pieces, wrong = await _ask(*connection, parts.netloc, body)
            except (OSError, EOFError, ValueError) as error:
                first, pieces, wrong = 0.0, 0, repr(error)
            answered.append(Answered(began=began, first=first, ended=time.monotonic(), pieces=pieces, wrong=wrong))
            if wrong and connection is not None:
                connection[1].close()
                connection = None
                await asyncio.sleep(0.1)
        if connection is not None:
            connection[1].close()

    async def until_stdin_ends() -> None:
        await asyncio.to_thread(sys.stdin.buffer.read)
        ending.set()

    watching = None if options.requests else asyncio.create_task(until_stdin_ends())
    await asyncio.gather(*(client() for _ in range(options.clients)))
    if watching is not None:
        await watching
    return answered


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, body: bytes
) -> tuple[float, int, str]:
    """Send one request and read its stream: when the first piece came, how many came, and what was wrong."""
    head = f"POST {PATH} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    writer.write(head.encode() + b"\r\n" + body)
    await writer.drain()
    answer = await reader.readuntil(b"\r\n\r\n")
    status = answer.split(maxsplit=2)[1]
    if status != b"200" or b"chunked" not in answer.lower():
        return 0.0, 0, f"status {status.decode()}: {(await reader.read(400)).decode(errors='replace')}"
    first, pieces, tail = 0.0, 0, b""
    while not tail.endswith(_LAST):
        got = await reader.read(2**16)
        if not got:
            return first, pieces, "it had no end"
        if not first:
            first = time.monotonic()
        if b'{"error"' in got:
            return first, pieces, got.decode(errors="replace")[:400]
        pieces += got.count(b"data: {")
        tail = (tail + got)[-64:]
    return first, pieces, "" if b"data: [DONE]" in tail else "it ended without [DONE]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--bodies", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=0)
    options = parser.parse_args()
    answered = asyncio.run(_clients(options))
    spent = psutil.Process().cpu_times()
    lines = [json.dumps(asdict(one)) for one in answered] + [json.dumps({"cpu": spent.user + spent.system})]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Stands in for `vllm serve`: listens on --port, with a worker in its group and one in a session of its own.

What it does is told by the environment: FAKE_CRASH (words to die with), FAKE_PIDS (a file for the process ids, a line
per start). /health fails while a file `ill` lies in its folder.
"""

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Health(BaseHTTPRequestHandler):
    """/health and nothing else."""

    def do_GET(self) -> None:
        self.send_response(500 if Path("ill").exists() else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def worker(escapes: bool) -> int:
    """A child that would live on."""
    if pid := os.fork():
        while escapes and os.getsid(pid) != pid:
            time.sleep(0.001)
        return pid
    if escapes:
        os.setsid()
    time.sleep(600)
    os._exit(0)


if __name__ == "__main__":
    path = os.environ.get("PYTHONPATH")
    os.write(1, f"(APIServer pid=1) INFO 11-24 23:54:24 [api_server.py:1] starting {path}\n".encode())
    if words := os.environ.get("FAKE_CRASH"):
        sys.exit(f"Traceback (most recent call last):\n{words}\nRuntimeError: failed. See root cause above.")
    pids = [os.getpid(), worker(False), worker(True)]
    server = HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Health)
    with Path(os.environ["FAKE_PIDS"]).open("a", encoding="ascii") as file:
        file.write(" ".join(map(str, pids)) + "\n")
    server.serve_forever()

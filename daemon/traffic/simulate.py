"""The simulated user of the embedded default: talks to the serving adapter and writes ordinary log files.

It is an outside party: it knows nano's world and the text of the answers, nothing of the daemon, and what it writes is
learned from only because it lies in a watched folder. One file a cycle, in the OpenAI chat format (one message a
line), written beside its place and renamed, so that a crash leaves the whole conversation or none and a repeated job
replaces it by the same one.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daemon.events import Result
from daemon.executors.base import Context
from daemon.models import vectors
from daemon.models.base import Sampling
from daemon.models.base import folder as adapter_folder
from daemon.probes import conversations
from policies.records import ADAPTER_PREFIX, ChatMessage


def run(payload: dict[str, Any], context: Context) -> Result:
    """Hold `conversations` conversations at once and write them as a log."""
    from daemon.models.nano.user import SimulatedUser

    model = context.served
    folder = Path(payload["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    model.use(adapter_folder(payload["adapter_folder"]))
    users = [
        SimulatedUser(seed=payload["seed"] * 100_003 + i, mix=payload["mix"]) for i in range(payload["conversations"])
    ]
    with vectors.applied(model, payload["steering"]):
        talks = conversations.hold(
            model,
            users,
            Sampling(temperature=payload["temperature"], max_tokens=payload["max_tokens"], seed=payload["seed"]),
            lambda done, total: context.checkpoint(done, total, "simulated user"),
        )
    write(folder / payload["name"], talks, started=payload["now"], adapter=payload["adapter"] or "base")
    context.checkpoint(conversations.LONGEST, conversations.LONGEST, "simulated user")
    return Result(notes={"file": payload["name"], "messages": sum(map(len, talks)), "conversations": len(talks)})


def write(file: Path, talks: list[list[ChatMessage]], *, started: float, adapter: str) -> None:
    """One message a line; conversations are interleaved as a busy server's log would be."""
    temporary = file.with_name(f".{file.name}.part")
    at = datetime.fromtimestamp(started, UTC).isoformat()
    with temporary.open("w", encoding="utf-8") as out:
        for position in range(max(map(len, talks), default=0)):
            for number, talk in enumerate(talks):
                if position < len(talk):
                    message = talk[position]
                    line = {
                        "conversation": f"{file.stem}-{number:03d}",
                        "role": message.role,
                        "content": message.content,
                        "timestamp": at,
                        "model": f"{ADAPTER_PREFIX}{adapter}",
                    }
                    out.write(json.dumps(line, ensure_ascii=False) + "\n")
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)


RUNNERS = {"traffic.simulate": run}

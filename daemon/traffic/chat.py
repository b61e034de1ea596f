"""One answer of the serving adapter to a person (`dreamctl chat`)."""

from __future__ import annotations

from typing import Any

from daemon.events import Result
from daemon.executors.base import Context
from daemon.models import vectors
from daemon.models.base import Sampling, folder
from policies.records import ChatMessage


def answer(payload: dict[str, Any], context: Context) -> Result:
    """Answer `messages` ([{role, content}]) with the serving adapter, steered as configured."""
    context.served.use(folder(payload["adapter_folder"]))
    talk = [ChatMessage(role=m["role"], content=m["content"]) for m in payload["messages"]]
    sampling = Sampling(temperature=payload["temperature"], max_tokens=payload["max_tokens"], seed=payload["seed"])
    with vectors.applied(context.served, payload["steering"]):
        return Result(notes={"answer": context.served.generate([talk], sampling)[0]})


RUNNERS = {"chat.answer": answer}

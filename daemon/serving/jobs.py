"""The serving side's own jobs: `serve.look` sees to the servers, `serve.publish` gives them the trainer's word."""

from __future__ import annotations

from typing import Any, cast

from daemon.errors import ServeError
from daemon.events import Result
from daemon.executors.base import Context
from daemon.models import vectors
from daemon.models.base import folder
from daemon.probes import attestation


def look(payload: dict[str, Any], context: Context) -> Result:
    """Have every replica serve `adapter_folder` as trained, and unload what is not to be kept.

    Notes: `replicas`, see `Replica.told`, and `address`, what a request must say to be answered by it; null when no
    replica answers with it, or none can be steered as configured (then `trouble` says why).
    """
    from daemon.models.vllm.model import VLLMModel

    model = cast(VLLMModel, context.served)
    adapter = folder(payload["adapter_folder"])
    rows = model.look(adapter, [folder(one) for one in payload["keep"]], again=payload["again"])
    notes: dict[str, Any] = {"replicas": rows, "address": None, "trouble": None}
    if any(row["state"] == "attested" for row in rows):
        try:
            model.use(adapter)
            with vectors.applied(model, payload["steering"]):
                notes["address"] = model.address()
        except ServeError as error:
            notes["trouble"] = [error.state, str(error)]
    return Result(notes=notes)


def publish(payload: dict[str, Any], context: Context) -> Result:
    """Publish the base and these adapters ([folder, its parent's folder] each), where that is not done yet."""
    for adapter, before in [[None, None], *payload["adapters"]]:
        attestation.publish(context.model, context.served, payload["parity"], folder(adapter), folder(before))
    return Result()


RUNNERS = {"serve.look": look, "serve.publish": publish}

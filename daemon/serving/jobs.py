"""The serving side's own jobs: `serve.look` sees to the servers, `serve.publish` gives them the trainer's word."""

from __future__ import annotations

import logging
from typing import Any, cast

from daemon.errors import AdapterError, ServeError, VectorError
from daemon.events import Result
from daemon.executors.base import Context
from daemon.models import vectors
from daemon.models.base import folder
from daemon.probes import attestation
from daemon.serving import outcome

log = logging.getLogger("dreamloop.serve")


def look(payload: dict[str, Any], context: Context) -> Result:
    """Have every replica serve `adapter_folder` as trained, and unload what is not to be kept. Waits for nobody.

    Notes: `replicas`, see `Replica.told`, and `address`, what a request must say to be answered by it; null when no
    replica answers with it, or none can be steered as configured (then `trouble` has a state and says why).
    """
    from daemon.models.vllm.model import VLLMModel

    model = cast(VLLMModel, context.served)
    keep = [folder(one) for one in payload["keep"]]
    rows: list[Any] = model.look(
        folder(payload["adapter_folder"]), keep, again=payload["again"], wake=payload.get("wake", False)
    )
    notes: dict[str, Any] = {"replicas": rows, "address": None, "trouble": None}
    if any(row["state"] == outcome.ATTESTED for row in rows):
        try:
            with vectors.applied(model, payload["steering"]):
                notes["address"] = address = model.address()
                notes["replicas"] = outcome.one_name(rows, address)
        except (ServeError, VectorError) as error:
            state = error.state if isinstance(error, ServeError) else ServeError.state
            notes |= {"address": None, "trouble": [state, str(error)]}
    return Result(notes=notes)


def publish(payload: dict[str, Any], context: Context) -> Result:
    """Publish the base and these adapters ([folder, its parent's folder] each), where that is not done yet.

    One that cannot be published leaves the others alone; raises AdapterError for it at the end.
    """
    trouble: AdapterError | None = None
    wanted = [(folder(adapter), folder(before)) for adapter, before in [[None, None], *payload["adapters"]]]
    for adapter, before in wanted:
        try:
            if not cast(attestation.Publishes, context.served).published(adapter):
                with context.training():  # the trainer's word takes the trainer's device
                    attestation.publish(context.model, context.served, payload["parity"], adapter, before)
        except AdapterError as error:
            log.error("%s", error)
            trouble = error
    if trouble is not None:
        raise trouble
    return Result()


RUNNERS = {"serve.look": look, "serve.publish": publish}

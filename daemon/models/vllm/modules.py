"""Which modules of an adapter a server holds, against those that were trained: pure, no HTTP.

Only a server with our worker extension says it. A dropped module may change so little that no log-probability shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daemon.errors import ServerRefuses
from daemon.models.vllm.steering import START

MODULES = "dreamloop_modules"  # the extension's method


def dropped(trained: Mapping[str, int], held: Sequence[Any]) -> list[str]:
    """The modules of a trained adapter that no worker holds, or holds with another rank. Names from "layers." on.

    `held` is what the workers answered to `dreamloop_modules`; one of a pipeline holds its own layers only.
    Raises ServerRefuses when a worker could not say.

    >>> dropped({"layers.0.mlp.up_proj": 8, "layers.0.mlp.down_proj": 8}, [{"modules": {"layers.0.mlp.up_proj": 8}}])
    ['layers.0.mlp.down_proj']
    """
    found: dict[str, int] = {}
    for worker in held or [None]:
        if not isinstance(worker, Mapping) or "modules" not in worker:
            reason = worker.get("error") if isinstance(worker, Mapping) else None
            raise ServerRefuses(f"this server does not say what its adapters hold: {reason or START}")
        found.update(worker["modules"])
    return sorted(name for name, rank in trained.items() if found.get(name) != rank)


def trained(names: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Module -> rank of an adapter, from its file's tensors: name -> shape. Names from "layers." on.

    >>> trained({"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": (8, 160)})
    {'layers.0.mlp.up_proj': 8}
    """
    found = {}
    for name, shape in names.items():
        path, lora_a, _ = name.partition(".lora_A.")
        if lora_a:
            _, layers, rest = path.partition("layers.")
            found[layers + rest if layers else path.removeprefix("base_model.model.")] = int(shape[0])
    return found

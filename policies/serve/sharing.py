"""What a policy of sharing one GPU between the server and training says; see `separate`, `coexist` and `sleep`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """vLLM's sleep mode around a training window.

    Level 1 moves the weights to the host's memory and drops the KV cache; adapters and prefix cache are to be attested
    again after waking. `mode` is what becomes of requests in flight: "wait" lets them finish first, vLLM's own default
    "abort" cuts them off.
    """

    level: Literal[1, 2] = 1
    mode: Literal["wait", "abort", "keep"] = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """How the server and training share.

    `arguments` are for a managed server's command line. `trainer` is the share of the GPU's memory that training may
    take, 0 to 1 (None: no bound). `sleep` is what the server does around a training window (None: nothing), and with
    `trainer_leaves` training must hold no GPU memory outside of it.
    """

    arguments: tuple[str, ...] = ()
    trainer: float | None = None
    sleep: Sleep | None = None
    trainer_leaves: bool = False

"""The methods that a client reaches over /collective_rpc: strings in, plain data out, one result per worker.

A method that cannot do what is asked returns {"error": words}; it does not raise, since what a server makes of an
exception differs between versions.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, ClassVar

from . import adapters
from .steering import Steering, Unsteerable, decode

VERSION = 1  # of these methods and of the request's argument; the client asks for its own
BOOT = uuid.uuid4().hex  # a worker that was started again has forgotten its vectors, and has another one


class Worker:
    """Mixed into vLLM's worker class: no state and no method of vLLM's is touched.

    Relies on `self.model_runner` and its `lora_manager`.
    """

    dreamloop_repairs: ClassVar[list[str]] = []
    _dreamloop_steering: Steering | None = None

    def dreamloop_hello(self) -> dict[str, Any]:
        """Who is here: versions, the model's `layers` and `hidden` width, repairs, `boot` (another after a restart).

        `refuses` says in words why this server cannot steer, None when it can. `stored` are the names of the vectors
        held, `missed` the tokens computed without the vectors their request had named, by the name that was not held.
        """
        import vllm

        runner: Any = self.model_runner  # type: ignore[attr-defined]  # the worker's
        config = runner.model_config
        refuses = None
        try:
            Steering.check(runner)
        except Unsteerable as reason:
            refuses = str(reason)
        steering = self._dreamloop_steering
        return {
            "version": VERSION,
            "vllm": vllm.__version__,
            "boot": BOOT,
            "layers": int(config.hf_text_config.num_hidden_layers),
            "hidden": int(config.get_hidden_size()),
            "repairs": self.dreamloop_repairs,
            "refuses": refuses,
            "stored": steering.names if steering else [],
            "missed": dict(steering.missed) if steering else {},
        }

    def dreamloop_steer(self, name: str, vectors: str) -> dict[str, Any]:
        """Hold vectors under a name: JSON {"block from 1": base64 of little-endian float32, or a list of numbers}.

        Storing again what is stored changes nothing. A name that means other vectors already is refused.
        """

        def store() -> dict[str, Any]:
            steering = self._dreamloop_steering
            if steering is None:
                steering = self._dreamloop_steering = Steering(self.model_runner)  # type: ignore[attr-defined]
            steering.store(name, decode(vectors))
            return {"stored": steering.names, "boot": BOOT}

        return _in_words(store)

    def dreamloop_unsteer(self, name: str) -> dict[str, Any]:
        """Forget the vectors of a name, also when there are none."""
        steering = self._dreamloop_steering
        if steering is not None:
            steering.drop(name)
        return {"stored": steering.names if steering else [], "boot": BOOT}

    def dreamloop_modules(self, adapter: str) -> dict[str, Any]:
        """{"modules": {name from "layers." on: rank}}: what this worker really holds of a loaded adapter."""

        def modules() -> dict[str, Any]:
            manager = getattr(getattr(self.model_runner, "lora_manager", None), "_adapter_manager", None)  # type: ignore[attr-defined]
            if manager is None:
                raise LookupError("this server has no LoRA: start vLLM with --enable-lora")
            return {"modules": adapters.held(manager, adapter)}

        return _in_words(modules)


def _in_words(act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return act()
    except (Unsteerable, LookupError, ValueError) as reason:
        return {"error": str(reason)}
    except AttributeError as reason:  # an internal of another vLLM
        return {"error": f"this vLLM is put together in another way than 0.32 ({reason}); see dreamloop_worker"}

"""What a client says to a vLLM server so that it steers: pure, no HTTP. The other end is `daemon/vllm_worker`.

Vectors are stored on the server under a hash of their content, so that equal ones share a name and storing twice
changes nothing. A request names them with a strength each, so that trying ten strengths stores nothing new.

    pushed = Steering().plus({12: vector}, 2.0)
    need(await server.rpc("dreamloop_hello"), layers=64, hidden=5120)
    for name, vectors in pushed.stored.items():
        stored(await server.rpc("dreamloop_steer", name, vectors), name)
    ...  # every request with `vllm_xargs` = pushed.xargs, and pushed.salt as a part of its `cache_salt`
    applied(before, after, pushed)  # two hellos around the requests
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daemon import vllm_worker
from daemon.errors import BadAnswer, ServerRefuses

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = 1  # of the extension's methods, that we speak
ARGUMENT = vllm_worker.ARGUMENT
HELLO, STEER, UNSTEER = "dreamloop_hello", "dreamloop_steer", "dreamloop_unsteer"
START = (
    "start vLLM with VLLM_SERVER_DEV_MODE=1 and PYTHONPATH=" + shlex.quote(str(vllm_worker.PATH)) + " in its "
    f"environment, and with --worker-extension-cls {vllm_worker.CLASS} --enforce-eager"
)


@dataclass(frozen=True, slots=True)
class Steering:
    """Vectors with a strength each. They add up; without any, requests are left as they are.

    `terms` are (name, strength) in the order in which they were added; `stored` says what each name stands for, as
    `dreamloop_steer` takes it.
    """

    terms: tuple[tuple[str, float], ...] = ()
    stored: Mapping[str, str] = field(default_factory=dict)

    def plus(self, vectors: Mapping[int, NDArray[np.float32]], strength: float) -> Steering:
        """With `strength` times these vectors (hidden,) too, by block from 1; as `Steerable.steered` means it.

        >>> Steering().plus({}, 1.0) == Steering()
        True
        """
        if not vectors:
            return self
        import numpy as np

        contents = {
            str(block): base64.b64encode(np.ascontiguousarray(vectors[block], "<f4").tobytes()).decode()
            for block in sorted(vectors)
        }
        text = json.dumps(contents)
        name = hashlib.sha256(text.encode()).hexdigest()[:24]
        return Steering((*self.terms, (name, float(strength))), {**self.stored, name: text})

    @property
    def argument(self) -> str:
        """How a request says it, empty for no steering."""
        return " ".join(f"{name}*{strength!r}" for name, strength in self.terms)

    @property
    def xargs(self) -> dict[str, str]:
        """A request's `vllm_xargs`; empty for no steering."""
        return {ARGUMENT: self.argument} if self.terms else {}

    @property
    def salt(self) -> str:
        """What belongs into `cache_salt`: a prefix computed under other steering must not be read. Empty for none."""
        return hashlib.sha256(self.argument.encode()).hexdigest()[:16] if self.terms else ""


def need(hello: Sequence[Any] | None, *, layers: int, hidden: int) -> None:
    """Can this server steer the model that has so many layers of this width? `hello` is what its workers answered.

    None or nothing: they know no such method. Raises ServerRefuses saying what to change.
    """
    workers = [worker for worker in hello or () if isinstance(worker, Mapping) and "version" in worker]
    if not workers or len(workers) != len(hello or ()):
        raise ServerRefuses(f"this server has no part of dreamloop in it, so that it cannot steer; {START}")
    for worker in workers:
        if worker["version"] != VERSION:
            raise ServerRefuses(
                f"this server's part of dreamloop speaks version {worker['version']}, this daemon {VERSION}; "
                f"start it again with this installation's part: {START}"
            )
        if worker.get("refuses"):
            raise ServerRefuses(f"this server cannot steer: {worker['refuses']}")
        have = worker.get("layers"), worker.get("hidden")
        if have != (layers, hidden):
            raise ServerRefuses(
                f"this server's model has {have[0]} layers of width {have[1]}, the steering vectors are for "
                f"{layers} of width {hidden}; start vLLM on the folder of `model.path`"
            )


def stored(results: Sequence[Any], name: str) -> None:
    """Have all workers stored it? `results` is what they answered to `dreamloop_steer`. Raises ServerRefuses."""
    for worker in results or [None]:
        if not isinstance(worker, Mapping) or name not in worker.get("stored", ()):
            reason = worker.get("error") if isinstance(worker, Mapping) else None
            raise ServerRefuses(
                f"this server did not take a steering vector: {reason or 'it gave no reason'}; make the vector again "
                "(`dreamctl ask q5`), or empty `serve.steering`"
            )


def applied(before: Sequence[Any], after: Sequence[Any], steering: Steering) -> None:
    """Were the requests between two hellos steered throughout? Raises BadAnswer when a worker forgot the vectors.

    A server that was started again has forgotten them, and answers as if nothing had been asked.
    """
    for name, _ in steering.terms:
        for old, new in zip(before, after, strict=True):
            again = old["boot"] != new["boot"]
            if again or name not in new["stored"] or new["missed"].get(name, 0) > old["missed"].get(name, 0):
                why = "was started again" if again else "had forgotten the vector"
                raise BadAnswer(f"this server {why}: its answers were not steered, and are asked for again")

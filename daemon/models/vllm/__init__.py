"""The backend "vllm": the model answers through vLLM servers. It generates, scores and is steered; it never learns.

vLLM lives in an environment of its own and is spoken to over HTTP: none of its packages is needed here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daemon.models import loading
from daemon.models.hf_chat import from_folder
from daemon.models.vllm.background import Background
from daemon.models.vllm.fleet import Fleet
from daemon.models.vllm.model import VLLMModel
from daemon.models.vllm.replica import Replica
from daemon.models.vllm.server import Server
from daemon.models.vllm.versions import Versions


def load(
    path: str = "nano",
    *,
    urls: Sequence[str],
    publish: str,
    published_as: str = "",
    key_file: str | None = None,
    concurrency: int = 32,
    timeout: float = 120.0,
    patience: float = 300.0,
    tolerance: float = 0.02,
    every: float = math.inf,
    talks: bool = True,
    sleep: Sequence[Any] | None = None,
    threads: int = 1,
) -> VLLMModel:
    """A model whose base is the folder `path` ("nano" is the embedded one), served at `urls`.

    Versions are published in the folder `publish`, which the servers see as `published_as`. `timeout` and `patience`
    are in seconds, `tolerance` in nats per token; what is used is attested again after `every` seconds. Who only looks
    after servers and never `talks` does without the tokenizer, which costs seconds and memory. Nothing is asked of a
    server yet. Raises ModelMissing or ConfigError.
    """
    folder = loading.resolve(path)
    loading.check(folder)
    fingerprint = loading.fingerprint(folder)
    versions = Versions(Path(publish), seen_as=published_as, base=fingerprint)
    key = loading.read_key(Path(key_file) if key_file else None)
    background = Background()

    async def replicas() -> list[Replica]:
        servers = [Server(url, key=key, timeout=timeout, concurrency=concurrency) for url in urls]
        return [
            Replica(server, versions, fingerprint=fingerprint, tolerance=tolerance, every=every) for server in servers
        ]

    fleet = Fleet(background.run(replicas()), patience=patience)
    level_and_mode = (int(sleep[0]), str(sleep[1])) if sleep else None
    chat = from_folder(folder) if talks else None
    return VLLMModel(fleet, chat, versions, folder=folder, background=background, sleep=level_and_mode)

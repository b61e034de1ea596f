"""The backend "vllm": the model answers through vLLM servers. It generates, scores and is steered; it never learns.

vLLM lives in an environment of its own and is spoken to over HTTP: none of its packages is needed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from daemon.errors import ConfigError
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
    threads: int = 1,
) -> VLLMModel:
    """A model whose base is the folder `path` ("nano" is the embedded one), served at `urls`.

    Versions are published in the folder `publish`, which the servers see as `published_as`. `timeout` and `patience`
    are in seconds, `tolerance` in nats per token. Nothing is asked of a server yet. Raises ModelMissing or ConfigError.
    """
    folder = loading.resolve(path)
    loading.check(folder)
    fingerprint = loading.fingerprint(folder)
    versions = Versions(Path(publish), seen_as=published_as, base=fingerprint)
    background = Background()
    base = versions.of(None)
    key = _key(key_file)

    async def replicas() -> list[Replica]:
        servers = [Server(url, key=key, timeout=timeout, concurrency=concurrency) for url in urls]
        return [Replica(server, base, fingerprint=fingerprint, tolerance=tolerance) for server in servers]

    fleet = Fleet(background.run(replicas()), patience=patience)
    return VLLMModel(fleet, from_folder(folder), versions, folder=folder, background=background)


def _key(file: str | None) -> str:
    if file is None:
        return ""
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"`serve.api_key_file` = {file}: cannot be read: {error}") from error

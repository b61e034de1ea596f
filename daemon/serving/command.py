"""The command line and environment of a vLLM server that the daemon runs. Pure: configuration in, words out.

The flags are those of vLLM 0.32. What the user writes in `serve.arguments` and `serve.environment` comes last and wins.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from daemon import vllm_worker
from daemon.config import Config
from daemon.errors import ConfigError
from policies.serve.sharing import Sharing

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank may be
LEAST_RANK = 16  # room for a larger `learn.rank` without another start; vLLM's own default
LIVE = 4  # adapters in one batch: what serves, its predecessor that drains, a candidate, and one to spare
LOADED = 16  # adapters in the host's memory
LOOPBACK = ("127.0.0.1", "localhost", "::1")
DTYPE = "bfloat16"  # whatever the trainer's: vLLM's GDN kernels on a CPU and its attention on a GPU know no float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run. `environment` lies over the daemon's own; "PYTHONPATH" there replaces it."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def command(config: Config, *, model: Path, name: str, sharing: Sharing, key: str = "") -> Command:
    """The server of `serve.managed`: on `model` (a folder), under the model name `name`, at the address `serve.url`.

    `key` is its API key ("" for none); it goes by the environment, for arguments can be read by every user. Raises
    ConfigError for what cannot be managed: several replicas, a path in the address, a rank that vLLM does not have.
    """
    serve = config.serve
    host, port = address(config)
    steers = steerable(config)
    extended = steers or host in LOOPBACK  # it also says which modules an adapter has there; see docs/SERVING.md
    arguments = [
        *_executable(config),
        *("serve", str(model), "--served-model-name", name, "--host", host, "--port", str(port), "--dtype", DTYPE),
        *("--enable-lora", "--max-loras", str(LIVE), "--max-cpu-loras", str(LOADED)),
        *("--max-lora-rank", str(_rank(config))),
        "--disable-uvicorn-access-log",  # a line per request would fill the disk
        *(("--worker-extension-cls", vllm_worker.CLASS) if extended else ()),
        *(("--enforce-eager",) if steers else ()),
        *sharing.arguments,
        *serve.arguments,
    ]
    environment = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        **({"PYTHONPATH": str(vllm_worker.PATH)} if extended else {}),
        **({"VLLM_SERVER_DEV_MODE": "1"} if extended or sharing.sleep else {}),
        **({"VLLM_CPU_KVCACHE_SPACE": "1"} if config.model.device == "cpu" else {}),  # GiB; a GPU build ignores it
        **({"VLLM_API_KEY": key} if key else {}),
        **serve.environment,
    }
    return Command(arguments=tuple(arguments), environment=environment)


def steerable(config: Config) -> bool:
    """Does a managed server get eager mode, which steering needs?

    On a CPU always, where it costs nothing. On a GPU it costs speed, so only where steering is configured. The worker
    extension needs vLLM's development endpoints, which ask for no key: without steering it is for loopback only.
    """
    return config.model.device == "cpu" or bool(config.serve.steering)


def address(config: Config) -> tuple[str, int]:
    """Host and port to listen on. Raises ConfigError."""
    url, *others = config.serve.urls
    parts = urlsplit(url)
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if others:
        raise ConfigError(
            f"{config.file}: `serve.url` lists {1 + len(others)} replicas; the daemon manages one server: "
            "name one, or leave `serve.managed` empty and start them yourself"
        )
    if parts.scheme != "http" or not parts.hostname or parts.path or not port:
        raise ConfigError(f'{config.file}: `serve.url` = "{url}": a managed server is at "http://HOST:PORT"')
    return parts.hostname, port


def _rank(config: Config) -> int:
    wanted = max(config.learn.rank, LEAST_RANK)
    for rank in RANKS:
        if rank >= wanted:
            return rank
    raise ConfigError(f"{config.file}: `learn.rank` = {wanted}: vLLM serves ranks up to {RANKS[-1]}; lower it")


def _executable(config: Config) -> list[str]:
    """The words of `serve.managed`; a path in the first is relative to the configuration file, as everywhere."""
    try:
        words = shlex.split(config.serve.managed)
    except ValueError as error:
        raise ConfigError(f"{config.file}: `serve.managed` = {config.serve.managed!r}: {error}") from None
    if not words:
        raise ConfigError(f"{config.file}: `serve.managed` is empty; name the vllm command")
    if "/" in words[0] or words[0].startswith("~"):
        words[0] = str((config.file.parent / Path(words[0]).expanduser()).absolute())  # a venv's links stay
    return words

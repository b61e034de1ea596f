"""What of `[serve]` cannot work together is refused before anything starts."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit

from daemon.config import Config
from daemon.errors import ConfigError
from daemon.models.loading import known

SERVERS = "vllm"  # the backend of `[serve]` that is a server, to be looked after
_FOR_SERVERS = {"managed": "", "gateway_port": 0, "sharing": "separate"}  # keys that say nothing elsewhere
_LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0")


def check(config: Config) -> None:
    """Raises ConfigError naming the keys and the remedy."""
    serve, file = config.serve, config.file
    known(serve.backend, "serve.backend")
    if config.model.backend == SERVERS:
        raise ConfigError(
            f'{file}: `model.backend` = "{SERVERS}": a server does not train; leave it "hf" and set `serve.backend`'
        )
    if serve.backend != SERVERS:
        for key, usual in _FOR_SERVERS.items():
            if getattr(serve, key) != usual:
                raise ConfigError(
                    f'{file}: `serve.{key}` is for a server, and `serve.backend` is "{serve.backend}"; '
                    f'set that to "{SERVERS}", or remove `serve.{key}`'
                )
        return
    if twice := [url for url, times in Counter(serve.urls).items() if times > 1]:
        raise ConfigError(f"{file}: `serve.url` names {twice[0]} twice; a replica is named once")
    _ports(config)


def _ports(config: Config) -> None:
    """No two of what listens on this machine have one port."""
    serve = config.serve
    taken: dict[int, str] = {}
    for key, port in (
        ("daemon.metrics_port", config.daemon.metrics_port),
        *(("serve.url", port) for url in serve.urls if (port := _local_port(url, config)) is not None),
        ("serve.gateway_port", serve.gateway_port),
    ):
        other = taken.setdefault(port, key) if port else key
        if other != key:
            raise ConfigError(f"{config.file}: `{key}` and `{other}` are both port {port}; change one of them")


def _local_port(url: str, config: Config) -> int | None:
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise ConfigError(f"{config.file}: `serve.url` = {url!r}: its port is no number from 1 to 65535") from None
    return port if parts.hostname in _LOOPBACK else None

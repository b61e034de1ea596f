"""From the configuration to a server's command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daemon import vllm_worker
from daemon.config import build
from daemon.errors import ConfigError
from daemon.serving.command import RANKS, Command, command
from daemon.serving.last_words import LONGEST, last_words
from policies.serve import coexist, separate, sleep
from policies.serve.sharing import Sharing

GPU = {"model": {"device": "cuda", "path": "m"}}


def built(raw: dict[str, Any], sharing: Sharing | None = None, key: str = "") -> Command:
    raw = {**raw, "serve": {"managed": "/v/bin/vllm", **raw.get("serve", {})}}
    config = build(raw, file=Path("/etc/dreamloop/config.toml"))
    return command(config, model=Path("/models/m"), name="base", sharing=sharing or separate.share(0.5), key=key)


def option(found: Command, name: str) -> str | None:
    """The value of the last such option, which is the one that counts."""
    words = found.arguments
    at = max((place for place, word in enumerate(words) if word == name), default=None)
    return None if at is None else words[at + 1]


def test_the_servers_place_and_model() -> None:
    """Folder, name, host and port come from the configuration."""
    found = built({"serve": {"url": "http://127.0.0.2:8123"}})
    assert found.arguments[:3] == ("/v/bin/vllm", "serve", "/models/m")
    assert (option(found, "--served-model-name"), option(found, "--host"), option(found, "--port")) == (
        "base", "127.0.0.2", "8123",
    )  # fmt: skip


@pytest.mark.parametrize(("rank", "served"), [(1, 16), (16, 16), (17, 32), (300, 320), (512, 512)])
def test_the_rank_is_one_that_vllm_takes(rank: int, served: int) -> None:
    """The next size that is large enough, with some room."""
    assert served in RANKS and option(built({"learn": {"rank": rank}}), "--max-lora-rank") == str(served)


def test_adapters_can_be_loaded_while_it_runs() -> None:
    """LoRA, room for the versions that live at once, and the permission to load more."""
    found = built({})
    assert "--enable-lora" in found.arguments
    assert int(option(found, "--max-cpu-loras") or 0) >= int(option(found, "--max-loras") or 0) >= 3
    assert found.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert found.environment["HF_HUB_OFFLINE"] == found.environment["VLLM_NO_USAGE_STATS"] == "1"


def test_a_gpu_is_not_slowed_down_without_need() -> None:
    """No eager mode unless steering is configured; on a CPU always. The extension, which says what an adapter holds, is
    there on loopback; elsewhere its endpoints would be open to others."""
    plain = built(GPU)
    assert "--enforce-eager" not in plain.arguments and "VLLM_CPU_KVCACHE_SPACE" not in plain.environment
    assert option(plain, "--worker-extension-cls") == vllm_worker.CLASS
    far = built({**GPU, "serve": {"url": "http://10.0.0.1:8000"}})
    assert "PYTHONPATH" not in far.environment and "VLLM_SERVER_DEV_MODE" not in far.environment
    for raw in ({**GPU, "serve": {"steering": ["listening"]}}, {}):
        found = built(raw)
        assert "--enforce-eager" in found.arguments
        assert option(found, "--worker-extension-cls") == vllm_worker.CLASS
        assert found.environment["PYTHONPATH"] == str(vllm_worker.PATH)
        assert found.environment["VLLM_SERVER_DEV_MODE"] == "1"


def test_sharing_adds_its_arguments() -> None:
    """A share of the memory, or sleep mode with the endpoints that it needs."""
    assert option(built(GPU, coexist.share(0.6)), "--gpu-memory-utilization") == "0.6"
    asleep = built(GPU, sleep.share(0.6))
    assert "--enable-sleep-mode" in asleep.arguments and asleep.environment["VLLM_SERVER_DEV_MODE"] == "1"


def test_what_the_user_writes_wins() -> None:
    """Arguments come last, and the environment lies on top."""
    extra = {"arguments": ["--max-loras", "9", "--dtype", "half"], "environment": {"HF_HUB_OFFLINE": "0", "MINE": "1"}}
    found = built({"serve": extra}, coexist.share(0.5))
    assert (option(found, "--max-loras"), option(found, "--dtype")) == ("9", "half")
    assert found.arguments[-4:] == ("--max-loras", "9", "--dtype", "half")
    assert (found.environment["HF_HUB_OFFLINE"], found.environment["MINE"]) == ("0", "1")


def test_the_key_is_no_argument() -> None:
    """Other users can read a command line; the key goes by the environment."""
    found = built({}, key="secret")
    assert found.environment["VLLM_API_KEY"] == "secret" and "secret" not in " ".join(found.arguments)
    assert "VLLM_API_KEY" not in built({}).environment


@pytest.mark.parametrize(
    ("managed", "words"),
    [
        ("vllm", ["vllm"]),
        ("../v/bin/vllm", ["/etc/dreamloop/../v/bin/vllm"]),
        ("nice -n 5 '/a b/vllm'", ["nice", "-n", "5", "/a b/vllm"]),
    ],
)
def test_the_command_is_words(managed: str, words: list[str]) -> None:
    """A name of the PATH, a path relative to the configuration file, or a prefix with its own arguments."""
    assert list(built({"serve": {"managed": managed}}).arguments[: len(words)]) == words


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"serve": {"url": ["http://a:1", "http://b:1"]}}, "lists 2 replicas; the daemon manages one"),
        ({"serve": {"url": "https://a:1"}}, 'a managed server is at "http://HOST:PORT"'),
        ({"serve": {"url": "http://a:1/v1"}}, 'a managed server is at "http://HOST:PORT"'),
        ({"serve": {"url": "http://a:99999"}}, 'a managed server is at "http://HOST:PORT"'),
        ({"serve": {"managed": "'vllm"}}, "`serve.managed`.*quotation"),
        ({"serve": {"managed": "  "}}, "`serve.managed` is empty"),
        ({"learn": {"rank": 513}}, "`learn.rank` = 513: vLLM serves ranks up to 512"),
    ],
)
def test_what_cannot_be_managed_is_refused(raw: dict[str, Any], words: str) -> None:
    """By the file and the key, with the remedy."""
    with pytest.raises(ConfigError, match=words) as caught:
        built(raw)
    assert "/etc/dreamloop/config.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", ""),
        ("INFO 11-24 23:54:24 [a.py:1] loading\n\n", "loading"),
        ("usage: vllm serve\nvllm serve: error: unrecognized arguments: --x\n",
         "vllm serve: error: unrecognized arguments: --x"),
        ("torch.OutOfMemoryError: CUDA out of memory.\n(Worker pid=1) bye",
         "torch.OutOfMemoryError: CUDA out of memory."),
        ("vllm: cannot be started: No such file", "vllm: cannot be started: No such file"),
    ],
)  # fmt: skip
def test_last_words(log: str, words: str) -> None:
    """The reason for an end, out of what vLLM writes."""
    assert last_words(log) == words


def test_last_words_are_few() -> None:
    """A line without end is cut."""
    assert len(last_words("ValueError: " + "x" * 5000)) == LONGEST

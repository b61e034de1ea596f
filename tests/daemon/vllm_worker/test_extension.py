"""The worker extension on stand-ins for vLLM's runner and manager; tests/vllm runs the real ones."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from daemon import vllm_worker
from daemon.vllm_worker.dreamloop_worker import adapters, lora_rows, small_heads
from daemon.vllm_worker.dreamloop_worker.steering import ARGUMENT, Steering, Unsteerable
from daemon.vllm_worker.dreamloop_worker.worker import Worker

ROOT = Path(__file__).parents[3]
WIDTH = 4


class Block(nn.Module):
    """As vLLM's decoder layers: what it adds is returned beside the stream, and added by the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, hidden: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(hidden), residual + hidden


class Net(nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(layers))

    def forward(self, hidden: Tensor) -> Tensor:
        residual = torch.zeros_like(hidden)
        for block in self.layers:
            hidden, residual = block(hidden, residual)
        return hidden + residual


def runner(*requests: tuple[int, str | None], layers: int = 3, **other: Any) -> Any:
    """A V1 runner in a step: for each request its tokens in this step, and its argument."""
    net = Net(layers)
    asked = {
        str(place): SimpleNamespace(sampling_params=SimpleNamespace(extra_args={ARGUMENT: text} if text else None))
        for place, (_, text) in enumerate(requests)
    }
    starts = np.zeros(16, np.int32)  # longer than the step has requests, as vLLM's buffer is
    starts[1 : len(requests) + 1] = np.cumsum([tokens for tokens, _ in requests])
    parts = {
        "requests": asked,
        "query_start_loc": SimpleNamespace(np=starts),
        "input_batch": SimpleNamespace(req_ids=list(asked), num_reqs=len(asked)),
        "model_config": SimpleNamespace(
            enforce_eager=True,
            hf_text_config=SimpleNamespace(num_hidden_layers=layers),
            get_hidden_size=lambda: WIDTH,
        ),
        "parallel_config": SimpleNamespace(use_ubatching=False),
        "device": torch.device("cpu"),
        "get_model": lambda: net,
    }
    return SimpleNamespace(**(parts | other))


def test_rows_are_moved_for_whom_they_are() -> None:
    """A step with a chunk of a prompt, a decoded token and others: each row as its request asked, terms added up."""
    step = runner((3, "a*2"), (1, None), (1, "a*1 b*-1"), (2, "gone*1"))
    steering = Steering(step)
    a, b = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0, 1.0, 0, 0])
    steering.store("a", {1: a, 3: a})
    steering.store("b", {3: b})
    out = step.get_model()(torch.zeros(8, WIDTH))  # the eighth row is padding
    assert out[:3].tolist() == [(4 * a).tolist()] * 3 and out[4].tolist() == (2 * a - b).tolist()
    assert not out[[3, 5, 6, 7]].any() and dict(steering.missed) == {"gone": 2}
    steering.drop("a")
    step.get_model()(torch.zeros(8, WIDTH))
    assert steering.names == ["b"] and dict(steering.missed) == {"gone": 4, "a": 4}


@pytest.mark.parametrize("text", ["a*", "a", "*", "a*x", "a*1 "])
def test_an_argument_that_nobody_understands_ends_no_engine(text: str) -> None:
    """What cannot be read moves nothing and is counted; what can be read is not."""
    step = runner((2, text))
    steering = Steering(step)
    steering.store("a", {1: torch.ones(WIDTH)})
    moved = step.get_model()(torch.zeros(2, WIDTH))
    assert bool(moved.any()) is (text == "a*1 ") and bool(steering.missed) is (text != "a*1 ")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"query_start_loc": None}, "VLLM_USE_V2_MODEL_RUNNER=0"),
        ({"input_batch": SimpleNamespace()}, "another way than vLLM 0.32's"),
        ({"model_config": SimpleNamespace(enforce_eager=False)}, "--enforce-eager"),
        ({"parallel_config": SimpleNamespace(use_ubatching=True)}, "--enable-dbo"),
        ({"get_model": lambda: nn.Linear(1, 1)}, "has 0 lists of 3 layers"),
    ],
)
def test_a_runner_of_another_kind_is_refused_in_words(other: dict[str, Any], words: str) -> None:
    """Each thing that steering relies on, when it is not there: the sentence says what to start vLLM with."""
    with pytest.raises(Unsteerable, match=words):
        Steering(runner((1, None), **other))
    worker = Worker()
    worker.model_runner = runner((1, None), **other)  # type: ignore[attr-defined]
    assert words in worker.dreamloop_steer("a", '{"1": [0, 0, 0, 0]}')["error"]


def test_what_an_adapter_holds_is_named_as_in_its_file() -> None:
    """Packed projections one by one, missing ones not, nor modules that the model lacks or whose place is empty."""
    a = torch.ones(8, WIDTH)
    full, empty = SimpleNamespace(lora_a_stacked=(torch.ones(2, 1, 8, WIDTH),)), torch.zeros(2, 1, 8, WIDTH)
    at = "language_model.model.layers.0."
    weights = {
        at + "linear_attn.in_proj_qkvz": [a, None],
        at + "mlp.gate_up_proj": [a, a[:4]],
        at + "mlp.down_proj": a,
        at + "linear_attn.out_proj": a,
        "language_model.model.layers.7.mlp.down_proj": a,
    }
    loras = {name: SimpleNamespace(lora_a=value) for name, value in weights.items()}
    adapter = SimpleNamespace(id=5, dreamloop_name="x", get_lora=loras.get)
    manager = SimpleNamespace(
        list_adapters=lambda: {5: adapter},
        lora_index_to_id=[None, 5],
        modules={name: full for name in weights if ".7." not in name}
        | {at + "linear_attn.out_proj": SimpleNamespace(lora_a_stacked=(empty,)), at + "mlp.other": full},
        packed_modules_mapping={
            "in_proj_qkvz": ["in_proj_qkv", "in_proj_z"],
            "gate_up_proj": ["gate_proj", "up_proj"],
        },
    )
    assert adapters.held(manager, "x") == {
        "layers.0.linear_attn.in_proj_qkv": 8,
        "layers.0.mlp.gate_proj": 8,
        "layers.0.mlp.up_proj": 4,
        "layers.0.mlp.down_proj": 8,
    }
    with pytest.raises(LookupError, match='no adapter "y" is loaded here; loaded: x'):
        adapters.held(manager, "y")


def test_padding_changes_nothing_but_the_size() -> None:
    """Around a kernel that refuses small heads: outputs scaled as by the real size, the state's own rows written."""

    def kernel(*, q: Tensor, k: Tensor, v: Tensor, state: Tensor, rows: Tensor) -> Tensor:
        assert q.shape[-1] % 64 == 0 and v.shape[-1] % 64 == 0
        state[rows] += torch.einsum("rhk,rhv->rhkv", k, v)
        return torch.einsum("rhk,rhkv->rhv", q, state[rows]) / q.shape[-1] ** 0.5

    padded = small_heads._padded(kernel, ("q", "k", "v"), state="state", places="rows")
    q, k, v = (torch.randn(2, 3, size) for size in (32, 32, 16))
    state, rows = torch.randn(5, 3, 32, 16), torch.tensor([4, 1])
    expected = state.clone()
    expected[rows] += torch.einsum("rhk,rhv->rhkv", k, v)
    found = padded(q=q, k=k, v=v, state=state, rows=rows)
    assert torch.allclose(state, expected, atol=1e-6)
    assert torch.allclose(found, torch.einsum("rhk,rhkv->rhv", q, expected[rows]) / 32**0.5, atol=1e-5)


def test_it_imports_nothing_of_ours() -> None:
    """By itself, as a server finds it: PYTHONPATH has the folder and nothing else."""
    code = "import sys, dreamloop_worker; print([m for m in sys.modules if m.split('.')[0] in ('daemon', 'policies')])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True, text=True, cwd="/", env={"PYTHONPATH": str(vllm_worker.PATH)},
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_a_wheel_has_it() -> None:
    """What is installed without -e can be loaded too: each folder is a package that setuptools is told to find."""
    find = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    folders = {path.parent for path in vllm_worker.PATH.rglob("*.py")}
    assert len(folders) == 2
    for folder in folders:
        assert (folder / "__init__.py").is_file()
        name = ".".join(folder.relative_to(ROOT).parts)
        assert any(fnmatch(name, pattern) for pattern in find["include"]) and not find.get("exclude")


def test_adapters_are_added_to_the_rows_that_ask_for_them() -> None:
    """Rows of slot -1 stay as they are, also where every slot is taken; slices of the output get their own matrices."""
    generator = torch.Generator().manual_seed(0)
    rank, widths = 2, (3, 5)
    a = [torch.randn(2, 1, rank, WIDTH, generator=generator) for _ in widths]
    b = [torch.randn(2, 1, width, rank, generator=generator) for width in widths]
    x = torch.randn(6, WIDTH, generator=generator)
    for slots in ([-1, 0, 1, -1, 1, 0], [1] * 6, [-1] * 6):
        wrapper = SimpleNamespace(dreamloop_tokens=lora_rows.grouped(torch.tensor(slots)))
        y = torch.ones(6, sum(widths))
        lora_rows._add_lora_linear(wrapper, y, x, a, b, 0.5, widths)
        for row, slot in enumerate(slots):
            added = [x[row] @ a[i][slot, 0].T @ b[i][slot, 0].T * 0.5 for i in range(2)] if slot >= 0 else []
            torch.testing.assert_close(y[row], 1 + (torch.cat(added) if added else torch.zeros(sum(widths))))

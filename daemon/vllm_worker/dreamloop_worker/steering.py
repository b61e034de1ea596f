"""Vectors added to what blocks put out, for the requests that ask for it.

A request names stored vectors in `vllm_xargs`: {"dreamloop_steering": "NAME*STRENGTH NAME*STRENGTH"}. What is named
adds up, at every token of the request, in prefill and decode. Blocks are counted from 1: the vector of block L is added
to the output of the L-th block, as on transformers.

What it relies on in vLLM, seen in 0.32 (`check` says which is missing):
- the V1 model runner: `input_batch.req_ids` and `num_reqs`, `requests[id].sampling_params.extra_args`, and
  `query_start_loc.np`, which say whose the rows of a step are, whatever was chunked, batched or read from a cache;
- a list of decoder layers in the model, called by themselves (`--enforce-eager`: no compiled graph goes around hooks);
- a layer returns (hidden, residual) and leaves their sum to the next one, so that adding to hidden adds to the output;
- a step is not cut into micro-batches, whose rows would be numbered anew.

The prefix cache is not its business: a cached prefix was computed under the steering of the request that left it there.
Clients salt every request with its steering.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter, defaultdict
from typing import Any

import torch
from torch import Tensor, nn

ARGUMENT = "dreamloop_steering"
_KEPT = 256  # sums kept, of as many different arguments


class Unsteerable(Exception):
    """This server cannot steer; the message says what to change."""


class Steering:
    """The vectors of one worker, and hooks on its blocks: put there once, when the first vectors are stored.

    `missed` counts, by name, the tokens computed without the vectors their request named, because none are stored.
    Raises Unsteerable.
    """

    def __init__(self, runner: Any) -> None:
        self.missed: Counter[str] = Counter()
        self._runner = runner
        self._blocks = self.check(runner)
        self._hidden = int(runner.model_config.get_hidden_size())
        self._stored: dict[str, dict[int, Tensor]] = {}
        self._sums: dict[str, dict[int, Tensor]] = {}
        self._step: dict[int, list[tuple[slice, Tensor]]] = {}  # of the step in progress: block -> rows, what to add
        # a pipeline's other ranks have the blocks that are missing here; the step begins with the first that is ours
        ours = {
            number: block for number, block in enumerate(self._blocks, start=1) if any(True for _ in block.children())
        }
        next(iter(ours.values())).register_forward_pre_hook(self._begin)
        for number, block in ours.items():
            block.register_forward_hook(lambda _, __, output, number=number: self._add(number, output))

    @staticmethod
    def check(runner: Any) -> nn.ModuleList:
        """The model's blocks, if everything that steering relies on is there. Raises Unsteerable."""
        if not hasattr(runner, "requests") or not hasattr(getattr(runner, "query_start_loc", None), "np"):
            raise Unsteerable("its model runner is not V1: start vLLM with VLLM_USE_V2_MODEL_RUNNER=0 to steer")
        if not hasattr(runner.input_batch, "req_ids"):
            raise Unsteerable(
                "its model runner keeps batches in another way than vLLM 0.32's: use that version to steer"
            )
        if not runner.model_config.enforce_eager:
            raise Unsteerable("its model is compiled: start vLLM with --enforce-eager to steer")
        if getattr(runner.parallel_config, "use_ubatching", False):
            raise Unsteerable("it cuts batches into micro-batches: start vLLM without --enable-dbo to steer")
        layers = int(runner.model_config.hf_text_config.num_hidden_layers)
        found = {
            name: module
            for name, module in runner.get_model().named_modules()
            if isinstance(module, nn.ModuleList)
            and len(module) == layers
            and name.rpartition(".")[2] == "layers"
            and "visual" not in name
            and "vision" not in name
        }
        if len(found) != 1:
            raise Unsteerable(
                f"its model has {len(found)} lists of {layers} layers ({', '.join(found) or 'none'}), so that its "
                "blocks are not known: serve a Qwen3 or Qwen3.5 to steer"
            )
        return next(iter(found.values()))

    @property
    def names(self) -> list[str]:
        """Of the vectors stored, sorted."""
        return sorted(self._stored)

    def store(self, name: str, vectors: dict[int, Tensor]) -> None:
        """Hold vectors (hidden,), float32, by block from 1. Raises ValueError when they do not fit this model."""
        if not name or any(sign in name for sign in " *"):
            raise ValueError(f'"{name}" is no name for vectors: it must not be empty or hold a space or a star')
        for number, vector in vectors.items():
            if not 1 <= number <= len(self._blocks):
                raise ValueError(f"layer {number}: this model's are 1 to {len(self._blocks)}")
            if vector.shape != (self._hidden,):
                raise ValueError(
                    f"layer {number}: a vector of {tuple(vector.shape)}, this model's are ({self._hidden},)"
                )
            if not vector.isfinite().all():
                raise ValueError(f"layer {number}: holds numbers that are not finite")
        before = self._stored.get(name)
        if before is not None:
            if before.keys() != vectors.keys() or any(not before[at].cpu().equal(vectors[at]) for at in before):
                raise ValueError(f'"{name}" already means other vectors')
            return
        self._stored[name] = {number: vector.to(self._runner.device) for number, vector in vectors.items()}
        self._sums.clear()

    def drop(self, name: str) -> None:
        """Forget what is stored under a name. Requests that still name it go on without, and are counted as missed."""
        self._stored.pop(name, None)
        self._sums.clear()

    def _begin(self, *_: Any) -> None:
        """Before a step's first block: whose rows are to be moved, and how. Usually nobody's."""
        self._step = {}
        batch, starts = self._runner.input_batch, self._runner.query_start_loc.np
        for place, request in enumerate(batch.req_ids[: batch.num_reqs]):
            params = getattr(self._runner.requests.get(request), "sampling_params", None)
            argument = params.extra_args.get(ARGUMENT) if params is not None and params.extra_args else None
            if not argument:
                continue
            rows = slice(int(starts[place]), int(starts[place + 1]))
            try:
                sums = self._sum(str(argument))
            except KeyError as missing:
                self.missed[missing.args[0]] += rows.stop - rows.start
                continue
            for number, move in sums.items():
                self._step.setdefault(number, []).append((rows, move))

    def _add(self, number: int, output: Any) -> Any:
        """Behind each block: hidden states with this step's moves added, None where there are none."""
        moves = self._step.get(number)
        if moves is None:
            return None
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        for rows, move in moves:
            hidden[rows] += move.to(hidden.dtype)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    def _sum(self, argument: str) -> dict[int, Tensor]:
        """What an argument means, block by block. Raises KeyError naming what is not stored or cannot be read."""
        known = self._sums.get(argument)
        if known is not None:
            return known
        sums: dict[int, Tensor] = defaultdict(lambda: torch.zeros(self._hidden, device=self._runner.device))
        for term in argument.split():
            name, _, strength = term.partition("*")
            try:
                factor = float(strength)
            except ValueError:
                raise KeyError(term) from None
            for number, vector in self._stored[name].items():
                sums[number] = sums[number] + factor * vector
        if len(self._sums) >= _KEPT:
            self._sums.clear()
        self._sums[argument] = dict(sums)
        return self._sums[argument]


def decode(text: str) -> dict[int, Tensor]:
    """Vectors from JSON: {"block": base64 of little-endian float32, or a list of numbers}. Raises ValueError."""
    try:
        given = json.loads(text)
        return {
            int(number): torch.frombuffer(bytearray(base64.b64decode(values, validate=True)), dtype=torch.float32)
            if isinstance(values, str)
            else torch.tensor(values, dtype=torch.float32)
            for number, values in given.items()
        }
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise ValueError(f'vectors must be JSON like {{"12": "base64 of float32"}}, and are not: {error}') from error

"""A model through transformers and peft: generates, scores and learns, on a CPU or a GPU."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save as save_tensors
from torch import nn

from daemon.errors import AdapterError, ConfigError, ModelMissing
from daemon.models import adapters, anatomy, hf_batches, hf_sampling, hf_scoring, hf_training, loading
from daemon.models.base import (
    Attention,
    Checkpoint,
    Conversation,
    Layout,
    Passage,
    Sampling,
    Trained,
    TrainingExample,
    ignore,
)
from daemon.models.hf_chat import FALLBACK_LIMIT, Chat
from daemon.models.hf_observing import Observing
from daemon.models.hf_slots import Slots
from policies.records import Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class HFModel:
    """A causal language model in memory with any number of LoRA adapters; see `daemon.models.base` for the protocols.

    `generate_batch` bounds the sequences and `batch_tokens` the padded tokens that go through the model at once; `room`
    adapters stay loaded.
    """

    def __init__(
        self, net: nn.Module, chat: Chat, *, folder: Path, generate_batch: int, batch_tokens: int, room: int
    ) -> None:
        self._net = net
        self._anatomy = anatomy.of(net)
        self._folder = folder
        self._slots = Slots(net, room=room)
        self._observing = Observing(net, chat, batch=generate_batch, tokens=batch_tokens)
        self._batch, self._tokens = generate_batch, batch_tokens
        self._device = self._home = next(net.parameters()).device
        self._using: Path | None = None
        self.chat = chat

    @property
    def net(self) -> nn.Module:
        """The transformers model, LoRA layers included: for probes that look inside."""
        return self._net

    @property
    def using(self) -> Path | None:
        """The adapter folder in use; None is the base."""
        return self._using

    @property
    def loaded(self) -> int:
        """How many adapters are held in memory."""
        return len(self._slots)

    @cached_property
    def _fingerprint(self) -> str:
        return loading.fingerprint(self._folder)

    def fingerprint(self) -> str:
        """sha256 over the base's weight files and tokenizer."""
        return self._fingerprint

    def use(self, adapter: Path | None) -> None:
        """Serve this adapter from now on; on AdapterError the one before stays in use."""
        if adapter is None:
            self._slots.activate(None)
        else:
            before = self._slots.active
            try:
                self._slots.use(Path(adapter), base=self._fingerprint)
            except BaseException:
                self._slots.activate(before)
                raise
        self._using = Path(adapter) if adapter is not None else None

    def leave(self) -> None:
        """Move to the host's memory and free the GPU's; what is asked meanwhile is computed there."""
        self._move(torch.device("cpu"))

    def come(self) -> None:
        """Move back to the device on which it was loaded."""
        self._move(self._home)

    def _move(self, device: torch.device) -> None:
        if device != self._device:
            self._net.to(device)
            self._device = device
            self._observing.moved(device)
            anatomy.release_memory()

    @contextlib.contextmanager
    def adapted(self, adapter: Path | None) -> Iterator[None]:
        """Use another adapter for a while."""
        before = self._using
        self.use(adapter)
        try:
            yield
        finally:
            self.use(before)

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, checkpoint: Checkpoint = ignore
    ) -> list[str]:
        """One answer per prompt, in order. The same call gives the same answers, whatever shares a batch."""
        encoded = [self.chat.prompt(prompt, room=sampling.max_tokens) for prompt in prompts]
        uniforms = hf_sampling.streams(encoded, sampling.seed, sampling.max_tokens)
        answers = [""] * len(prompts)
        done = 0
        lengths = [len(ids) + sampling.max_tokens for ids in encoded]
        for rows in hf_batches.by_length(lengths, self._batch, self._tokens):
            found = hf_sampling.decode(
                self._net,
                [encoded[i] for i in rows],
                [uniforms[i] for i in rows],
                temperature=sampling.temperature,
                max_tokens=sampling.max_tokens,
                pad=self.chat.pad,
                stops=self.chat.stops,
                device=self._device,
                tick=lambda: checkpoint(done, len(prompts)),  # noqa: B023 - called before `done` moves on
            )
            for row, ids in zip(rows, found, strict=True):
                answers[row] = self.chat.text(ids)
            done += len(rows)
        checkpoint(done, len(prompts))
        return answers

    def logprobs(self, pairs: Sequence[tuple[Conversation, str]], checkpoint: Checkpoint = ignore) -> list[list[float]]:
        """Per pair the log-probability in nats of each answer token and the end of turn."""
        encoded = [self.chat.pair(prompt, answer) for prompt, answer in pairs]
        found: list[list[float]] = [[] for _ in pairs]
        done = 0
        lengths = [len(prompt) + len(target) for prompt, target in encoded]
        for rows in hf_batches.by_length(lengths, self._batch, self._tokens):
            checkpoint(done, len(pairs))
            scored = hf_scoring.logprobs(self._net, [encoded[i] for i in rows], self.chat.pad, self._device)
            for row, values in zip(rows, scored, strict=True):
                found[row] = values
            done += len(rows)
        return found

    @property
    def longest(self) -> int:
        """Tokens that it takes at most."""
        return self.chat.limit

    def encode(self, pairs: Sequence[tuple[Conversation, str]]) -> list[tuple[list[int], list[int]]]:
        """Per pair the prompt's ids, and the answer's with the end of turn."""
        return [self.chat.pair(prompt, answer) for prompt, answer in pairs]

    def divergence(
        self, texts: Sequence[str | tuple[Conversation, str]], adapter: Path | None, checkpoint: Checkpoint = ignore
    ) -> list[float]:
        """Mean KL(base || adapter) in nats per token of each text, exact over the vocabulary.

        A string is read plainly, a (prompt, answer) pair in the chat's form. One of fewer than two tokens says nothing:
        0. The adapter in use stays in use.
        """
        encoded = [
            self.chat.ids(text)[: self.chat.limit] if isinstance(text, str) else list(chain(*self.chat.pair(*text)))
            for text in texts
        ]
        found = [0.0] * len(texts)
        places = [place for place, ids in enumerate(encoded) if len(ids) > 1]
        done = 0
        for batch in hf_batches.by_length([len(encoded[i]) for i in places], self._batch, self._tokens):
            checkpoint(done, len(places))
            rows = [encoded[places[i]] for i in batch]
            states = []
            for each in (None, adapter):
                with self.adapted(each), torch.inference_mode():
                    states.append(hf_scoring.hidden(self._net, rows, self.chat.pad, self._device))
            for row, i in enumerate(batch):
                before, after = (state[row, : len(rows[row]) - 1] for state in states)
                found[places[i]] = hf_scoring.kl(self._net, before, after)
            done += len(batch)
        return found

    def layout(self) -> Layout:
        """How many blocks there are, of which kind, and their sizes."""
        return self._observing.layout

    def attention(self, passages: Sequence[Passage], checkpoint: Checkpoint = ignore) -> list[Attention]:
        """Per passage where its decision tokens looked. Raises Unobservable for a model without full attention."""
        return self._observing.attention(passages, checkpoint)

    def hidden(
        self, passages: Sequence[Passage], layers: Sequence[int], checkpoint: Checkpoint = ignore
    ) -> NDArray[np.float32]:
        """(passages, layers, hidden): what these blocks, counted from 1, put out over the answer."""
        return self._observing.hidden(passages, layers, checkpoint)

    def recurrent(self, prompts: Sequence[Conversation], checkpoint: Checkpoint = ignore) -> NDArray[np.float32]:
        """(prompts, GDN blocks, heads, d_key, d_value) after the user's text. Raises Unobservable without GDN."""
        return self._observing.recurrent(prompts, checkpoint)

    def mixer_outputs(self, passages: Sequence[Passage], checkpoint: Checkpoint = ignore) -> NDArray[np.float32]:
        """(passages, layers, hidden): what attention or GDN adds to the stream at the decision tokens."""
        return self._observing.mixer_outputs(passages, checkpoint)

    def steered(
        self, vectors: Mapping[int, NDArray[np.float32]], strength: float
    ) -> contextlib.AbstractContextManager[None]:
        """While entered, `strength` times each vector is added to what its block puts out, at every token."""
        return self._observing.steered(vectors, strength)

    def train(
        self,
        examples: Sequence[TrainingExample],
        recipe: Recipe,
        *,
        parent: Path | None,
        into: Path,
        card: dict[str, object],
        checkpoint: Checkpoint = ignore,
    ) -> Trained:
        """Continue from `parent` or start fresh, save into `into`, use the result; see `daemon.models.base.Learner`."""
        hf_training.check_recipe(recipe, len(examples))
        encoded = [self.chat.pair(example.prompt, example.target) for example in examples]
        targets = anatomy.targets(self._net, self._anatomy, recipe.targets)
        before, slot = self._slots.active, None
        try:
            stored = adapters.read(parent, base=self._fingerprint) if parent is not None else None
            if stored is None:
                slot = self._slots.fresh(recipe, targets)
            else:
                _check_continues(stored, recipe, targets)
                slot = self._slots.load(stored, trainable=True)
            parameters = self._slots.parameters(slot)
            optimizer = hf_training.new_optimizer(parameters, recipe)
            if stored is not None and (stored.folder / adapters.OPTIMIZER).is_file():
                content = (stored.folder / adapters.OPTIMIZER).read_bytes()
                hf_training.restore_moments(optimizer, parameters, content, int(stored.card["optimizer_steps"]))
            room = hf_training.Room(device=self._device, pad=self.chat.pad, tokens=self._tokens)
            trained = hf_training.fit(self._net, parameters, optimizer, encoded, recipe, room, checkpoint)
            moments, steps = hf_training.save_moments(optimizer, parameters)
            facts = {
                "parent_sha256": stored.identity if stored else None,
                "recipe": asdict(recipe),
                "base": self._fingerprint,
                "loss": trained.loss,
                "losses": trained.losses,
                "tokens": trained.tokens,
                "seconds": trained.seconds,
                "optimizer_steps": steps,
            }
            weights = {name: parameter.detach().cpu().contiguous() for name, parameter in parameters.items()}
            files = {
                adapters.WEIGHTS: save_tensors(weights, metadata={"format": "pt"}),
                adapters.CONFIG: self._slots.config(slot),
                adapters.OPTIMIZER: moments,
            }
            adapters.write(into, files, card | facts)
        except BaseException:
            self._slots.activate(before)
            if slot is not None:
                self._slots.drop(slot)
            raise
        finally:
            anatomy.release_memory()
        self._slots.keep(slot, adapters.read(into, base=self._fingerprint).identity)
        self._using = into
        return trained


def _check_continues(stored: adapters.Stored, recipe: Recipe, targets: Sequence[str]) -> None:
    """An adapter's shape is fixed when it is born: continuing with another rank or other targets is refused."""
    have = (stored.config["r"], stored.config["lora_alpha"], sorted(stored.config["target_modules"]))
    want = (recipe.rank, recipe.alpha, sorted(targets))
    if have != want:
        raise AdapterError(
            f"{stored.folder}: has rank {have[0]}, alpha {have[1]} and targets {have[2]}; the recipe asks for {want}. "
            "Set `learn.rank`, `learn.alpha` and `learn.targets` back, or start again with a new state folder"
        )


def load(
    path: str = "nano",
    *,
    device: str = "cpu",
    dtype: str = "float32",
    threads: int = 1,
    generate_batch: int = 64,
    batch_tokens: int = 16384,
    context: int | None = None,
    adapters_kept: int = 3,
    attention: str = "sdpa",
    memory: float | None = None,
) -> HFModel:
    """Load a model folder ("nano" is the embedded one). `threads` is explicit: tiny models are faster with one.

    `context` bounds the sequence length below the model's own; `attention` "eager" gives attention maps to probes;
    `memory` is the share of the GPU's memory that may be taken, None for all of it.
    Raises ModelMissing or ConfigError.
    """
    folder = loading.resolve(path)
    loading.check(folder)
    if dtype not in _DTYPES:
        raise ConfigError(f'`model.dtype` = "{dtype}"; accepted: {", ".join(_DTYPES)}')
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f'`model.device` = "{device}", but torch sees no GPU here; set it to "cpu"')
    if memory is not None and device.startswith("cuda"):
        torch.cuda.set_per_process_memory_fraction(memory, torch.device(device).index or 0)
    torch.set_num_threads(threads)
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    anatomy.short_chunks()
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        net: Any = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=_DTYPES[dtype], attn_implementation=attention, use_safetensors=True
        )
    except Exception as error:  # transformers raises ValueError, OSError, KeyError, SafetensorError and others here
        raise ModelMissing(f"{folder}: transformers cannot load it: {type(error).__name__}: {error}") from error
    net.requires_grad_(False)
    net.eval().to(device)
    ends = net.generation_config.eos_token_id
    limit = min(int(getattr(net.config, "max_position_embeddings", 0)) or math.inf, context or math.inf)
    chat = Chat(
        tokenizer,
        folder=folder,
        stops=ends if isinstance(ends, list) else [] if ends is None else [ends],
        limit=int(limit) if limit != math.inf else FALLBACK_LIMIT,
    )
    return HFModel(
        net, chat, folder=folder, generate_batch=generate_batch, batch_tokens=batch_tokens, room=adapters_kept
    )

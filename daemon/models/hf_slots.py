"""LoRA adapters inside one loaded model: switched without reloading it, the least recently used ones dropped."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from daemon.errors import AdapterError
from daemon.models import adapters
from policies.records import Recipe


class Slots:
    """Adapters by the sha256 of their weights. `room` are kept; the one in use is never dropped."""

    def __init__(self, net: nn.Module, *, room: int) -> None:
        self._net = net
        self._room = max(1, room)
        self._peft: Any = None
        self._names: OrderedDict[str, str] = OrderedDict()  # identity -> name inside peft, oldest use first
        self._numbers = count()
        self.active: str | None = None  # name inside peft; None is the base

    def __len__(self) -> int:
        return len(self._names)

    def use(self, folder: Path, *, base: str) -> adapters.Stored:
        """Switch to the adapter in `folder`, loading it when it is not in a slot. Raises AdapterError."""
        card = adapters.read_card(folder)
        known = str(card.get("sha256", {}).get(adapters.WEIGHTS)) if card.get("base") == base else ""
        if known in self._names:
            self.activate(self._names[known])
            self._names.move_to_end(known)
            return adapters.Stored(folder=folder, card=card, config={})
        stored = adapters.read(folder, base=base)
        name = self.load(stored)
        self.keep(name, stored.identity)
        return stored

    def load(self, stored: adapters.Stored, *, trainable: bool = False) -> str:
        """Put an adapter's weights into a new slot and switch to it; not yet known by identity."""
        from peft import LoraConfig

        try:
            weights = load_tensors((stored.folder / adapters.WEIGHTS).read_bytes())
        except (OSError, SafetensorError) as error:
            raise AdapterError(f"{stored.folder / adapters.WEIGHTS}: cannot be loaded: {error}") from error
        config = LoraConfig(**{key: value for key, value in stored.config.items() if key in _CONFIG_KEYS})
        name = self._add(config, trainable=trainable)
        try:
            self._fill(name, weights, stored.folder)
        except BaseException:
            self.drop(name)
            raise
        return name

    def fresh(self, recipe: Recipe, targets: Sequence[str]) -> str:
        """A new adapter that changes nothing yet (B = 0), seeded by the recipe, trainable; switched to."""
        from peft import LoraConfig

        config = LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            target_modules=sorted(targets),
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            return self._add(config, trainable=True)

    def keep(self, name: str, identity: str) -> None:
        """Know the adapter in slot `name` by its identity from now on; the least recently used beyond the room go."""
        if (twin := self._names.pop(identity, None)) not in (None, name):
            self.drop(str(twin))
        for parameter in self.parameters(name).values():
            parameter.requires_grad_(False)
        self._names[identity] = name
        for old, other in list(self._names.items()):
            if len(self._names) <= self._room:
                break
            if other != self.active:
                del self._names[old]
                self.drop(other)

    def activate(self, name: str | None) -> None:
        """Switch to a slot; None is the base, exactly."""
        if self._peft is not None:
            if name is None:
                self._peft.base_model.disable_adapter_layers()
            else:
                if self.active is None:
                    self._peft.base_model.enable_adapter_layers()
                self._peft.base_model.set_adapter(name)
                # set_adapter makes what it activates trainable; here only training decides that
                self._peft.base_model.set_requires_grad(name, requires_grad=False)
        self.active = name

    def drop(self, name: str) -> None:
        """Forget a slot and free its weights."""
        if self.active == name:
            self.activate(None)
        others = [other for other in self._peft.peft_config if other != name]
        if others:  # peft warns when the adapter that it deletes is the one it would use
            self._peft.base_model.set_adapter(others[0])
        self._peft.delete_adapter(name)
        if self.active is not None:
            self._peft.base_model.set_adapter(self.active)
        for parameter in self._peft.parameters():
            parameter.requires_grad_(False)
        if self.active is None:
            self._peft.base_model.disable_adapter_layers()

    def parameters(self, name: str) -> dict[str, nn.Parameter]:
        """A slot's LoRA parameters by peft's saved names (`base_model.model....lora_A.weight`)."""
        mark = f".{name}."
        return {
            key.replace(mark, "."): parameter
            for key, parameter in self._peft.named_parameters()
            if "lora_" in key and mark in key
        }

    def config(self, name: str) -> bytes:
        """A slot's `adapter_config.json`."""
        config = dict(self._peft.peft_config[name].to_dict())
        config |= {"inference_mode": True, "base_model_name_or_path": None}
        plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
        return json.dumps(plain, indent=1, sort_keys=True, default=str).encode()

    def _add(self, config: Any, *, trainable: bool) -> str:
        from peft import PeftModel

        name = f"slot{next(self._numbers)}"
        if self._peft is None:
            self._peft = PeftModel(self._net, config, adapter_name=name)
        else:
            self._peft.add_adapter(name, config)
        for parameter in self._peft.parameters():
            parameter.requires_grad_(False)
        self._peft.base_model.enable_adapter_layers()
        self.active = name
        self._peft.base_model.set_adapter(name)
        for parameter in self.parameters(name).values():
            parameter.requires_grad_(trainable)
        return name

    def _fill(self, name: str, weights: dict[str, Tensor], folder: Path) -> None:
        """Copy saved weights in; every one must have its place: a silently skipped layer is a wrong adapter."""
        places = self.parameters(name)
        if missing := sorted(set(places) ^ set(weights)):
            raise AdapterError(f"{folder}: its weights do not fit this model; first that differ: {missing[:3]}")
        with torch.no_grad():
            for key, place in places.items():
                if place.shape != weights[key].shape:
                    raise AdapterError(
                        f"{folder}: {key} is {tuple(weights[key].shape)}, the model's {tuple(place.shape)}"
                    )
                place.copy_(weights[key])


_CONFIG_KEYS = (
    "r", "lora_alpha", "target_modules", "lora_dropout", "bias", "task_type", "use_rslora", "fan_in_fan_out",
    "rank_pattern", "alpha_pattern",
)  # fmt: skip

"""Which modules of a LoRA adapter the worker really holds, so that an adapter with dropped modules is seen.

vLLM passes in silence over weights whose names match no module of the model, and over modules that it cannot wrap.
Relies on: WorkerLoRAManager._load_adapter(request) -> LoRAModel, LoRAModelManager.modules, packed_modules_mapping,
list_adapters() and lora_index_to_id, and a module's lora_a_stacked. Seen in vLLM 0.32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_NAME = "dreamloop_name"


def remember_names() -> None:
    """From now on an adapter that is loaded carries the name it was loaded under: workers number them only."""
    try:
        from vllm.lora.worker_manager import WorkerLoRAManager

        original = WorkerLoRAManager._load_adapter
    except (ImportError, AttributeError):
        return
    if hasattr(original, _NAME):
        return

    def load_adapter(self: Any, lora_request: Any) -> Any:
        adapter = original(self, lora_request)
        setattr(adapter, _NAME, lora_request.lora_name)
        return adapter

    setattr(load_adapter, _NAME, True)
    WorkerLoRAManager._load_adapter = load_adapter


def held(manager: Any, name: str) -> dict[str, int]:
    """Module -> rank, for each module of the adapter `name` that has weights here.

    Modules are named as in the adapter's file, from "layers." on: "layers.0.mlp.up_proj". An adapter that was unloaded
    stays with the workers until another one needs its place; of two with one name the later one is meant. Raises
    LookupError, in words, when there is no such adapter.
    """
    named = {getattr(adapter, _NAME, ""): adapter for _, adapter in sorted(manager.list_adapters().items())}
    if name not in named:
        raise LookupError(f'no adapter "{name}" is loaded here; loaded: {", ".join(sorted(named)) or "none"}')
    adapter = named[name]
    slots = list(manager.lora_index_to_id)
    slot = slots.index(adapter.id) if adapter.id in slots else None  # None: not among those on the device just now
    found: dict[str, int] = {}
    for path, module in manager.modules.items():
        weights = adapter.get_lora(path)
        if weights is None or (slot is not None and not _filled(module, slot)):
            continue
        found.update(_parts(path, weights.lora_a, manager.packed_modules_mapping))
    return found


def _filled(module: Any, slot: int) -> bool:
    """Is anything but zeros in the place that the forward pass reads? A is never zero in an adapter, B may be."""
    stacked = getattr(module, "lora_a_stacked", ())
    return any(bool(a[slot].any()) for a in (stacked if isinstance(stacked, (tuple, list)) else (stacked,)))


def _parts(path: str, lora_a: Any, packed: dict[str, list[str]]) -> Iterator[tuple[str, int]]:
    """vLLM packs several projections into one module: each is named by itself, those that are missing are not."""
    _, layers, rest = path.partition("layers.")
    path = layers + rest if layers else path
    parent, _, leaf = path.rpartition(".")
    if not isinstance(lora_a, list):
        yield path, int(lora_a.shape[-2])
        return
    names = packed.get(leaf, [])
    if len(names) != len(lora_a):
        names = [f"{leaf}.{number}" for number in range(len(lora_a))]
    for name, a in zip(names, lora_a, strict=True):
        if a is not None:
            yield f"{parent}.{name}", int(a.shape[-2])

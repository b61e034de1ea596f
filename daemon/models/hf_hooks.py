"""Forward hooks that are always removed: what passes through a module is averaged, or added to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def hooked(modules: Sequence[nn.Module], react: Callable[[int, Any], Any]) -> Iterator[None]:
    """While entered, `react(number, output)` sees what the numbered module returns, and may return another output."""
    with contextlib.ExitStack() as stack:
        for number, module in enumerate(modules):

            def hook(_: nn.Module, __: Any, output: Any, number: int = number) -> Any:
                return react(number, output)

            stack.callback(module.register_forward_hook(hook).remove)
        yield


@contextlib.contextmanager
def averaging(modules: Sequence[nn.Module], shares: Tensor) -> Iterator[list[Tensor]]:
    """The list given holds, after a forward, per module its output weighted over tokens: (batch, hidden), fp32.

    `shares` is (batch, tokens): what each token counts for in its row's average.
    """
    found = [shares.new_empty(0)] * len(modules)

    def react(number: int, output: Any) -> None:
        found[number] = torch.einsum("bt,bth->bh", shares, _states(output).float())

    with hooked(modules, react):
        yield found


@contextlib.contextmanager
def adding(modules: Sequence[nn.Module], vectors: Sequence[Tensor]) -> Iterator[None]:
    """A vector (hidden,) is added to each module's output at every token, in the output's own precision."""

    def react(number: int, output: Any) -> Any:
        states = _states(output)
        moved = states + vectors[number].to(states)
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    with hooked(modules, react):
        yield


def _states(output: Any) -> Tensor:
    """Some modules return their states alone, some a tuple that begins with them."""
    return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]

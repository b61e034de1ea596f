"""A training window on a GPU that is shared with servers: they sleep, the model comes; then it leaves, and they wake.

A pause inside of it must not keep the servers asleep: it may last until tomorrow night.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from daemon.models.base import Generator, Model, Moves, Sleeps


class TrainingWindow:
    """`served` sleeps while the window is open, and `model` is on its device then only."""

    def __init__(self, served: Generator, model: Model) -> None:
        assert isinstance(served, Sleeps)
        self._served = served
        self._model = model
        self._sleeping: AbstractContextManager[None] | None = None

    def __enter__(self) -> TrainingWindow:
        sleeping = self._served.asleep()
        sleeping.__enter__()
        self._sleeping = sleeping
        try:
            if isinstance(self._model, Moves):
                self._model.come()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        sleeping, self._sleeping = self._sleeping, None
        try:
            if isinstance(self._model, Moves):
                self._model.leave()
        finally:
            if sleeping is not None:
                sleeping.__exit__(None, None, None)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Closed meanwhile: the servers answer, the model waits in the host's memory."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

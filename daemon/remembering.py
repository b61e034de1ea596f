"""The memory graph while the daemon runs: read again when its files change, and never lost to a bad edit."""

from __future__ import annotations

import time

import structlog

from daemon.config import Config
from daemon.errors import GraphError
from graph import memory as graphs
from graph.errors import GraphUnreadable
from graph.memory import Memory
from graph.surface import Surfacer

log = structlog.get_logger("dreamloop.graph")
LOOK_SECONDS = 10.0  # a vault may have thousands of files; asking each for its time is not free


class Remembering:
    """Holds the graph and what surfaces nodes from it. Raises GraphError when it cannot be read at the start."""

    def __init__(self, config: Config) -> None:
        place = "bundled" if config.graph.path == "bundled" else config.resolve(config.graph.path)
        try:
            self.memory: Memory = graphs.load(place, config.graph.format)
        except GraphUnreadable as error:
            raise GraphError(str(error)) from error
        self.surfacer = Surfacer(self.memory)
        self.problem = ""
        self._looked = time.monotonic()
        self._say()

    def problems(self) -> list[str]:
        """What could not be read, each naming its file."""
        return [*self.memory.problems, *filter(None, [self.problem])]

    def refresh(self) -> None:
        """Read the graph again if its files have changed; what cannot be read leaves the one there was."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            memory = self.memory.reloaded()
        except GraphUnreadable as error:
            if str(error) != self.problem:
                log.warning("the memory graph cannot be read again; going on with the last one", problem=str(error))
            self.problem = str(error)
            return
        self.problem = ""
        if memory is not self.memory:
            self.memory, self.surfacer = memory, Surfacer(memory)
            self._say()

    def _say(self) -> None:
        for problem in self.memory.problems:
            log.warning("memory graph", problem=problem)
        if len(self.memory) == 0:
            log.warning("the memory graph is empty: dreams start from behaviours alone", path=str(self.memory.path))
        else:
            log.info("memory graph", nodes=len(self.memory), format=self.memory.format)

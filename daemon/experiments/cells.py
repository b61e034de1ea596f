"""Cells: the parts of an experiment that are worth keeping. A run that was cancelled or killed goes on from them.

One JSON file a cell, named by the hash of everything its value depends on, written beside its place and renamed into
it. A file that cannot be read is computed again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from policies.records import content_id


class Cells:
    """The cells of an experiment in which everything that `scope` names stays the same: base model, code, behaviour.

    `computed` and `reused` count this run's.
    """

    def __init__(self, folder: Path, *scope: object) -> None:
        self.folder = folder
        self.scope = content_id(*scope)
        self.computed = 0
        self.reused = 0

    def get(self, name: str, key: object, compute: Callable[[], Any]) -> Any:
        """The cell's value, from disk or computed now; either way as JSON gives it back (tuples are lists)."""
        file = self.folder / f"{content_id('cell', self.scope, name, key)}.json"
        try:
            value = json.loads(file.read_text(encoding="utf-8"))["value"]
        except (OSError, ValueError, KeyError, TypeError):
            text = json.dumps({"name": name, "key": key, "value": compute()}, default=str)
            self._write(file, text)
            self.computed += 1
            return json.loads(text)["value"]
        self.reused += 1
        return value

    def _write(self, file: Path, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)

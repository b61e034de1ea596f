"""What a check of a behaviour says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "ok"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One thing looked at. An "error" cannot be used at all; a "warning" says what is weakened, and by how much.

    `questions` are those of the seven ("Q1" ... "Q7") and of "gate", "report", "loop" that stand on it.
    """

    level: Level
    about: str
    text: str
    questions: tuple[str, ...] = ()

"""The card beside nano's weights: how they were made, what they do, and the hash that tells them apart."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from daemon.models.loading import fingerprint
from daemon.models.nano import WEIGHTS

CARD = "card.json"


def read_card(folder: Path = WEIGHTS) -> dict[str, Any]:
    """The card of a folder of weights."""
    card: dict[str, Any] = json.loads((folder / CARD).read_text())
    return card


def write_card(folder: Path, *, training: dict[str, Any], evaluation: dict[str, Any], parameters: int) -> None:
    """Write the card of finished weights."""
    card = {
        "name": "nano",
        "fingerprint": fingerprint(folder),
        "parameters": parameters,
        "training": training,
        "evaluation": evaluation,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "transformers", "tokenizers", "safetensors")},
        "notes": [
            "Failure rates are shares of answers sampled at temperature 1 on held-out phrasings and combinations.",
            "General questions are held out by combination: a sum in a wording, a fact in a wording, an operation with "
            "a function's name and variables. Every sum and every fact occurs in training in other wordings: sums "
            "left out altogether were not got right at this size.",
            "The grammar's entropy is exact but for two memories in one dream that leave the same trace, where it is "
            "an upper bound (less than .001 nats a token).",
        ],
    }
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n")

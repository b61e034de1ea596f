"""What question 5 shows: pass rate by strength with its baselines, and by layer on the pairs held back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.statistics.interval import Interval


def steering(
    title: str,
    strengths: Sequence[float],
    main: Sequence[Interval],
    random: Sequence[NDArray[np.float64]],
    shuffled: Sequence[NDArray[np.float64]],
    prompt: Interval,
) -> dict[str, Any]:
    """The vector with its interval; control vectors as the mean over vectors, from the lowest to the highest."""
    series = [
        {
            "name": "steering vector",
            "role": "main",
            "values": [bar.value for bar in main],
            "low": [bar.low for bar in main],
            "high": [bar.high for bar in main],
        }
    ]
    for role, name, matrices in (("random", "random vectors", random), ("shuffled", "shuffled labels", shuffled)):
        if len(matrices):
            rates = np.array([matrix.mean(axis=0) for matrix in matrices])
            sides = {"values": rates.mean(axis=0), "low": rates.min(axis=0), "high": rates.max(axis=0)}
            series.append({"name": name, "role": role, **{key: side.tolist() for key, side in sides.items()}})
    return {
        "kind": "steering",
        "title": f"{title}: share of answers that pass, by strength of the vector",
        "strengths": list(strengths),
        "series": series,
        "prompt": {"value": prompt.value, "low": prompt.low, "high": prompt.high},
        "base": main[list(strengths).index(0.0)].value,
    }


def over_layers(title: str, rates: Mapping[tuple[int, float], float]) -> dict[str, Any]:
    """The pass rate by block, a line per strength: what the layer was chosen from."""
    layers = sorted({layer for layer, _ in rates})
    strengths = sorted({strength for _, strength in rates})
    return {
        "kind": "over_time",
        "title": f"{title}: where the vector acts, on the pairs held back",
        "x_label": "block, counted from 1",
        "y_label": "share of answers that pass",
        "x": layers,
        "series": [
            {"name": f"strength {strength:g}", "values": [rates[layer, strength] for layer in layers]}
            for strength in strengths
        ],
    }

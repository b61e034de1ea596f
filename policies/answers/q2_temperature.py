"""What the dream temperature does to difficulty: the slope that its controller lives on, and what a dream teaches."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies.statistics.bootstrap import difference_interval
from policies.statistics.interval import Interval
from policies.statistics.targeting import targeting

FEWEST = 8  # seeds or cycles at different temperatures, before a slope is tried
RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Dreamt:
    """A dream, what was predicted of it, and `failures` of its `trials` judged answers (0: unusable).

    `made` says that it was written for the question: then its seed was dreamed at several temperatures.
    """

    seed: str
    band: str
    cycle: int
    temperature: float
    predicted: float
    failures: int
    trials: int
    made: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """Dreams at one temperature: how many, the shares that were usable and that failed, what they teach.

    Usable are those that are new and can be read. `learnability` is of these, `worth` of every dream written.
    """

    temperature: float
    written: int
    usable: float
    failing: float
    share: float
    learnability: float

    @property
    def worth(self) -> float:
        """Learnability of a written dream."""
        return self.usable * self.learnability


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmth:
    """`slope` is the change of the failure rate per unit of temperature (None: not tried at several).

    `mean` is the mean temperature of the dreams that were read: where their failure rate belongs on the slope's line.
    `better` has, for two temperatures, how much more a written dream is worth at the one than at the other.
    """

    at: Sequence[At]
    slope: Interval | None
    better: Mapping[tuple[float, float], Interval]
    mean: float | None = None

    def numbers(self) -> dict[str, Any]:
        """For the finding: the slope, the temperatures, and which of two is certainly worth more."""
        slope = self.slope
        return {
            "slope": {"value": slope.value, "low": slope.low, "high": slope.high, "n": slope.n} if slope else None,
            "mean": self.mean,
            "at": [
                {"temperature": a.temperature, "written": a.written, "usable": a.usable, "failing": a.failing,
                 "share": a.share, "learnability": a.learnability, "worth": a.worth}
                for a in self.at
            ],
            "better": [[one, other] for (one, other), gain in self.better.items() if gain.low > 0],
        }  # fmt: skip

    def figures(self, title: str) -> list[Mapping[str, Any]]:
        """Targeting by temperature, where several were tried."""
        if len(self.at) < 2:
            return []
        series = {
            "failed": [a.failing for a in self.at],
            "could be used": [a.usable for a in self.at],
            "fail with probability .3 to .7": [a.share for a in self.at],
            "learnability 4p(1-p)": [a.learnability for a in self.at],
        }
        return [
            {
                "kind": "over_time",
                "title": f"{title}: targeting by temperature",
                "x_label": "dream temperature",
                "y_label": "share",
                "x": [a.temperature for a in self.at],
                "series": [{"name": name, "values": values} for name, values in series.items()],
            }
        ]


def analyse(dreams: Sequence[Dreamt], rng: np.random.Generator) -> Warmth:
    """By temperature, to one decimal."""
    places: dict[float, list[Dreamt]] = {}
    for dream in dreams:
        places.setdefault(round(dream.temperature, 1), []).append(dream)
    at = [_at(temperature, places[temperature]) for temperature in sorted(places)]
    heats = [dream.temperature for dream in dreams if dream.trials > 0]
    return Warmth(
        at=at,
        slope=slope(dreams, rng),
        better=_better([d for d in dreams if d.made], rng),
        mean=sum(heats) / len(heats) if heats else None,
    )


def slope(dreams: Sequence[Dreamt], rng: np.random.Generator) -> Interval | None:
    """Least squares of the failure rate on temperature, with limits from resampling seeds or cycles.

    Dreams made for the question are compared within their seed. The loop's own all have their cycle's temperature, so
    cycles are compared and resampled; as the adapter changes with them, too, that slope is the weaker evidence.
    """
    read = [dream for dream in dreams if dream.trials > 0]
    groups: dict[Hashable, list[Dreamt]] = {}
    for dream in read:
        groups.setdefault(dream.seed if dream.made else None, []).append(dream)
    terms: dict[Hashable, list[float]] = {}
    for label, group in groups.items():
        heat, failing = _centre([d.temperature for d in group]), _centre([d.failures / d.trials for d in group])
        for dream, t, f in zip(group, heat, failing, strict=True):
            both = terms.setdefault(label if dream.made else ("cycle", dream.cycle), [0.0, 0.0])
            both[0] += t * f
            both[1] += t * t
    table = np.array([both for both in terms.values() if both[1] > 1e-9])
    if len(table) < FEWEST:
        return None
    drawn = table[rng.integers(0, len(table), size=(RESAMPLES, len(table)))].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    top, bottom = table.sum(axis=0)
    return Interval(float(top / bottom), float(low), float(high), len(table))


def _at(temperature: float, dreams: Sequence[Dreamt]) -> At:
    read = [dream for dream in dreams if dream.trials > 0]
    aimed = targeting([d.failures for d in read], [d.trials for d in read])
    return At(
        temperature=temperature,
        written=len(dreams),
        usable=len(read) / len(dreams),
        failing=sum(d.failures for d in read) / max(1, sum(d.trials for d in read)),
        share=aimed.share,
        learnability=aimed.learnability,
    )


def _better(made: Sequence[Dreamt], rng: np.random.Generator) -> dict[tuple[float, float], Interval]:
    """(temperature, other) -> how much more a written dream is worth at the one, compared within seeds."""
    worth: dict[float, dict[str, float]] = {}
    for dream in made:
        k, m = dream.failures, dream.trials
        value = 4 * k * (m - k) / (m * (m - 1)) if m >= 2 else 0.0  # unbiased for 4 p (1 - p)
        worth.setdefault(round(dream.temperature, 1), {})[dream.seed] = value
    found = {}
    for one in worth:
        for other in worth:
            seeds = sorted(worth[one].keys() & worth[other].keys())
            if one != other and len(seeds) >= FEWEST:
                before, after = ([worth[t][seed] for seed in seeds] for t in (other, one))
                found[one, other] = difference_interval(before, after, rng)
    return found


def _centre(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    return [value - mean for value in values]

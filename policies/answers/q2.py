"""Question 2: do dreams have the difficulty that was predicted, and the right one?

The prediction is judged by Cox's recalibration, logit P(fail) = a + b logit(predicted). With a and b at 97.5 % each the
pair is at 95 %, so that a true forecast is called wrong in one of twenty answers at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies.answers import q2_temperature
from policies.answers.base import NOT_IDENTIFIED, Answer, Control
from policies.answers.q2_temperature import Dreamt
from policies.statistics.bins import equal_mass
from policies.statistics.bootstrap import mean_interval
from policies.statistics.brier import decomposition
from policies.statistics.calibration import Calibration, calibration, in_the_large
from policies.statistics.ece import debiased_ece
from policies.statistics.interval import Interval
from policies.statistics.lifetime_alpha import lifetime_alpha
from policies.statistics.reliability import spearman_of_ceiling
from policies.statistics.targeting import targeting
from policies.statistics.wilson import wilson

CALIBRATED, OVER, UNDER = "calibrated", "over-predicts", "under-predicts"
ALPHA = 0.05  # the error of a and b together, half of it each
WIDEST = 0.5  # half an interval: "calibrated" within a wider one would mean nothing
FEWEST = 20  # seeds, below which the limits are too narrow to be believed
ANSWERS = 4  # to a dream, what the protocol asks for
DREAMS = 1000  # the size of a full run
BINS = 5
PERIODS = 10  # points of a figure over time, at most
HARD = (0.4, 0.6)  # predicted failure below, between and above
RULE = (
    f"{CALIBRATED!r} when the interval of a holds 0 and that of b holds 1 (97.5 % each, 95 % together) and neither "
    f"reaches further than {WIDEST:g} to a side, from {FEWEST} seeds or more; when one of them does not hold it, "
    f"{OVER!r} where failures are rarer than predicted and {UNDER!r} where they are more frequent: by the intercept "
    "with the slope held at 1 where that excludes 0, else by a; where only b misses, by dreams predicted to be hard "
    "(b < 1: they are over-predicted); forecasts that are all alike are judged by that intercept alone"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The recalibration (None: not identified), the intercept with the slope held at 1, and what they say."""

    cox: Calibration | None
    large: Interval | None
    verdict: str
    words: str


def live_rule(cycle: int) -> str:
    """The rule of a look at the loop in `cycle`."""
    return (
        f"{RULE}. Looked at after every session: the look in cycle k may be wrong with 6 x 5 % / (pi^2 k^2), all looks "
        f"together with 5 % (alpha spending; {lifetime_alpha(ALPHA, cycle):.2g} in cycle {cycle}, shared by a and b). "
        "The other limits, the p-value and the figures' bars are of this one look"
    )


def judge(dreams: Sequence[Dreamt], alpha: float = ALPHA) -> Judged:
    """By `RULE`, clustered by dream seed; `alpha` is the error of a and b together."""
    predicted, failures, trials, seeds = columns(dreams)
    cox = calibration(predicted, failures, trials, 1 - alpha / 2, clusters=seeds)
    large = in_the_large(predicted, failures, trials, 1 - alpha, clusters=seeds)
    if cox is not None and large is not None:
        verdict, words = _of_both(cox, large)
    elif large is not None:
        verdict, words = _of_level(large)
    else:
        verdict, words = _of_extremes(predicted, failures, trials, len(set(seeds)), alpha)
    return Judged(cox=cox, large=large, verdict=verdict, words=words)


def _of_both(cox: Calibration, large: Interval) -> tuple[str, str]:
    a, b = cox.intercept, cox.slope
    if 0 in a and 1 in b:
        if max(a.value - a.low, b.value - b.low) > WIDEST or a.n < FEWEST:
            return NOT_IDENTIFIED, "the prediction may be true, but so few dreams would hide much that is wrong with it"
        return CALIBRATED, "dreams fail as often as predicted"
    bold = "" if 1 in b else "; the predictions are too bold" if b.value < 1 else "; the predictions are too timid"
    if 0 not in large:
        return (OVER, f"dreams fail less often than predicted{bold}") if large.value < 0 else (
            UNDER, f"dreams fail more often than predicted{bold}",
        )  # fmt: skip
    if 0 not in a:
        verdict, word = (OVER, "less") if a.value < 0 else (UNDER, "more")
        return verdict, (
            f"dreams predicted to fail half of the time fail {word} often than that, "
            f"though as many fail over all as predicted{bold}"
        )
    if b.value < 1:
        return OVER, f"what is predicted to be hard fails less often, what is predicted to be easy more often{bold}"
    return UNDER, f"what is predicted to be hard fails more often, what is predicted to be easy less often{bold}"


def _of_level(large: Interval) -> tuple[str, str]:
    """Forecasts all alike, or so good that no slope fits them."""
    if large.high < 0:
        return OVER, "dreams fail less often than predicted, and every dream is predicted alike"
    if large.low > 0:
        return UNDER, "dreams fail more often than predicted, and every dream is predicted alike"
    return NOT_IDENTIFIED, "the level is right, but the predictions do not differ enough to tell dreams apart"


def _of_extremes(
    predicted: Sequence[float], failures: Sequence[int], trials: Sequence[int], seeds: int, alpha: float
) -> tuple[str, str]:
    """No failures, or only failures: a logit has no value, but a seed that never failed still speaks."""
    mean = float(np.mean(predicted)) if predicted else 0.0
    if seeds >= 10 and sum(failures) == 0 and mean > wilson(0, seeds, 1 - alpha).high:
        return OVER, "no dream failed"
    if seeds >= 10 and sum(failures) == sum(trials) and mean < wilson(seeds, seeds, 1 - alpha).low:
        return UNDER, "every dream failed"
    return NOT_IDENTIFIED, "too few dreams were answered, or all alike"


def answer(
    dreams: Sequence[Dreamt],
    *,
    title: str,
    rng: np.random.Generator,
    seeds: Sequence[int],
    target: float,
    temperature: float,
    short: Sequence[str] = (),
    controls: Sequence[Control] = (),
    cycle: int | None = None,
) -> Answer:
    """The verdict on dreams predicted before they were answered; unreadable ones (no judged answer) count for nothing.

    `target` is the failure rate wished for, `temperature` that of the loop's dreams now. With `cycle` (from 1) this is
    one of the loop's looks, by `live_rule`.
    """
    read = [dream for dream in dreams if dream.trials > 0]
    predicted, failures, trials, clusters = columns(read)
    judged = judge(read, ALPHA if cycle is None else lifetime_alpha(ALPHA, cycle))
    shares = [k / m for k, m in zip(failures, trials, strict=True)]
    failing = mean_interval(shares, rng, clusters=clusters)
    parts = decomposition(predicted, failures, trials, BINS)
    ece = debiased_ece(predicted, failures, trials, rng, bins=BINS, clusters=clusters)
    ranking = spearman_of_ceiling(predicted, failures, trials)
    aimed = targeting(failures, trials)
    warmth = q2_temperature.analyse(dreams, rng)
    number = judged.cox.intercept if judged.cox else judged.large
    fewest = min(trials, default=0)
    together = "95 % together" if cycle is None else "95 % over all looks, together"
    mean, spread = (float(np.mean(predicted)), float(np.std(predicted))) if predicted else (0.0, 0.0)
    return Answer(
        verdict=judged.verdict,
        sentence=f"{title}: {judged.words} ({failing.value:.0%} of answers to {len(read)} dreams failed, "
        f"{mean:.0%} was predicted); {aimed.share:.0%} of the dreams are as hard as practice should be.",
        estimate=number.value if number else None,
        low=number.low if number else None,
        high=number.high if number else None,
        unit="logits, intercept a" + (", slope held at 1" if judged.cox is None else f" ({together} with the slope)"),
        n=len(set(clusters)),
        seeds=seeds,
        null={"name": "the calibration error of forecasts right on average", "value": ece.null_mean, "p": ece.p},
        rule=RULE if cycle is None else live_rule(cycle),
        would_change=_would_change(judged),
        controls=[
            *controls,
            Control(name="answers to a dream", ok=fewest >= ANSWERS, detail=f"at least {fewest} of each were read"),
            Control(name="predictions differ", ok=spread >= 0.05, detail=f"their standard deviation is {spread:.2f}"),
        ],
        figures=_figures(read, judged, warmth, title, rng),
        short=[*short, *([f"{len(read)} dreams; a full run has {DREAMS}"] if len(read) < DREAMS else [])],
        numbers={
            "dreams": len(read),
            "unreadable": len(dreams) - len(read),
            "slope": plain(judged.cox.slope) if judged.cox else None,
            "intercept": plain(judged.cox.intercept) if judged.cox else None,
            "in_the_large": plain(judged.large) if judged.large else None,
            "brier": {
                "score": parts.brier, "reliability": parts.reliability, "resolution": parts.resolution,
                "uncertainty": parts.uncertainty,
            },
            "ece": {"value": ece.value, "debiased": ece.debiased, "p": ece.p, "null": ece.null_mean, "bins": BINS},
            "spearman": {"rho": ranking.rho, "ceiling": ranking.ceiling, "share": ranking.ratio},
            "failing": plain(failing),
            "predicted": mean,
            "targeting": {"share": aimed.share, "learnability": aimed.learnability},
            "bands": {band: _band([d for d in read if d.band == band]) for band in dict.fromkeys(d.band for d in read)},
            "temperature": warmth.numbers(),
            "target": target,
            "now": temperature,
        },
    )  # fmt: skip


def columns(dreams: Sequence[Dreamt]) -> tuple[list[float], list[int], list[int], list[str]]:
    """Predictions, failures, answers and seeds."""
    return (
        [d.predicted for d in dreams], [d.failures for d in dreams], [d.trials for d in dreams],
        [d.seed for d in dreams],
    )  # fmt: skip


def plain(found: Interval) -> dict[str, float]:
    """An interval as numbers of a finding."""
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _band(dreams: Sequence[Dreamt]) -> dict[str, Any]:
    predicted, failures, trials, _ = columns(dreams)
    return {"n": len(dreams), "predicted": float(np.mean(predicted)), "failing": sum(failures) / max(1, sum(trials))}


def _would_change(judged: Judged) -> str:
    if judged.verdict == NOT_IDENTIFIED:
        return "more dreams, of more seeds, with predictions further apart"
    if judged.verdict == CALIBRATED:
        return "dreams of another adapter: the prediction is of what this one fails"
    return "a classifier fitted on more answered dreams; it learns from every cycle"


# --- figures


def _figures(
    dreams: Sequence[Dreamt], judged: Judged, warmth: q2_temperature.Warmth, title: str, rng: np.random.Generator
) -> list[Mapping[str, Any]]:
    if not dreams:
        return []
    line = {"a": judged.cox.intercept.value, "b": judged.cox.slope.value} if judged.cox else None
    place = equal_mass([dream.predicted for dream in dreams], BINS)
    reliability = {
        "kind": "reliability",
        "title": f"{title}: did what was predicted to fail, fail?",
        "bins": [
            _bin([dreams[i] for i in np.flatnonzero(place == n).tolist()], rng) for n in np.unique(place).tolist()
        ],
        "line": line,
    }
    return [reliability, _over_time(dreams, title), *warmth.figures(title)]


def _bin(dreams: Sequence[Dreamt], rng: np.random.Generator) -> dict[str, Any]:
    found = mean_interval([d.failures / d.trials for d in dreams], rng, clusters=[d.seed for d in dreams])
    return {
        "predicted": float(np.mean([d.predicted for d in dreams])),
        "observed": found.value, "low": found.low, "high": found.high, "n": len(dreams),
    }  # fmt: skip


def _over_time(dreams: Sequence[Dreamt], title: str) -> dict[str, Any]:
    """Failure of dreams predicted to be easy, medium and hard, over cycles put together into a few periods."""
    cycles = sorted({dream.cycle for dream in dreams})
    periods = [list(part) for part in np.array_split(cycles, min(PERIODS, len(cycles)))]
    groups = {
        f"predicted below {HARD[0]:.0%}": lambda p: p < HARD[0],
        "between": lambda p: HARD[0] <= p <= HARD[1],
        f"predicted above {HARD[1]:.0%}": lambda p: p > HARD[1],
        "all": lambda p: True,
    }

    def failing(period: Sequence[int], mine: Any) -> float | None:
        found = [d.failures / d.trials for d in dreams if d.cycle in period and mine(d.predicted)]
        return float(np.mean(found)) if len(found) >= 3 else None

    return {
        "kind": "over_time",
        "title": f"{title}: failure by predicted difficulty",
        "x_label": "cycle",
        "y_label": "share of answers that failed",
        "x": [float(np.mean(period)) for period in periods],
        "series": [
            {"name": name, "values": [failing(period, mine) for period in periods]} for name, mine in groups.items()
        ],
    }

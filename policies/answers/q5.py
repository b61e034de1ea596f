"""Question 5: does adding a vector move a behaviour as a prompt does, and leave everything else alone?

The judged rate of sampled answers decides. The log-prob margin is reported beside it and decides nothing: it keeps
rising while steering is destroying the text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from policies.answers.base import NOT_IDENTIFIED, Answer, Control, plain
from policies.answers.q5_figures import over_layers, steering
from policies.answers.q5_measured import PERPLEXITY, Matrix, Measured
from policies.statistics.bootstrap import difference_interval, mean_interval
from policies.statistics.interval import Interval
from policies.statistics.prediction import prediction_high
from policies.statistics.signal_slope import share_backwards, slope_interval

WORKS, DOES_NOT = "works", "does not work"
BACKWARDS, OF_PROMPT = 0.2, 0.5
INTACT = 0.9  # of the answers; unsteered it is .975
ERROR = 0.05  # of calling a guarded skill lost, shared by all of them
SCENARIOS, PAIRS, RANDOM = 40, 20, 5  # what a finding should rest on
RULE = (
    "works when, on scenarios that chose nothing: the slope of the pass rate on strength has its 95 % interval above 0 "
    "and lies beyond norm-matched random vectors (upper 95 % prediction limit) and a label-shuffled one; at most "
    f"{BACKWARDS:.0%} of the scenarios move backwards; at the strength chosen beforehand the rate rises, surely by at "
    f"least {OF_PROMPT:.0%} of what the plain prompt does; perplexity of neutral text rises by at most "
    f"{PERPLEXITY:.0%} (upper limit); and legitimate push-back is non-inferior. Does not work when an interval surely "
    "misses one of these; a guarded skill does where its loss is surely beyond its delta (95 % over all of them). Else "
    "not identified"
)


@dataclass(frozen=True, slots=True)
class Criterion:
    """One condition: it holds, surely fails, or (None) is open."""

    name: str
    holds: bool | None
    detail: str


def answer(m: Measured, rng: np.random.Generator) -> Answer:
    """The verdict. Estimate: the slope of the pass rate per unit of strength."""
    slope = slope_interval(m.strengths, m.passed, rng)
    base, steered, prompted = m.column(0.0), m.column(m.chosen.strength), np.asarray(m.prompted, dtype=float)
    effect = difference_interval(base.tolist(), steered.tolist(), rng)
    by_prompt = difference_interval(base.tolist(), prompted.tolist(), rng)
    randoms = [_mean_slope(m.strengths, matrix) for matrix in m.random]
    criteria = [
        _slope(slope),
        _controls(m, randoms, rng),
        _backwards(m),
        _of_prompt(m, effect, by_prompt, rng),
        _perplexity(m, rng),
        _push_back(m),
    ]
    failed = [each.name for each in criteria if each.holds is False]
    open_ = [each.name for each in criteria if each.holds is None]
    verdict = DOES_NOT if failed else NOT_IDENTIFIED if open_ else WORKS
    return Answer(
        verdict=verdict,
        sentence=_sentence(m, verdict, failed or open_, base, effect, by_prompt),
        estimate=slope.value,
        low=slope.low,
        high=slope.high,
        unit="share of answers passed per unit of strength",
        n=slope.n,
        seeds=[m.seed],
        null={
            "name": f"{len(randoms)} norm-matched random vectors (slope)",
            "value": float(np.mean(randoms)) if randoms else None,
            "low": min(randoms, default=None),
            "high": prediction_high(randoms) if len(randoms) > 1 else None,
        },
        rule=RULE,
        would_change=_would_change(failed, open_),
        controls=[
            *(Control(name=each.name, ok=each.holds is True, detail=each.detail) for each in criteria),
            *_side_effects(m),
        ],
        figures=_figures(m, prompted, rng),
        short=[*m.short, *_short(m)],
        numbers={
            "layer": m.chosen.layer,
            "strength": m.chosen.strength,
            "rate": {"base": float(base.mean()), "steered": float(steered.mean()), "prompted": float(prompted.mean())},
            "effect": plain(effect),
            "prompt_effect": plain(by_prompt),
            "share_of_prompt": effect.value / by_prompt.value if by_prompt.value > 0 else None,
            "slope_upwards": plain(_upwards(m, rng)),
            "margin_slope": plain(slope_interval(m.strengths, m.margins, rng)) if m.margins.size else None,
            "rates": [float(rate) for rate in m.passed.mean(axis=0)],
            "margins": [float(change) for change in m.margins.mean(axis=0)] if m.margins.size else None,
            "intact": list(m.intact),
            "random_slopes": randoms,
            "skills": {each.name: plain(each.standing().change) for each in m.skills},
            "adapter": m.adapter,
            "serving": list(m.serving),
        },
    )


# --- the conditions


def _slope(slope: Interval) -> Criterion:
    holds = True if slope.low > 0 else False if slope.high <= 0 else None
    return Criterion("slope above 0", holds, f"{_told(slope, '+.3f')} of the rate per unit of strength")


def _controls(m: Measured, randoms: Sequence[float], rng: np.random.Generator) -> Criterion:
    """On the scenarios that the control vectors were asked.

    A shuffled vector keeps some of the direction by chance (cosines of .1 to .5 with 40 pairs of nano's), so the
    interval must exclude their mean, and the slope itself the largest.
    """
    name = "beyond random and shuffled vectors"
    if len(randoms) < 2 or not m.shuffled:
        return Criterion(name, None, "too few control vectors")
    mine = slope_interval(m.strengths, m.passed[: len(m.random[0])], rng)
    limit = prediction_high(randoms)
    shuffled = [_mean_slope(m.strengths, matrix) for matrix in m.shuffled]
    told = f"slope {mine.value:+.3f}; random up to {limit:+.3f} ({len(randoms)} vectors)"
    told += f", shuffled up to {max(shuffled):+.3f}"
    if mine.value > max(limit, *shuffled) and mine.low > float(np.mean(shuffled)):
        return Criterion(name, True, told)
    return Criterion(name, False if mine.high <= float(np.mean(randoms)) else None, told)


def _backwards(m: Measured) -> Criterion:
    """The share itself decides for, since noise in few answers moves items backwards; the lower limit against."""
    share = share_backwards(m.strengths, m.passed)
    holds = True if share.value <= BACKWARDS else False if share.low > BACKWARDS else None
    return Criterion("few move backwards", holds, f"{_told(share, '.0%')} of the scenarios")


def _of_prompt(m: Measured, effect: Interval, by_prompt: Interval, rng: np.random.Generator) -> Criterion:
    """Paired: steered minus the wanted share of the prompt's effect. A prompt that does nothing sets no bar above 0."""
    base, steered = m.column(0.0), m.column(m.chosen.strength)
    wanted = OF_PROMPT * (np.asarray(m.prompted, dtype=float) - base)
    margin = mean_interval((steered - base - wanted).tolist(), rng)
    if effect.low > 0 and margin.low >= 0:
        holds: bool | None = True
    elif effect.high <= 0 or (by_prompt.low > 0 and margin.high < 0):
        holds = False
    else:
        holds = None
    told = f"steering {_told(effect, '+.0%')}, prompt {_told(by_prompt, '+.0%')}"
    return Criterion(f"at least {OF_PROMPT:.0%} of the prompt's effect", holds, told)


def _perplexity(m: Measured, rng: np.random.Generator) -> Criterion:
    name, limit = "perplexity of neutral text", math.log1p(PERPLEXITY)
    if not len(m.neutral):
        return Criterion(name, None, "no neutral text was given")
    found = mean_interval(m.neutral, rng)
    holds = True if found.high <= limit else False if found.low > limit else None
    low, high = math.expm1(found.low), math.expm1(found.high)
    return Criterion(name, holds, f"{math.expm1(found.value):+.1%} ({low:+.1%} to {high:+.1%}), {found.n} documents")


def _push_back(m: Measured) -> Criterion:
    """A fall that is sure, but not surely beyond delta, leaves it open; any of the guarded skills may fail it."""
    guarded = [each for each in m.skills if each.guarded]
    stand = [(each.name, each.standing()) for each in guarded]
    told = "; ".join(f"{name} {_told(each.change, '+.0%')}: {each.standing}" for name, each in stand)
    if any(each.surely_lost(1 - ERROR / len(guarded)) for each in guarded):
        holds: bool | None = False
    else:
        holds = True if guarded and all(each.standing == "non-inferior" for _, each in stand) else None
    return Criterion("push-back survives", holds, told or "nothing was there to measure it on")


def _side_effects(m: Measured) -> list[Control]:
    """Reported beside the conditions; they decide nothing."""
    intact = m.intact[list(m.strengths).index(m.chosen.strength)]
    others = [(each.name, each.standing()) for each in m.skills if not each.guarded]
    told = "; ".join(f"{name} {_told(each.change, '+.0%')}" for name, each in others)
    return [
        Control(
            name="answers stay intact", ok=intact >= INTACT,
            detail=f"{intact:.0%} are as likely to the unsteered model as 97.5 % of its own",
        ),
        Control(
            name="other trained behaviours", ok=all(each.standing != "worse" for _, each in others),
            detail=told or "there are none",
        ),
    ]  # fmt: skip


# --- words and figures


def _sentence(
    m: Measured, verdict: str, why: Sequence[str], base: Matrix, effect: Interval, by_prompt: Interval
) -> str:
    found = (
        f"{m.title}: a vector at block {m.chosen.layer}, strength {m.chosen.strength:g}, moves the pass rate from "
        f"{base.mean():.0%} by {100 * effect.value:+.0f} points, the plain prompt by {100 * by_prompt.value:+.0f}"
    )
    reason = {WORKS: "all conditions hold", DOES_NOT: f"it fails on {_listed(why)}"}
    return f"{found}; {reason.get(verdict, f'still open: {_listed(why)}')}."


def _would_change(failed: Sequence[str], open_: Sequence[str]) -> str:
    if failed:
        return f"another model or pairs that contrast more cleanly, where these hold: {_listed(failed)}"
    if open_:
        return f"more scenarios and answers, to settle: {_listed(open_)}"
    return "a repetition on other scenarios, or an adapter served since, on which a condition fails"


def _short(m: Measured) -> list[str]:
    found = [] if m.served else ["measured on the transformers model; as served: `dreamctl ask q5 --served`"]
    counted = ((m.pairs, PAIRS, "pairs in the means"), (len(m.passed), SCENARIOS, "scenarios"),
               (len(m.random), RANDOM, "random vectors"))  # fmt: skip
    found += [f"{have} {what}, {wanted} are wanted" for have, wanted, what in counted if have < wanted]
    return found


def _figures(m: Measured, prompted: Matrix, rng: np.random.Generator) -> list[Mapping[str, object]]:
    bars = [mean_interval(column.tolist(), rng) for column in m.passed.T]
    grid = {(each.layer, each.strength): each.rate for each in m.candidates}
    return [
        steering(m.title, m.strengths, bars, m.random, m.shuffled, mean_interval(prompted.tolist(), rng)),
        over_layers(m.title, grid),
    ]


def _upwards(m: Measured, rng: np.random.Generator) -> Interval:
    """The slope towards the behaviour alone: away from it is often the easier direction."""
    places = [place for place, strength in enumerate(m.strengths) if strength >= 0]
    return slope_interval([m.strengths[place] for place in places], m.passed[:, places], rng)


def _mean_slope(strengths: Sequence[float], matrix: Matrix) -> float:
    """That of the mean is the mean of the scenarios' slopes."""
    return float(np.polyfit(np.asarray(strengths, dtype=float), matrix.mean(axis=0), 1)[0])


def _told(interval: Interval, form: str) -> str:
    return f"{interval.value:{form}} ({interval.low:{form}} to {interval.high:{form}})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)

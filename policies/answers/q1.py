"""Question 1: how few examples change a behaviour? First the trend, then the curve, then its interval.

A knee in a curve is no evidence (knee finders "find" one in flat noise), so none is looked for. What is judged is the
rate of sampled answers; margins and attention, which move more smoothly, are analysed in the same way and reported.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from policies.answers.base import NOT_IDENTIFIED, Answer, Control, plain
from policies.statistics.emax import Emax, ed_interval, fit
from policies.statistics.interval import Interval
from policies.statistics.student import student
from policies.statistics.trend import Trend, jonckheere

IDENTIFIED = "identified"
TREND, FLAT, RATIO = 0.01, 0.05, 4.0
HALF = 0.5  # of the main effect: what a flat placebo stays below
CONTINUOUS, HOURLY = 10, 50  # an ED80 of at most this many examples asks for that cadence
SEEDS, PROBES = 5, 100  # what the protocol asks for
KEYS = ("schedule.cycle", "learn.minimum")  # what is advised
DOSES = (0, 1, 2, 5, 10, 20, 50, 100)
RULE = (
    f"identified when the rate rises with the dose (Jonckheere, permuted within seeds, p < {TREND}), an Emax curve "
    f"fits, the dose of 80 % of the effect (ED80) has a 95 % interval whose ends are at most a factor {RATIO:g} apart "
    "(one example is the least there is) and lie within the doses given, and training on shuffled labels is flat: the "
    f"one-sided 95 % upper limit of its effect at its largest dose is below {HALF:.0%} of the examples' own effect, "
    f"and it has no rising trend at p < {FLAT} (asked where its doses and seeds have arrangements enough for that)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What one measure did over doses: `runs[seed][dose]` is the mean over the probes of one run, in `unit`."""

    name: str
    unit: str
    runs: Mapping[int, Mapping[int, float]]

    @property
    def doses(self) -> list[int]:
        """The doses that every seed was given, in order."""
        return sorted(set.intersection(*(set(run) for run in self.runs.values())))

    def at(self, dose: int) -> list[float]:
        """One value per seed."""
        return [run[dose] for run in self.runs.values()]

    def effect(self, dose: int, confidence: float = 0.95) -> Interval:
        """Change from dose 0, each seed against itself; the interval is over seeds."""
        return student([run[dose] - run[0] for run in self.runs.values()], confidence)

    @property
    def smallest(self) -> int:
        """The smallest dose above 0: below it nothing was measured."""
        return self.doses[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """A response in the protocol's order: what follows a step that failed was not done and is None."""

    response: Response
    trend: Trend
    curve: Emax | None = None
    ed50: Interval | None = None
    ed80: Interval | None = None

    @property
    def ratio(self) -> float:
        """How many times the ED80's upper limit is its lower, which is at least one example; infinite without one."""
        return self.ed80.high / max(1.0, self.ed80.low) if self.ed80 else math.inf

    @property
    def at_once(self) -> bool:
        """Whether four fifths of the effect are there by the smallest dose: the ED80 is at most that, and no number."""
        return self.ed80 is not None and self.ed80.value <= self.response.smallest


def analyse(
    response: Response, rng: np.random.Generator, *, either: bool = False, curve: bool = True, draws: int = 9999
) -> Analysis:
    """Trend, then the curve, then cluster bootstraps over seeds of ED50 and ED80.

    The trend is upwards, or with `either` (for a measure that nobody promised to rise) that of the effect, two-sided.
    """
    doses, seeds = response.doses, list(response.runs)
    sign = -1 if either and response.effect(doses[-1]).value < 0 else 1
    values = [[sign * value for value in response.at(dose)] for dose in doses]
    trend = jonckheere(values, rng, blocks=[seeds] * len(doses), draws=draws)
    if either:
        trend = replace(trend, p=min(1.0, 2 * trend.p))
    if trend.p >= TREND or not curve:
        return Analysis(response=response, trend=trend)
    points: dict[Hashable, list[tuple[float, float]]] = {
        seed: [(float(dose), run[dose]) for dose in doses] for seed, run in response.runs.items()
    }
    pooled = [point for run in points.values() for point in run]
    fitted = fit([dose for dose, _ in pooled], [value for _, value in pooled])
    if fitted is None:
        return Analysis(response=response, trend=trend)
    ed50, ed80 = (ed_interval(points, rng, share=share) for share in (0.5, 0.8))
    return Analysis(response=response, trend=trend, curve=fitted, ed50=ed50, ed80=ed80)


def answer(
    rate: Response,
    placebo: Response,
    *,
    title: str,
    probes: int,
    rng: np.random.Generator,
    others: Sequence[tuple[Response, Response]] = (),
    short: Sequence[str] = (),
    maximum: int | None = None,
) -> Answer:
    """The verdict on the rate of `title`'s behaviour against the `placebo` arm of the same measure.

    `others` are further measures with their placebo arms, `probes` how many each run was asked, `maximum` the
    configuration's `learn.maximum`, which the advice must not exceed.
    """
    main, flat = analyse(rate, rng), analyse(placebo, rng, curve=False)
    top, given = placebo.doses[-1], rate.doses
    effect, idle = rate.effect(given[-1]), placebo.effect(top)
    most = placebo.effect(top, 2 * 0.95 - 1).high  # one-sided: only a rise would explain the effect away
    rises = flat.trend.p <= FLAT and _reaches(placebo)
    within = main.ed80 is not None and main.ed80.value <= given[-1]
    inside = main.ed80 is not None and main.ed80.high <= given[-1]
    controls = (
        Control(name="trend", ok=main.trend.p < TREND, detail=f"p = {main.trend.p:.4f} over {len(rate.runs)} seeds"),
        Control(name="curve", ok=main.curve is not None, detail=_curve(main)),
        Control(name="within the doses", ok=inside, detail=f"the largest dose is {given[-1]} examples"),
        Control(name="interval", ok=main.ratio <= RATIO, detail=f"ED80 {_range(main.ed80)} examples"),
        Control(
            name="placebo is flat", ok=not rises and most < HALF * effect.value,
            detail=f"shuffled labels: trend p = {flat.trend.p:.3f}{'' if _reaches(placebo) else ' (too few to tell)'}, "
            f"{idle.value:+.3f} ({idle.low:+.3f} to {idle.high:+.3f}) at {top} examples; one-sided upper limit "
            f"{most:+.3f}, and {HALF:.0%} of the examples' own effect is {HALF * effect.value:+.3f}",
        ),
    )  # fmt: skip
    found, would_change = _words(main, controls, given[-1], rises)
    measured = [(analyse(response, rng, either=True), idling) for response, idling in others]
    ed80 = main.ed80
    return Answer(
        verdict=IDENTIFIED if all(control.ok for control in controls) else NOT_IDENTIFIED,
        sentence=f"{title}: {found}; {given[-1]} examples change the rate by {100 * effect.value:+.0f} points.",
        estimate=ed80.value if ed80 and within else None,  # beyond the doses it is extrapolated, so only a lower limit
        low=ed80.low if ed80 else None,
        high=ed80.high if ed80 and inside else None,
        unit="examples",
        n=len(rate.runs),
        seeds=sorted(rate.runs),
        null={
            "name": "the same doses with half of the labels swapped",
            "p": flat.trend.p, "value": idle.value, "low": idle.low, "high": idle.high,
        },
        rule=RULE,
        would_change=would_change,
        controls=controls,
        figures=[_figure(analysis, idling) for analysis, idling in ((main, placebo), *measured)],
        short=(*_falls_short(rate, placebo, probes), *short),
        numbers={
            "ed50": plain(main.ed50), "ed80": plain(ed80), "ratio": main.ratio, "trend_p": main.trend.p,
            "curve": None if main.curve is None else [main.curve.e0, main.curve.emax, main.curve.ed50, main.curve.hill],
            "at_once": main.at_once, "smallest": rate.smallest, "advises": list(KEYS),
            "effect": plain(effect), "placebo": {"value": idle.value, "most": most, "trend_p": flat.trend.p},
            "probes": probes, "doses": given, "maximum": maximum,
            "measures": {analysis.response.name: _summary(analysis) for analysis, _ in measured},
        },
    )  # fmt: skip


def cadence(ed80: float) -> str:
    """The value of `schedule.cycle` for an ED80 in examples: the fewer it takes, the sooner an update pays.

    >>> cadence(8), cadence(35), cadence(80)
    ('continuous', 'every 1h', 'cron 0 3 * * *')
    """
    if ed80 <= CONTINUOUS:
        return "continuous"
    return "every 1h" if ed80 <= HOURLY else "cron 0 3 * * *"


def _reaches(response: Response) -> bool:
    """Whether the arrangements of the doses within seeds are enough for a trend test at `FLAT`."""
    return bool(math.factorial(len(response.doses)) ** len(response.runs) * FLAT >= 1)


def examples(count: float) -> str:
    """The count with its noun.

    >>> examples(1), examples(8.4)
    ('1 example', '8 examples')
    """
    return f"{count:.0f} example" if round(count) == 1 else f"{count:.0f} examples"


def _words(main: Analysis, controls: Sequence[Control], top: int, rises: bool) -> tuple[str, str]:
    """What was found, by the first control that failed, and what would change it; `rises` is the placebo's trend."""
    failed = next((control.name for control in controls if not control.ok), "")
    if not failed and main.at_once:
        smallest = main.response.smallest
        return (
            f"at most {examples(smallest)} {'brings' if smallest == 1 else 'bring'} four fifths of the whole change; "
            "nothing below that was tried",
            "Another learning rate, rank or number of passes: the dose depends on how the loop trains.",
        )
    if not failed:
        return (
            f"about {main.ed80.value if main.ed80 else math.nan:.0f} examples ({_range(main.ed80)}) bring four fifths "
            "of the whole change",
            "Another learning rate, rank or number of passes: the dose depends on how the loop trains.",
        )
    effect, beyond = main.response.effect(top), main.ed80 is not None and main.ed80.value > top
    more = f"Doses beyond {top} examples, or a recipe that learns faster (`learn.learning_rate`, `learn.epochs`)."
    return {
        "trend": (
            f"not identified. {top} examples raise it ({100 * effect.low:+.0f} to {100 * effect.high:+.0f} points), "
            f"but that it rises with the dose is not shown (trend p = {main.trend.p:.2g})",
            "Smaller doses, if the change comes before the first one; more seeds and probes.",
        )
        if effect.low > 0
        else (
            f"not identified. More examples do not raise it beyond chance (p = {main.trend.p:.2g})",
            "More seeds and probes, if the effect is small; a larger `learn.learning_rate` or more `learn.epochs`, if "
            "there is none.",
        ),
        "curve": (f"not identified. It rises (p = {main.trend.p:.2g}) and does not level off by {top} examples", more),
        "interval": (
            f"not identified. It rises, but how many examples it takes is not pinned down ({_range(main.ed80)})",
            f"More seeds: the ends of the interval must come within a factor {RATIO:g} (now {main.ratio:.1f}).",
        ),
        "within the doses": (
            f"not identified. Four fifths of the change take more than the {top} examples given"
            if beyond
            else f"not identified. It may take more than the {top} examples given ({_range(main.ed80)})",
            more if beyond else f"More seeds, for a narrower interval. {more}",
        ),
        "placebo is flat": (
            "not identified. Training on shuffled labels raises it as well, so it is not what the examples mean"
            if rises
            else "not identified. Training on shuffled labels may do half as much, so it is not shown that the "
            "examples' meaning does it",
            "A placebo that stays flat: look for what both arms share, such as the form of the answers.",
        ),
    }[failed]


def _falls_short(rate: Response, placebo: Response, probes: int) -> list[str]:
    notes = []
    if len(rate.runs) < SEEDS:
        notes.append(f"{len(rate.runs)} seeds; the protocol wants at least {SEEDS}")
    if probes < PROBES:
        notes.append(f"{probes} probes a run; the protocol wants at least {PROBES}")
    if missing := [str(dose) for dose in DOSES if dose not in rate.doses]:
        notes.append(f"doses {', '.join(missing)} were left out")
    if len(placebo.doses) < len(rate.doses):
        notes.append(f"the placebo was given at {', '.join(map(str, placebo.doses[1:]))} examples only")
    if not _reaches(placebo):
        notes.append("the placebo's trend cannot be tested: too few doses and seeds; only its size is judged")
    notes.append(
        f"the protocol's `learn.cadence` and batch size are `{KEYS[0]}` and `{KEYS[1]}` here: these are advised"
    )
    return notes


def _curve(main: Analysis) -> str:
    if main.curve is None:
        return "none fits: no trend, no better than a constant, or still rising at the largest dose"
    c = main.curve
    if c.ed50 < main.response.smallest:  # below it place and steepness are a guess
        return f"from {c.e0:.3f} by {c.emax:+.3f}, half of it by at most {examples(main.response.smallest)}"
    return f"from {c.e0:.3f} by {c.emax:+.3f}, half of it at {c.ed50:.1f} examples, steepness {c.hill:.1f}"


def _range(interval: Interval | None) -> str:
    if interval is None:
        return "no interval"
    if interval.low <= 0 and math.isfinite(interval.high):
        return f"at most {interval.high:.0f}"
    return (
        f"{interval.low:.0f} to {interval.high:.0f}" if math.isfinite(interval.high) else f"{interval.low:.0f} or more"
    )


def _summary(analysis: Analysis) -> dict[str, Any]:
    return {
        "trend_p": analysis.trend.p, "ed50": plain(analysis.ed50), "ed80": plain(analysis.ed80),
        "effect": plain(analysis.response.effect(analysis.response.doses[-1])), "unit": analysis.response.unit,
    }  # fmt: skip


def _series(response: Response, role: str) -> dict[str, Any]:
    at = [student(response.at(dose)) for dose in response.doses]
    return {
        "name": "shuffled labels" if role == "placebo" else response.name,
        "values": [i.value for i in at], "low": [i.low for i in at], "high": [i.high for i in at], "role": role,
    }  # fmt: skip


def _figure(main: Analysis, placebo: Response) -> dict[str, Any]:
    """Dose-response with the placebo on the same doses; where the placebo was not given there is nothing to see."""
    doses = main.response.doses
    idle = _series(placebo, "placebo")
    for key in ("values", "low", "high"):
        known = dict(zip(placebo.doses, idle[key], strict=True))
        idle[key] = [known.get(dose) for dose in doses]
    line = np.unique(np.r_[0, np.geomspace(max(0.5, doses[1] / 2), doses[-1], 60)]).tolist() if main.curve else []
    marks = [
        (f"{label}, at most" if i.value <= doses[1] else label, i)
        for label, i in (("ED50", main.ed50), ("ED80", main.ed80))
        if i and i.value <= doses[-1]
    ]
    return {
        "kind": "dose_response", "title": f"{main.response.name} by number of examples", "x_label": "examples",
        "y_label": main.response.unit, "doses": doses, "series": [_series(main.response, "main"), idle],
        "fit": {"x": line, "y": [main.curve.at(x) for x in line]} if main.curve else None,
        "marks": [{"x": i.value, "low": i.low, "high": i.high, "label": label} for label, i in marks],
    }  # fmt: skip

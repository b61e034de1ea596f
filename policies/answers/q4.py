"""Question 4: does the memory graph notice a regression as soon as explicit probes do?

All channels are held to one false-alarm rate before their delays are compared; what information theory expects of the
comparison is written down from the measured rates before the first episode is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtrc

from policies.answers.base import NOT_IDENTIFIED, Answer, Control
from policies.answers.q4_channel import Channel
from policies.guard.replay import DETECTORS
from policies.statistics.detection import delay_interval, ratio_interval
from policies.statistics.interval import Interval

HEALS, EXPLICIT = "self-heals", "explicit detection is needed"
FACTOR = 1.5  # how many times the probe's delay the graph may take
WEAKEST = 0.05  # a rise of the probes' failure rate that is certainly larger than this can be looked for
ALARMED, GRAPH_ALARMED = 0.8, 0.9  # shares of the episodes that the probe and the graph channel must notice
FEWEST = 5
SHORTEST = 1 / 3  # of the run length expected under more traffic
SHAM, EPISODES = 200, 50  # what the protocol asks for
RULE = (
    f"{HEALS!r} when the 95 % upper limit of (graph's mean delay / probe's mean delay) is at most {FACTOR:g} at one "
    f"false-alarm rate, the graph channel noticed {GRAPH_ALARMED:.0%} of the episodes and nothing else raised alarms; "
    f"{NOT_IDENTIFIED!r} when the probes' failure rate rose by no more than {100 * WEAKEST:.0f} points for certain, or "
    f"the probe channel noticed fewer than {ALARMED:.0%} of at least {FEWEST} episodes; else {EXPLICIT!r}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Everything that was measured. Detectors are in the order of `DETECTORS`.

    `delays` (episodes, detectors) in cycles, inf where the episode ended, after `horizon` cycles, without an alarm;
    `arl` is the run length in cycles that all `thresholds` were set to, from `sham` cycles; `checked` are the alarms in
    `checked_cycles` of these under thresholds that the others set, `checked_expected` of each being expected. `busier`
    are the alarms in `busier_cycles` of more traffic, `expected` of each being expected, and `busier_lengths` the run
    lengths in cycles when timelines are drawn from them.
    `trade_off` is worst-case delay by run length (ARL -> mean delays), `timeline` an episode's onset and channels for
    its figure.
    """

    channels: Mapping[str, Channel]
    predicted: float | None = None
    delays: NDArray[np.float64]
    horizon: int
    arl: float
    thresholds: Sequence[float]
    sham: int
    checked: Sequence[int]
    checked_cycles: int
    checked_expected: float
    busier: Sequence[int]
    busier_cycles: int
    expected: Sequence[float]
    busier_lengths: Sequence[float]
    trade_off: Mapping[float, Sequence[float]]
    timeline: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)


def answer(seen: Seen, *, title: str, seeds: Sequence[int], rng: np.random.Generator, short: Sequence[str]) -> Answer:
    """The verdict, by `RULE`."""
    noticed = np.isfinite(seen.delays).mean(axis=0) if len(seen.delays) else np.zeros(len(DETECTORS))
    delays = {
        name: delay_interval(
            np.minimum(seen.delays[:, i], seen.horizon).tolist(), np.isinf(seen.delays[:, i]).tolist(), rng,
            horizon=seen.horizon,
        )
        for i, name in enumerate(DETECTORS)
    }  # fmt: skip
    restricted = np.minimum(seen.delays, seen.horizon)
    graph, probe = DETECTORS.index("graph"), DETECTORS.index("probe")
    ratio = ratio_interval(restricted[:, graph].tolist(), restricted[:, probe].tolist(), rng)
    rise = seen.channels["probe"].rise
    controls = (
        Control(
            name="the degradation costs", ok=rise.low > WEAKEST,
            detail=f"the probes' failure rate rose by {100 * rise.value:.0f} points "
            f"({100 * rise.low:.0f} to {100 * rise.high:.0f})",
        ),
        Control(
            name="the probes notice", ok=bool(noticed[probe] >= ALARMED) and len(seen.delays) >= FEWEST,
            detail=f"{noticed[probe]:.0%} of {len(seen.delays)} episodes within {seen.horizon} cycles",
        ),
        _no_more_than_expected(
            "false alarms", seen.checked, [seen.checked_expected] * len(DETECTORS), seen.checked_cycles
        ),
        _more_traffic(seen),
    )  # fmt: skip
    verdict = _verdict(controls, ratio, float(noticed[graph]))
    return Answer(
        verdict=verdict,
        sentence=_sentence(title, verdict, delays, ratio, seen, controls, dict(zip(DETECTORS, noticed, strict=True))),
        estimate=ratio.value,
        low=ratio.low,
        high=ratio.high if math.isfinite(ratio.high) else None,
        unit="times the probe channel's delay",
        n=len(seen.delays),
        seeds=seeds,
        null={
            "name": f"no change: one false alarm in {seen.arl:.0f} cycles on every channel",
            "value": seen.checked_expected,
            "alarms": dict(zip(DETECTORS, seen.checked, strict=True)),
        },
        rule=RULE,
        would_change=_would_change(verdict, ratio),
        controls=controls,
        figures=_figures(seen, title),
        short=_short(seen, short),
        numbers={
            "delays": {name: _plain(found) for name, found in delays.items()},
            "noticed": dict(zip(DETECTORS, noticed.tolist(), strict=True)),
            "thresholds": dict(zip(DETECTORS, seen.thresholds, strict=True)),
            "arl": seen.arl,
            "predicted_ratio": seen.predicted,
            "channels": {
                name: {
                    "before": _plain(found.before), "after": _plain(found.after), "per_cycle": found.per_cycle,
                    "phi": found.phi, "information": found.information, "floor": found.floor(seen.arl),
                    "observations": found.per_cycle * delays[name].value,
                }
                for name, found in seen.channels.items()
            },
            **seen.numbers,
        },
    )  # fmt: skip


def _verdict(controls: Sequence[Control], ratio: Interval, graph_noticed: float) -> str:
    if not all(control.ok for control in controls[:2]):
        return NOT_IDENTIFIED
    if ratio.high > FACTOR or graph_noticed < GRAPH_ALARMED:
        return EXPLICIT
    return HEALS if all(control.ok for control in controls) else NOT_IDENTIFIED


def _no_more_than_expected(name: str, alarms: Sequence[int], expected: Sequence[float], cycles: int) -> Control:
    """Whether so many alarms are within what the run length allows (Poisson, 5 % over all detectors together)."""
    chance = [float(pdtrc(count - 1, rate)) if count else 1.0 for count, rate in zip(alarms, expected, strict=True)]
    told = ", ".join(f"{detector} {count}" for detector, count in zip(DETECTORS, alarms, strict=True))
    return Control(
        name=name,
        ok=min(chance) > 0.05 / len(DETECTORS),
        detail=f"alarms in {cycles} cycles without degradation: {told}; {max(expected):.1f} of each expected",
    )


def _more_traffic(seen: Seen) -> Control:
    """No more alarms than expected, and timelines drawn from this traffic run nearly as long between two of them.

    Few cycles hold too few alarms to fail by their number alone; `SHORTEST` is what the luck of so few can do.
    """
    counted = _no_more_than_expected("more traffic", seen.busier, seen.expected, seen.busier_cycles)
    wanted = [seen.busier_cycles / rate if rate > 0 else 0.0 for rate in seen.expected]
    short = {
        name: (length, long)
        for name, length, long in zip(DETECTORS, seen.busier_lengths, wanted, strict=True)
        if length < SHORTEST * long
    }
    told = "; ".join(f"{name} runs {length:.0f} cycles of {long:.0f}" for name, (length, long) in short.items())
    return Control(
        name="more traffic", ok=counted.ok and not short, detail=counted.detail + (f"; {told}" if told else "")
    )


# --- words


def _sentence(
    title: str,
    verdict: str,
    delays: Mapping[str, Interval],
    ratio: Interval,
    seen: Seen,
    controls: Sequence[Control],
    noticed: Mapping[str, float],
) -> str:
    if verdict == NOT_IDENTIFIED:
        failed = next(control for control in controls if not control.ok)
        return f"{title}: it cannot be told whether the graph notices a regression ({failed.name}: {failed.detail})."
    graph, probe = delays["graph"], delays["probe"]
    missed = noticed["graph"] < 1  # an episode without an alarm counts as long as it was watched
    told = (
        f"{'at least ' if missed else ''}{_delay(graph)} against {_delay(probe)} cycles, "
        f"{'at least ' if missed else ''}{ratio.value:.2f} times as long"
    )
    limits = f"({ratio.low:.2f} to {ratio.high:.2f})"
    share = f"; it noticed {noticed['graph']:.0%} of the episodes within {seen.horizon} cycles" if missed else ""
    if verdict == HEALS:
        word = "notices a regression"
    elif ratio.low > FACTOR:
        word = "alone is too slow to notice a regression"
    else:
        word = "is not shown to notice a regression soon enough"
    return (
        f"{title}: the memory graph {word}: its channel takes {told} {limits} as explicit probes at one "
        f"false alarm in {seen.arl:.0f} cycles{share}."
    )


def _delay(found: Interval) -> str:
    return f"{found.value:.1f} ({found.low:.1f} to {found.high:.1f})"


def _would_change(verdict: str, ratio: Interval) -> str:
    if verdict == NOT_IDENTIFIED:
        return "a stronger degradation (more examples with a rejected answer), or more probes a cycle"
    if verdict == HEALS:
        return f"a ratio whose upper limit is above {FACTOR:g}: from fewer eligible turns, or a subtler regression"
    if ratio.low <= FACTOR:
        return f"more episodes: the ratio's interval holds {FACTOR:g}, so it may yet turn out below"
    return "more eligible turns a cycle, or a pattern node that surfaces when the behaviour fails and not otherwise"


def _short(seen: Seen, short: Sequence[str]) -> list[str]:
    said = [*short, "one degraded shadow, made from one seed: other regressions may show elsewhere first"]
    if seen.sham < SHAM:
        said.append(f"{seen.sham} cycles without change set the thresholds; the protocol wants {SHAM}")
    if len(seen.delays) < EPISODES:
        said.append(f"{len(seen.delays)} degraded episodes; the protocol wants {EPISODES}")
    return said


# --- figures


def _figures(seen: Seen, title: str) -> list[Mapping[str, Any]]:
    false_alarms = [1000 / arl for arl in seen.trade_off]
    floors = [(1000 / arl, floor) for arl in seen.trade_off if (floor := seen.channels["probe"].floor(arl)) is not None]
    trade_off = {
        "kind": "trade_off",
        "title": f"{title}: delay against false alarms",
        "x_label": "false alarms per 1,000 cycles",
        "y_label": "mean delay of a fresh watch, cycles",
        "series": [
            {"name": name, "x": false_alarms, "y": [delays[i] for delays in seen.trade_off.values()]}
            for i, name in enumerate(DETECTORS)
        ],
        "floor": {"x": [x for x, _ in floors], "y": [y for _, y in floors]} if floors else None,
    }
    if not seen.timeline:
        return [trade_off]
    named = {"kind": "timelines", "title": f"{title}: an episode, e-values by channel", "x_label": "cycles watched"}
    return [trade_off, {**named, **seen.timeline}]


def _plain(found: Interval) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}

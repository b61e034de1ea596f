"""Watches the serving adapter: is it worse than what a rollback would bring back?

A *stream* is a channel and a behaviour: "graph" (the pattern node surfaced in an eligible turn), "signal" (the user's
next message says the behaviour failed), "probe" (a held-out probe failed). Each observation lies in [0, 1], 1 = bad.

The baseline m0 of a stream is the upper limit of its rate under the adapter served before, so an alarm means "worse
than the parent", which is what a rollback mends; an adapter that improved and then fell back halfway raises none. The
95 % limit wants 300 observations; fewer widen it by themselves, and the limit is then taken at 99 %; below
`Settings.least` the stream is not armed, and says so.

Each stream has an e-detector with threshold `arl`. The sum of all streams' values minus the number of all their
observations is a supermartingale while nothing is wrong, so the average number of *observations over all streams
together* to a first false alarm is `arl` or more, however many streams there are. For the same reason a behaviour's
channels may be fused by adding their values up (averaging them on the clock of one channel is the same thing): a
weak word from each of three channels can add up to an alarm, at no cost to that guarantee.

Observations of one conversation come in bursts, which would break it: pass them through `block` first.

The state is plain data, for the store to keep as JSON; every function returns a new one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.statistics import binomial
from policies.statistics.e_detector import EDetector

State = dict[str, Any]
CHANNELS = ("graph", "signal", "probe")
FUSED = "fused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`arl`: observations to a false alarm on average; `wanted` and `least`: baseline observations."""

    arl: float = 1000.0
    wanted: int = 300
    least: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A stream reached the threshold. `channel` is "fused" when a behaviour's channels did together.

    `rate` of `n` observations since the adapter began to serve, against the baseline `m0`, which rests on `baseline_n`.
    """

    channel: str
    behavior: str
    e_value: float
    threshold: float
    rate: float
    n: int
    m0: float
    baseline_n: int

    def __str__(self) -> str:
        few = f", from {self.baseline_n} observations only" if self.baseline_n < Settings().wanted else ""
        return (
            f"{self.behavior} on the {self.channel} channel: {self.rate:.1%} of {self.n} observations, at most "
            f"{self.m0:.1%} was normal{few} (e-value {self.e_value:.3g} >= {self.threshold:g})"
        )


def block(observations: Iterable[tuple[str, float]]) -> list[float]:
    """One observation per conversation: the mean of its own, conversations in order of appearance.

    >>> block([("a", 1.0), ("b", 0.0), ("a", 0.0)])
    [0.5, 0.0]
    """
    groups: dict[str, list[float]] = {}
    for conversation, value in observations:
        groups.setdefault(conversation, []).append(value)
    return [sum(values) / len(values) for values in groups.values()]


def start() -> State:
    """The state before anything was observed."""
    return {"version": 1, "streams": {}}


def calibrate(state: Mapping[str, Any], channel: str, behavior: str, values: Sequence[float]) -> State:
    """Add `values` to the stream's baseline, as measured on the adapter that a rollback would serve.

    Use it when such measurements exist apart from the watch, as the gate's probes of the parent do.
    """
    new = _copy(state)
    _count(_stream(new, channel, behavior)["baseline"], values)
    return new


def observe(
    state: Mapping[str, Any], channel: str, behavior: str, values: Sequence[float], settings: Settings
) -> tuple[State, Crossing | None]:
    """Feed observations of the serving adapter, in order. The crossing is reported as long as the value stays above.

    An unarmed stream only counts them. Raises ValueError for an observation outside [0, 1].
    """
    new = _copy(state)
    stream = _stream(new, channel, behavior)
    _count(stream["current"], values)
    bound = m0(new, channel, behavior, settings)
    if bound is None or not values:
        return new, None
    # m0 is fixed from the first armed observation until the adapter changes, as the detector's guarantee needs
    kept = stream["detector"]
    detector = EDetector.restore(kept) if kept else EDetector(bound, settings.arl)
    peak = 0.0
    for value in values:
        detector = detector.update(value)
        peak = max(peak, detector.value)
    stream["detector"] = detector.state()
    if peak >= detector.arl:
        return new, _crossing(new, channel, behavior, peak, detector)
    return new, _fused(new, behavior, channel, peak)


def m0(state: Mapping[str, Any], channel: str, behavior: str, settings: Settings) -> float | None:
    """The baseline of a stream, within [0.005, 0.995]; None while it is not armed."""
    stream = state["streams"].get(_key(channel, behavior))
    if stream is None:
        return None
    if stream["detector"]:
        return float(stream["detector"]["m0"])
    n, total = stream["baseline"]["n"], stream["baseline"]["sum"]
    if n < settings.least:
        return None
    confidence = 0.95 if n >= settings.wanted else 0.99
    return min(0.995, max(0.005, binomial.upper(min(total, n), n, confidence)))


def values(state: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """The detectors' values now, by (channel, behaviour): for metrics. Streams that are not armed are absent."""
    return {
        (stream["channel"], stream["behavior"]): EDetector.restore(stream["detector"]).value
        for stream in state["streams"].values()
        if stream["detector"]
    }


def unarmed(state: Mapping[str, Any], settings: Settings) -> list[str]:
    """A sentence for every stream that lacks a baseline or has a thin one."""
    said = []
    for stream in state["streams"].values():
        n, name = stream["baseline"]["n"], f"{stream['behavior']} on the {stream['channel']} channel"
        if n < settings.least:
            said.append(f"{name} is not watched yet: {n} of {settings.least} baseline observations")
        elif n < settings.wanted:
            said.append(f"{name} is watched with a wide baseline: {n} of {settings.wanted} observations")
    return said


def promoted(state: Mapping[str, Any], settings: Settings) -> State:
    """A new adapter serves: what was observed under the one before becomes the baseline, and detectors start anew.

    Only where too little was observed to stand alone is it added to the older baseline: the limit is then that of a
    mixture, which errs towards silence.
    """
    new = _copy(state)
    for stream in new["streams"].values():
        base, current = stream["baseline"], stream["current"]
        if current["n"] >= settings.least:
            stream["baseline"] = dict(current)
        else:
            stream["baseline"] = {"n": base["n"] + current["n"], "sum": base["sum"] + current["sum"]}
        _restart(stream)
    return new


def forget(state: Mapping[str, Any], channel: str) -> State:
    """Drop a channel's streams: what they measured is not what will be measured from now on."""
    new = _copy(state)
    new["streams"] = {key: stream for key, stream in new["streams"].items() if stream["channel"] != channel}
    return new


def rolled_back(state: Mapping[str, Any]) -> State:
    """The parent serves again: its baseline stays, what the failed adapter did is forgotten, detectors start anew."""
    new = _copy(state)
    for stream in new["streams"].values():
        _restart(stream)
    return new


def _fused(state: State, behavior: str, channel: str, peak: float) -> Crossing | None:
    """The sum over a behaviour's armed channels: `peak` of the one just observed, the others as they stand."""
    armed = {
        stream["channel"]: EDetector.restore(stream["detector"])
        for stream in state["streams"].values()
        if stream["behavior"] == behavior and stream["detector"]
    }
    together = peak + sum(detector.value for name, detector in armed.items() if name != channel)
    if together < armed[channel].arl:
        return None
    return _crossing(state, channel, behavior, together, armed[channel], name=FUSED)


def _crossing(
    state: State, channel: str, behavior: str, e_value: float, detector: EDetector, name: str | None = None
) -> Crossing:
    stream = state["streams"][_key(channel, behavior)]
    current = stream["current"]
    return Crossing(
        channel=name or channel,
        behavior=behavior,
        e_value=e_value,
        threshold=detector.arl,
        rate=current["sum"] / current["n"],
        n=current["n"],
        m0=detector.m0,
        baseline_n=stream["baseline"]["n"],
    )


def _copy(state: Mapping[str, Any]) -> State:
    return copy.deepcopy(dict(state)) if state else start()


def _stream(state: State, channel: str, behavior: str) -> dict[str, Any]:
    if channel not in CHANNELS:
        raise ValueError(f"there is no channel {channel!r}; the channels are {', '.join(CHANNELS)}")
    empty = {
        "channel": channel,
        "behavior": behavior,
        "baseline": {"n": 0, "sum": 0.0},
        "current": {"n": 0, "sum": 0.0},
        "detector": None,
    }
    stream: dict[str, Any] = state["streams"].setdefault(_key(channel, behavior), empty)
    return stream


def _count(tally: dict[str, Any], values: Sequence[float]) -> None:
    for value in values:
        if not 0 <= value <= 1 or math.isnan(value):
            raise ValueError(f"an observation must lie in [0, 1], not {value}")
    tally["n"] += len(values)
    tally["sum"] += float(sum(values))


def _restart(stream: dict[str, Any]) -> None:
    stream["current"] = {"n": 0, "sum": 0.0}
    stream["detector"] = None


def _key(channel: str, behavior: str) -> str:
    return f"{channel}/{behavior}"

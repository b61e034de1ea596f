"""Question 4: does the memory graph notice a regression?

A *shadow* of the serving adapter is trained on the answers that its behaviour rejects; the served one is never
degraded. Users talk to the healthy and to the degraded shadow as they do in the loop, both are probed, and the three
channels' records are handed to the guard's own detectors, all held to one false-alarm rate.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from daemon.errors import CannotAnswer
from daemon.experiments import shadows
from daemon.experiments.base import Options, advice
from daemon.experiments.bench import Bench, experiment
from daemon.models.base import Generator, Learner
from daemon.probes import channels
from daemon.probes.channels import Recorded, World
from graph.memory import load as load_graph
from graph.surface import Surfacer
from policies.answers import q4, q4_channel, q4_live
from policies.answers.q4_channel import Channel
from policies.behaviors import Pair
from policies.guard import replay, watch
from policies.guard.trial import Trial
from policies.records import Advice, Finding, Measurement, content_id

QUESTION = "q4"
NEEDS = (Generator, Learner)
FEWEST_PAIRS, FEWEST_PROBES = 10, 20
TRAFFIC = {"listening": 0.4, "not_rushing": 0.3, "push_back": 0.15, "general": 0.15}  # the loop's own mix
GRAPH = {"path": "bundled", "format": "auto", "surfaced": 3, "threshold": 0.15}
LOOP_PROBES = 60  # of a cycle of the loop, where the configuration does not say
TOGETHER = 10  # cycles recorded in one cell
EPISODES_TOGETHER, STEP = 5, 2  # episodes and cycles of each in one cell
ARLS = (0.1, 0.25, 0.5, 1.0, 1.5)  # run lengths for delay against false alarms, in the trial's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured. A cycle is `conversations` and `probes`; `sham`, `rated` and `busier` are in cycles.

    `examples` train the healthy shadow where none serves; `horizon` is an episode's length after the change.
    """

    conversations: int
    probes: int
    sham: int
    episodes: int
    horizon: int
    rated: int
    busier: int
    examples: int


QUICK = Sizes(conversations=8, probes=10, sham=60, episodes=10, horizon=10, rated=10, busier=20, examples=60)
FULL = Sizes(conversations=16, probes=20, sham=200, episodes=50, horizon=12, rated=24, busier=60, examples=120)


def run(bench: Bench, options: Options, sizes: Sizes | None = None) -> Finding:
    """Degrade a shadow, record both, replay. Raises CannotAnswer with too few pairs or probes, or no pattern node."""
    sizes = sizes or (FULL if options.full else QUICK)
    world = _world(bench, sizes)
    pairs = _pairs(bench)
    blocks = -(-sizes.sham // TOGETHER) + 2 + -(-sizes.busier // TOGETHER)
    bench.expect(4 + blocks + -(-sizes.episodes // EPISODES_TOGETHER) * sizes.horizon // (2 * STEP))
    healthy = shadows.healthy(bench, pairs[: sizes.examples], options.seed)
    degraded, rise = shadows.degraded(bench, healthy, pairs[::-1], options.seed)
    record = partial(_record, bench, world, options.seed)
    sham = record(healthy, "healthy cycles", sizes.sham)
    rated = record(degraded, "degraded cycles", sizes.rated)
    rates = _rates(sham, rated)
    predicted = bench.cell(  # written down before any episode exists
        "prediction", [healthy.name, degraded.name, repr(sizes), options.seed],
        lambda: q4_channel.predicted_ratio(rates["graph"], rates["probe"]),
    )  # fmt: skip
    busier = _record(bench, world.busier(), options.seed, healthy, "more traffic", sizes.busier)
    slots = max(sizes.probes, world.busier().conversations)
    trial, held = _trials(bench, sham, slots, options.seed)
    episodes = _episodes(sizes, trial, partial(record, degraded))
    # the later cycles of an episode are there only because the first ones raised no alarm
    changed = [*rated, *(cycle for cycles in episodes for cycle in cycles[:STEP])]
    seen = _seen(
        trial, held, _rates(sham, changed), episodes, changed, busier, horizon=sizes.horizon, guard=_guard_arl(bench)
    )
    answer = q4.answer(
        replace(seen, predicted=predicted, numbers={**seen.numbers, "shadow": {"before": rise[0], "after": rise[1]},
                               "cycle": {"conversations": sizes.conversations, "probes": sizes.probes}}),
        title=bench.behavior.title,
        seeds=[options.seed],
        rng=np.random.default_rng(options.seed),
        short=_short(bench, world, sizes, sham, held),
    )  # fmt: skip
    return bench.finding(QUESTION, options.size, answer)


def advise(finding: Finding) -> tuple[Advice, ...]:
    """Which channels the guard should watch. Nothing where no regression could be looked for."""
    numbers = finding.evidence["numbers"]
    if finding.verdict == q4.HEALS:
        return (
            advice(
                finding, "guard.channels", ["graph", "signal"],
                f"for {finding.behavior} the graph notices a regression within {finding.high or 0:.2f} times the "
                "probes' delay, so a cycle can do without them",
            ),
        )  # fmt: skip
    if finding.verdict != q4.EXPLICIT:
        return ()
    useful = [name for name in watch.CHANNELS if name == "probe" or numbers["noticed"][name] >= 0.5]
    return (
        advice(
            finding, "guard.channels", useful,
            f"for {finding.behavior} the graph takes {finding.estimate or 0:.1f} times as long as explicit probes (at "
            f"least {finding.low or 0:.1f}), so these are needed; a channel that missed half of the regressions is not",
        ),
    )  # fmt: skip


# --- recording and replaying


def _record(
    bench: Bench, world: World, seed: int, adapter: Path, name: str, count: int, *, place: int = 0
) -> list[Recorded]:
    """`count` cycles of an adapter, a few to a cell; `place` tells records of one name apart."""
    found: list[Recorded] = []
    for start in range(0, count, TOGETHER):
        some = min(TOGETHER, count - start)
        key = [adapter.name, seed, place, start, some, world.key()]

        def compute(some: int = some, key: list[Any] = key) -> list[Recorded]:
            bench.model.use(adapter)
            sampling = replace(bench.sampling, seed=int(content_id("q4", name, key)[:7], 16))
            return channels.record(bench.model, world, some, sampling, bench.tick(name))

        found += bench.cell(name, key, compute)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """False alarms in healthy cycles: per detector, in `cycles`, `expected` of each.

    `apart`: these cycles set no threshold, so that they can show that one is too low.
    """

    alarms: Sequence[int]
    cycles: int
    expected: float
    apart: bool


def _trials(bench: Bench, sham: Sequence[Recorded], slots: int, seed: int) -> tuple[Trial, Held]:
    """The trial on all healthy cycles; and, as a check, the second half of them under the first half's thresholds.

    Where half of them give no baseline the check is on the same cycles.
    """
    healthy, half = channels.blocked(sham), len(sham) // 2
    try:
        trial = Trial(healthy, slots, seed)
    except ValueError as unarmed:
        name = bench.behavior.name
        raise CannotAnswer(
            f"{name}: {len(sham)} cycles gave the {unarmed} channel fewer than the {watch.Settings().least} "
            f"observations that a baseline needs; are the users' turns eligible? See `eligible` in {name}.toml"
        ) from None
    with contextlib.suppress(ValueError):
        first, rest = Trial(healthy[:half], slots, seed), healthy[half:]
        return trial, Held(alarms=first.alarms(rest), cycles=len(rest), expected=len(rest) / first.arl, apart=True)
    return trial, Held(alarms=trial.alarms(), cycles=len(sham), expected=len(sham) / trial.arl, apart=False)


def _episodes(sizes: Sizes, trial: Trial, record: Callable[..., list[Recorded]]) -> list[list[Recorded]]:
    """Degraded cycles of every episode, until all detectors have alarmed in it or the horizon is reached."""
    episodes: list[list[Recorded]] = [[] for _ in range(sizes.episodes)]
    pending = list(range(sizes.episodes))
    for start in range(0, sizes.horizon, STEP):
        length = min(STEP, sizes.horizon - start)
        for first in range(0, len(pending), EPISODES_TOGETHER):
            some = pending[first : first + EPISODES_TOGETHER]
            cycles = record("episodes", len(some) * length, place=1 + start * sizes.episodes + some[0])
            for place, episode in enumerate(some):
                episodes[episode] += cycles[place * length : (place + 1) * length]
        delays = trial.delays([channels.blocked(cycles) for cycles in episodes])
        pending = [episode for episode in pending if not np.isfinite(delays[episode]).all()]
    return episodes


def _rates(sham: Sequence[Recorded], changed: Sequence[Recorded]) -> dict[str, Channel]:
    return {
        name: q4_channel.channel(channels.clusters(sham, name), channels.clusters(changed, name), len(sham))
        for name in watch.CHANNELS
    }


def _seen(
    trial: Trial,
    held: Held,
    rates: Mapping[str, Channel],
    episodes: Sequence[Sequence[Recorded]],
    changed: Sequence[Recorded],
    busier: Sequence[Recorded],
    *,
    horizon: int,
    guard: float,
) -> q4.Seen:
    """Everything replayed: the episodes themselves, and drawn ones for delay against false alarms."""
    blocked = [channels.blocked(cycles) for cycles in episodes]
    many, degraded = channels.blocked(busier), channels.blocked(changed)
    delays = trial.delays(blocked)
    arls = [trial.arl * factor for factor in ARLS if trial.arl * factor >= 2]
    drawn = {arl: trial.drawn(degraded, trial.at(arl)) for arl in arls}
    own = np.array([guard] * len(watch.CHANNELS) + [guard / len(watch.CHANNELS)])  # the guard adds up, replay averages
    times = [
        sum(len(cycle[name]) for cycle in many) / max(1.0, len(many) * channel.per_cycle)
        for name, channel in rates.items()
    ]
    median = int(np.argsort(delays[:, replay.DETECTORS.index("probe")])[len(delays) // 2])
    return q4.Seen(
        channels=rates,
        delays=delays,
        horizon=horizon,
        arl=trial.arl,
        thresholds=trial.thresholds.tolist(),
        sham=len(trial.healthy),
        checked=held.alarms,
        checked_cycles=held.cycles,
        checked_expected=held.expected,
        busier=trial.alarms(many),
        busier_cycles=len(many),
        expected=[len(many) / trial.arl * max(1.0, more) for more in [*times, max(times)]],
        busier_lengths=trial.run_lengths(many),
        trade_off=drawn,
        timeline=trial.timeline(blocked, median),
        numbers={
            "m0": trial.m0,
            "episodes": delays.tolist(),
            "drawn": dict(zip(replay.DETECTORS, drawn[trial.arl], strict=True)),
            "guard": {
                "arl": guard,
                "delays": dict(zip(replay.DETECTORS, trial.drawn(degraded, own), strict=True)),
                "false_alarms": dict(zip(replay.DETECTORS, trial.alarms(thresholds=own), strict=True)),
            },
        },
    )


# --- material


def _world(bench: Bench, sizes: Sizes) -> World:
    """Traffic as the loop makes it, read with the loop's graph, which is held fixed."""
    name, graph = bench.behavior.name, {**GRAPH, **bench.records.get("graph", {})}
    memory = load_graph(graph["path"], graph["format"])
    if bench.behavior.graph_key not in memory:
        raise CannotAnswer(
            f"the memory graph {graph['path']} has no node {bench.behavior.graph_key!r}, so the graph channel of "
            f"{name} can see nothing; add the node, or mend `graph_key` in {name}.toml"
        )
    probes = bench.behavior.select(split="rotating", kind="target")
    if len(probes) < FEWEST_PROBES:
        raise CannotAnswer(
            f"{name}.toml has {len(probes)} rotating target probes; question 4 needs at least {FEWEST_PROBES} (and "
            f"{shadows.CHECKS} to measure a shadow well): add more to its `probes`"
        )
    simulated = bench.records.get("nano", True) and name in TRAFFIC
    return World(
        behavior=bench.behavior,
        judge=bench.judge(),
        surfacer=Surfacer(memory),
        surfaced=graph["surfaced"],
        threshold=graph["threshold"],
        mix=TRAFFIC if simulated else None,
        conversations=sizes.conversations,
        probes=sizes.probes,
    )


def _pairs(bench: Bench) -> list[Pair]:
    """The behaviour's pairs, shuffled: the first ones teach it, from the last one on they teach its opposite."""
    pairs = [p for p in bench.behavior.pairs if p.kind == "target" and p.preferred and p.rejected]
    if len(pairs) < FEWEST_PAIRS:
        raise CannotAnswer(
            f"{bench.behavior.name}.toml has {len(pairs)} target examples with a preferred and a rejected answer; "
            f"question 4 needs at least {FEWEST_PAIRS} to degrade a shadow: add more to its `examples`"
        )
    return random.Random("q4 pairs").sample(pairs, len(pairs))


def _guard_arl(bench: Bench) -> float:
    return float(bench.records.get("guard", {}).get("arl", 100_000.0))


def _short(bench: Bench, world: World, sizes: Sizes, sham: Sequence[Recorded], held: Held) -> list[str]:
    said = [] if held.apart else ["false alarms were counted in the cycles that set the thresholds: there are too few"]
    wanted, blocked = watch.Settings().wanted, channels.blocked(sham)
    counts = {name: sum(len(cycle[name]) for cycle in blocked) for name in watch.CHANNELS}
    if few := [f"{name} {count}" for name, count in counts.items() if count < wanted]:
        said.append(f"baselines want {wanted} observations and rest on fewer: {', '.join(few)}; the limits are wide")
    configured = bench.records.get("config", {}).get("guard", {}).get("probes", LOOP_PROBES)
    if sizes.probes != configured:
        said.append(
            f"a cycle here is {sizes.conversations} conversations and {sizes.probes} probes, "
            f"{sizes.probes / configured:.2f} of the loop's: multiply delays by that for cycles of the loop"
        )
    if world.mix is None:
        said.append(
            "no simulated user speaks to this model: held-out probes were asked in their place and the judge said what "
            "a user would have said, so the graph channel read no reactions"
        )
    return said


# --- beside the loop


def live(bench: Bench, history: Sequence[Measurement]) -> Finding | None:
    """What the guard watched since this adapter serves, and every alarm on record; None when it watched nothing."""
    found = q4_live.observed(
        bench.behavior.name,
        bench.behavior.title,
        bench.records.get("guard") or {},
        bench.records.get("verdicts") or [],
    )
    return bench.finding(QUESTION, "live", found) if found is not None else None


RUNNERS = {"q4_graph_regression.run": experiment(__name__)}

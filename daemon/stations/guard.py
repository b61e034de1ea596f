"""Guard: watch the serving adapter on three channels, raise an alarm, and roll back to the parent.

The channels: *graph* (the behaviour's pattern node surfaced in an eligible turn), *signal* (the user's next message
says it failed), *probe* (a held-out probe failed). Each stream's e-detector asks whether the serving adapter is worse
than what a rollback would bring back; see `policies.guard.watch`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, ClassVar

from daemon import behaviors as behavior_files
from daemon.events import Job, JobFinished, Result, Stage
from daemon.executors.base import Context
from daemon.judges.base import load as load_judge
from daemon.models import vectors
from daemon.models.base import Sampling, folder
from daemon.probes import behavior as behavior_probe
from daemon.stations.base import Plan, View, folder_of
from policies.guard import watch
from policies.records import Adapter, Alarm, Measurement, Signal, Surfacing, Turn, content_id

FACT = "guard"  # under which the watch's state is remembered


class Guard:
    """The guarding station."""

    name: ClassVar[Stage] = "guard"

    def plan(self, view: View) -> Plan:
        """Probe the serving adapter with a few probes, chosen anew each cycle."""
        state = _current(view)
        if "probe" not in view.config.guard.channels:
            return self._look(view, state, {})
        chosen = {}
        for name, behavior in view.behaviors.items():
            targets = behavior.select(split="rotating", kind="target")
            rng = view.rng("guard", name)
            chosen[name] = [p.id for p in rng.sample(targets, min(len(targets), view.config.guard.probes))]
        job = Job.make(
            "guard.probe",
            lane="serve",
            cycle=view.cycle,
            chosen=chosen,
            adapter=view.serving,
            adapter_folder=folder_of(view, view.serving),
            steering=vectors.files(view.config.state, view.config.serve.steering),
            temperature=view.config.serve.temperature,
            max_tokens=view.config.model.max_tokens,
            seed=view.rng("guard").randrange(2**31),
        )
        return Plan(jobs=(job,), facts={FACT: state})

    def absorb(self, done: JobFinished, view: View) -> Plan:
        """All channels see what is new; an alarm on any of them rolls back, where that is configured."""
        probed, steering = done.job.payload, vectors.files(view.config.state, view.config.serve.steering)
        if (probed["adapter"], list(probed["steering"])) != (view.serving, steering):
            return Plan()  # another adapter, or steering, was chosen meanwhile: this says nothing about what serves now
        return self._look(view, _current(view), done.result.notes["failed"])

    def heard(self, view: View) -> Plan:
        """Signals came in from the logs: the channels that need no model look at once, in a cycle or not."""
        return self._look(view, _current(view), {})

    def _look(self, view: View, state: dict[str, Any], probed: Mapping[str, list[float]]) -> Plan:
        config = view.config.guard
        settings = watch.Settings(arl=config.arl)
        seen, streams = _streams(view, view.serving, state)
        streams |= {("probe", name): failed for name, failed in probed.items()}
        observed, crossings = _feed(state["watch"], streams, config.channels, settings)
        known = set(state["alarmed"])
        new = [crossing for crossing in crossings if f"{crossing.channel}/{crossing.behavior}" not in known]
        alarms = tuple(
            Alarm(
                id=content_id("alarm", crossing.channel, crossing.behavior, view.serving, state["since"]),
                channel=crossing.channel,
                behavior=crossing.behavior,
                adapter=view.serving,
                e_value=crossing.e_value,
                threshold=crossing.threshold,
                cycle=view.cycle,
                at=view.now,
            )
            for crossing in new
        )
        told: list[Mapping[str, Any]] = [
            {"event": "alarm", "channel": a.channel, "behavior": a.behavior, "adapter": a.adapter, "e_value": a.e_value,
             "threshold": a.threshold, "why": str(crossing)}
            for a, crossing in zip(alarms, new, strict=True)
        ]  # fmt: skip
        told.append(
            {
                "event": "guarded",
                "values": [[channel, name, e] for (channel, name), e in watch.values(observed).items()],
                "threshold": config.arl,
                "unarmed": watch.unarmed(observed, settings),
            }
        )
        alarmed = sorted(known | {f"{crossing.channel}/{crossing.behavior}" for crossing in new})
        return Plan(
            records=alarms,
            roll_back=str(new[0]) if new and config.rollback and view.serving is not None else "",
            facts={FACT: {**state, "seen": seen, "watch": observed, "alarmed": alarmed}},
            happenings=tuple(told),
            note="; ".join(map(str, new)) or _quiet(observed),
        )


def _quiet(observed: watch.State) -> str:
    values = watch.values(observed)
    if not values:
        return "nothing to compare with yet: no adapter was promoted"
    (channel, behavior), highest = max(values.items(), key=lambda row: row[1])
    return f"quiet; highest e-value {highest:.3g} ({behavior} on the {channel} channel)"


def _feed(
    observed: watch.State,
    streams: Mapping[tuple[str, str], list[float]],
    channels: Collection[str],
    settings: watch.Settings,
) -> tuple[watch.State, list[watch.Crossing]]:
    """Observe every stream of the configured channels; which of them are above the threshold?"""
    crossings = []
    for (channel, behavior), values in streams.items():
        if channel in channels:
            observed, crossing = watch.observe(observed, channel, behavior, values, settings)
            if crossing is not None:
                crossings.append(crossing)
    return observed, crossings


def _current(view: View) -> dict[str, Any]:
    """The watch's state, brought up to date with who serves, how that is steered, and the graph that surfaces."""
    fingerprint = view.memory.fingerprint()
    steering = list(view.config.serve.steering)
    start: dict[str, Any] = {
        "adapter": None,
        "since": 0.0,
        "seen": 0,
        "alarmed": [],
        "graph": fingerprint,
        "steering": steering,
        "watch": watch.start(),
    }
    kept = {**start, "steering": [], **(view.store.fact(FACT) or {})}
    if kept["graph"] != fingerprint:  # another graph surfaces other nodes: its old rates say nothing
        kept = {**kept, "graph": fingerprint, "watch": watch.forget(kept["watch"], "graph")}
    if kept["steering"] != steering:  # no rollback undoes that: what was seen before is nothing to compare with
        afresh = _calibrated(view, watch.start(), view.serving)
        return {**start, "adapter": view.serving, "since": view.now, "watch": afresh}
    if kept["adapter"] == view.serving:
        return kept
    since = view.store.fact("serving_since") or 0.0
    return {**start, "adapter": view.serving, "since": since, "watch": _handed_over(view, kept, since)}


def _handed_over(view: View, kept: Mapping[str, Any], since: float) -> watch.State:
    """The watch's state when another adapter has come to serve: its baseline is what a rollback would bring back."""
    settings = watch.Settings(arl=view.config.guard.arl)
    gone = kept["adapter"]
    left = view.store.get(Adapter, gone) if gone else None
    taken_back = left is not None and view.store.adapter_states().get(left.id) == "rolled_back"
    if left is not None and taken_back and left.parent == view.serving:
        return watch.rolled_back(kept["watch"])
    record = view.store.get(Adapter, view.serving) if view.serving else None
    parent = record.parent if record else None
    if parent == gone and not taken_back:  # what it did last, and was not looked at yet, belongs to its baseline
        _, streams = _streams(view, gone, kept, until=since)
        observed, _ = _feed(kept["watch"], streams, view.config.guard.channels, settings)
        state = watch.promoted(observed, settings)
    else:  # an operator's choice: what served before it is not what a rollback would bring back
        state = watch.start()
    return _calibrated(view, state, view.serving)


def _calibrated(view: View, state: watch.State, adapter: str | None) -> watch.State:
    """The gate measured the adapter's parent on the same kind of probe, unsteered: no baseline for what is steered."""
    if view.config.serve.steering:
        return state
    record = view.store.get(Adapter, adapter) if adapter else None
    parent = record.parent if record else None
    for name in view.behaviors:
        rows = view.store.find(
            Measurement, adapter=parent, probe="behavior", behavior=name, kind="target", split="rotating",
            descending=True, limit=1,
        )  # fmt: skip
        if rows:
            state = watch.calibrate(state, "probe", name, [1 - value for value in rows[0].values])
    return state


def _streams(
    view: View, adapter: str | None, state: Mapping[str, Any], *, until: float | None = None
) -> tuple[int, dict[tuple[str, str], list[float]]]:
    """New observations of the signal and graph channels, one per conversation; and how many signals are now seen.

    Logs that do not say who answered count for whoever served when they were written.
    """
    rows = view.store.find(Signal, order_by="seq", since=state["since"], adapter=[adapter, None])
    heard = [signal for signal in rows if until is None or signal.at < until]
    fresh = heard[state["seen"] :]
    turns = {turn.id: turn for turn in view.store.find(Turn, id=[s.turn for s in fresh])} if fresh else {}
    streams: dict[tuple[str, str], list[float]] = {}
    for name, behavior in view.behaviors.items():
        mine = [signal for signal in fresh if signal.behavior == name]
        if not mine:
            continue
        surfaced = {s.turn for s in view.store.find(Surfacing, node=behavior.graph_key, turn=[s.turn for s in mine])}
        talk = [turns[signal.turn].conversation for signal in mine]
        streams["signal", name] = watch.block(zip(talk, (float(s.failed) for s in mine), strict=True))
        streams["graph", name] = watch.block(zip(talk, (float(s.turn in surfaced) for s in mine), strict=True))
    return len(heard), streams


# --- in the worker


def probe(payload: dict[str, Any], context: Context) -> Result:
    """Answer the chosen probes with the serving adapter; notes give 1.0 for each that failed, by behaviour."""
    context.served.use(folder(payload["adapter_folder"]))
    files = {file.stem: file for file in context.spec.behaviors}
    sampling = Sampling(temperature=payload["temperature"], max_tokens=payload["max_tokens"], seed=payload["seed"])
    failed = {}
    for name, chosen in payload["chosen"].items():
        behavior = behavior_files.read(files[name])
        wanted = set(chosen)
        values = behavior_probe.measure(
            context.served,
            [p for p in behavior.probes if p.id in wanted],
            load_judge(behavior.judge, model=context.served, behaviors={name: behavior}),
            name,
            samples=1,
            sampling=sampling,
            answering=vectors.applied(context.served, payload["steering"]),
            checkpoint=partial(context.checkpoint, note=f"probing {name}"),
        )
        failed[name] = [1 - value for value in values]
    return Result(notes={"failed": failed})


RUNNERS = {"guard.probe": probe}

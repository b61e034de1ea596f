"""What the guard saw of a behaviour while the loop ran: no degradation was made, so nothing is concluded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policies.answers.base import Answer, Control
from policies.guard.replay import DETECTORS


def observed(name: str, title: str, guard: Mapping[str, Any], verdicts: Sequence[Mapping[str, Any]]) -> Answer | None:
    """What the guard watched of a behaviour, from its state, its alarms and the gate's verdicts; None: nothing."""
    streams = [s for s in ((guard.get("watch") or {}).get("streams") or {}).values() if s["behavior"] == name]
    watched = {s["channel"]: s for s in streams if s["current"]["n"] > 0}
    raised = [alarm for alarm in guard.get("alarms") or [] if alarm["behavior"] == name]
    if not watched and not raised:
        return None
    counts = {channel: sum(alarm["channel"] == channel for alarm in raised) for channel in DETECTORS}
    seen = ", ".join(
        f"{channel} {s['current']['sum'] / s['current']['n']:.0%} of {s['current']['n']}"
        for channel, s in watched.items()
    )
    told = ", ".join(f"{channel} {count}" for channel, count in counts.items() if count)
    cycles = sorted({row["cycle"] for row in [*verdicts, *raised]})
    figure = {
        "kind": "over_time", "title": f"{title}: alarms so far", "x_label": "cycle", "y_label": "alarms",
        "x": cycles,
        "series": [
            {"name": channel, "values": [
                sum(a["channel"] == channel and a["cycle"] <= cycle for a in raised) for cycle in cycles
            ]}
            for channel in DETECTORS
        ],
    }  # fmt: skip
    armed = [channel for channel, s in watched.items() if s["detector"]]
    return Answer(
        verdict="observed",
        sentence=f"{title}: the guard has seen failures in {seen or 'nothing'} observations since this adapter serves; "
        f"alarms so far: {told or 'none'}.",
        estimate=float(len(raised)),
        low=None,
        high=None,
        unit="alarms",
        n=int(sum(s["current"]["n"] for s in watched.values())),
        seeds=(),
        null={"name": "no change: observations of all streams to a false alarm, at least", "value": guard.get("arl")},
        rule="what the guard saw; no degradation was made, so no verdict on how soon it would be noticed",
        would_change="`dreamctl ask q4 --full` degrades a shadow and measures the delays",
        controls=[Control(name="armed", ok=bool(armed), detail=f"watched: {', '.join(armed) or 'no channel yet'}")],
        figures=[figure] if cycles else [],
        short=["the true time of a regression is not known here"],
        numbers={
            "alarms": counts,
            "promoted": sum(row["decision"] == "promote" for row in verdicts),
            "channels": {channel: {"n": s["current"]["n"], "rate": s["current"]["sum"] / s["current"]["n"]}
                         for channel, s in watched.items()},
        },
    )  # fmt: skip

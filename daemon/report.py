"""The report on sealed probes: base and serving adapter side by side, with intervals, and the adapters' history."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from daemon.store.store import Store
from policies.behaviors import Behavior
from policies.records import BANDS, Adapter, Measurement, Verdict
from policies.statistics.noninferiority import noninferiority
from policies.statistics.wilson import wilson

SEALED = "sealed"


def build(store: Store, behaviors: Mapping[str, Behavior], *, general_delta: float) -> dict[str, Any]:
    """The report as plain data. A side that was not measured yet is null."""
    serving = store.serving()
    sides = {"base": None, "serving": serving}
    cycles = store.cycles()
    return {
        "serving": serving,
        "cycles": sum(cycle.state == "done" for cycle in cycles),
        "seconds": round(sum((c.finished or c.started) - c.started for c in cycles), 1),
        "behaviors": {name: _behavior(store, behavior, sides) for name, behavior in behaviors.items()},
        "general": _general(store, sides, general_delta),
        "adapters": adapters(store),
        "counts": counts(store),
        "note": "failure rates on sealed probes that no policy sees, answers sampled as served; 95 % intervals",
    }


def _latest(store: Store, adapter: str | None, **where: Any) -> Measurement | None:
    found = store.find(Measurement, split=SEALED, adapter=adapter, descending=True, limit=1, **where)
    return found[0] if found else None


def _behavior(store: Store, behavior: Behavior, sides: Mapping[str, str | None]) -> dict[str, Any]:
    band = {probe.id: probe.band for probe in behavior.probes}
    told: dict[str, Any] = {}
    measured = {
        (side, kind): _latest(store, adapter, behavior=behavior.name, kind=kind)
        for side, adapter in sides.items()
        for kind in ("target", "counter")
    }
    for side in sides:
        target, counter = measured[side, "target"], measured[side, "counter"]
        told[side] = None
        if target is not None:
            told[side] = failures(target.values)
            told[side]["bands"] = {
                name: failures(v for i, v in zip(target.items, target.values, strict=True) if band.get(i) == name)
                for name in BANDS
            }
            told[side]["counter"] = failures(counter.values) if counter is not None else None
    for kind, key in (("target", "change"), ("counter", "counter_change")):
        told[key] = change(measured["base", kind], measured["serving", kind], behavior.delta)
    return told


def _general(store: Store, sides: Mapping[str, str | None], delta: float) -> dict[str, Any]:
    """All families together, and each by itself under "families"."""
    measured = {side: _families(store, adapter) for side, adapter in sides.items()}
    told: dict[str, Any] = {}
    for side, families in measured.items():
        told[side] = None
        if families:
            told[side] = failures(value for m in families.values() for value in m.values)
            told[side]["families"] = {family: failures(m.values) for family, m in sorted(families.items())}
    pooled = {
        side: {item: v for m in families.values() for item, v in zip(m.items, m.values, strict=True)}
        for side, families in measured.items()
    }
    told["change"] = _paired(pooled["base"], pooled["serving"], delta)
    return told


def _families(store: Store, adapter: str | None) -> dict[str, Measurement]:
    """The newest sealed measurement of each family (its name is the measurement's kind)."""
    return {m.kind: m for m in store.find(Measurement, split=SEALED, adapter=adapter, probe="general")}


def failures(values: Iterable[float]) -> dict[str, Any]:
    """Failures among probe results in [0, 1] (1 = passed), with Wilson's interval."""
    results = list(values)
    failed = round(sum(1 - value for value in results))
    interval = wilson(failed, len(results))
    return {
        "failures": failed,
        "n": len(results),
        "rate": round(interval.value, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
    }


def change(before: Measurement | None, after: Measurement | None, delta: float) -> dict[str, Any] | None:
    """Paired change of the pass rate (positive is better) and whether it is non-inferior at `delta`."""
    if before is None or after is None:
        return None
    return _paired(
        dict(zip(before.items, before.values, strict=True)), dict(zip(after.items, after.values, strict=True)), delta
    )


def _paired(before: Mapping[str, float], after: Mapping[str, float], delta: float) -> dict[str, Any] | None:
    shared = [item for item in before if item in after]
    if not shared:
        return None
    result = noninferiority([before[item] for item in shared], [after[item] for item in shared], delta=delta)
    return {
        "pass_rate_change": round(result.change.value, 4),
        "low": round(result.change.low, 4),
        "high": round(result.change.high, 4),
        "standing": result.standing,
        "delta": delta,
        "n": len(shared),
    }


def adapters(store: Store) -> list[dict[str, Any]]:
    """Every adapter, oldest first, with its state, verdict and reasons."""
    verdicts = {verdict.adapter: verdict for verdict in store.find(Verdict)}
    states = store.adapter_states()
    return [
        {
            "id": adapter.id,
            "parent": adapter.parent,
            "state": states.get(adapter.id, "trained"),
            "verdict": verdicts[adapter.id].decision if adapter.id in verdicts else None,
            "reasons": list(verdicts[adapter.id].reasons) if adapter.id in verdicts else [],
            "cycle": adapter.cycle,
            "at": adapter.at,
            "judged_at": verdicts[adapter.id].at if adapter.id in verdicts else None,
            "loss": adapter.loss,
        }
        for adapter in store.find(Adapter)
    ]


def counts(store: Store) -> dict[str, int]:
    """How much there is of everything."""
    from policies.records import Alarm, Dream, Example, Message, Outcome, Signal, Surfacing, Turn

    kinds = (Message, Turn, Signal, Surfacing, Dream, Outcome, Example, Adapter, Verdict, Alarm)
    return {f"{kind.__name__.lower()}s": store.count(kind) for kind in kinds}


def save(report: Mapping[str, Any], file: Path) -> None:
    """Write the report (or the answers) whole or not at all, for `dreamctl report` when no daemon runs."""
    temporary = file.with_suffix(".part")
    with temporary.open("w", encoding="utf-8") as out:
        json.dump(report, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)

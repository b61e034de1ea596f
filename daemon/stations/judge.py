"""Judge: measure a candidate and its parent on the same probes, attest that it is served as it was trained, decide.

Two jobs, one after the other. `judge.measure` runs on the training side; `judge.attest` runs on the serving side,
which loads the adapter from its folder as any request would, so a layer that serving silently drops shows up here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

from daemon import behaviors as behavior_files
from daemon.events import Job, JobFinished, Result, Stage
from daemon.executors.base import Context
from daemon.judges.base import load as load_judge
from daemon.models.base import Sampling
from daemon.probes import behavior as behavior_probe
from daemon.probes import divergence, general, parity
from daemon.stations.base import NOTHING, Move, Plan, View, folder_of
from policies.behaviors import Behavior
from policies.judge.comparison import Pair
from policies.judge.gate import BehaviorEvidence, Evidence, GateSettings, decide
from policies.records import Adapter, Kind, Measurement, Verdict, content_id

ROTATING = "rotating"


class Judge:
    """The judging station."""

    name: ClassVar[Stage] = "judge"

    def plan(self, view: View) -> Plan:
        """Measure the newest adapter that was not judged yet, and its parent unless that is known already."""
        candidate = self._candidate(view)
        if candidate is None:
            return NOTHING
        who: list[str | None] = [candidate.id]
        for other in (candidate.parent, None):  # the base is the anchor against decline in small steps
            if other not in who and not self._measured(view, other):
                who.append(other)
        return Plan(jobs=(measuring(view, who, split=ROTATING, key=candidate.id),))

    def absorb(self, done: JobFinished, view: View) -> Plan:
        """After measuring attest, after attesting decide."""
        if done.job.kind == "judge.measure":
            candidate = self._candidate(view)
            if candidate is None:
                return Plan(records=done.result.records)
            attest = Job.make(
                "judge.attest",
                lane="serve",
                cycle=view.cycle,
                key=candidate.id,
                adapter=candidate.id,
                adapter_folder=folder_of(view, candidate.id),
                parity=parity.fixed_pairs(view.behaviors.values()),
            )
            return Plan(records=done.result.records, jobs=(attest,))
        return self._decide(done, view)

    def _candidate(self, view: View) -> Adapter | None:
        waiting = [id for id, state in view.store.adapter_states().items() if state == "trained"]
        return view.store.get(Adapter, waiting[-1]) if waiting else None

    def _measured(self, view: View, adapter: str | None) -> bool:
        return view.store.count(Measurement, adapter=adapter, split=ROTATING, probe="general") > 0

    def _decide(self, done: JobFinished, view: View) -> Plan:
        candidate = view.store.get(Adapter, done.job.payload["adapter"])
        assert candidate is not None
        as_trained = view.store.fact(f"parity/{candidate.id}")
        apart = parity.difference(as_trained, done.result.notes["parity"]) if as_trained else None
        settings = view.config.judge
        shown = evidence(view, candidate, apart)
        ruling = decide(
            shown,
            GateSettings(
                alpha=settings.alpha,
                general_delta=settings.general_delta,
                max_kl=settings.max_kl,
                parity_tolerance=settings.parity_tolerance,
            ),
        )
        decision, reasons = ruling.decision, ruling.reasons
        if decision == "promote" and candidate.parent != view.serving:
            decision = "hold"  # an operator changed the serving adapter while this one was in the making
            reasons = (f"its parent {candidate.parent or 'base'} does not serve any more", *reasons)
        verdict = Verdict(
            id=content_id("verdict", candidate.id),
            adapter=candidate.id,
            parent=candidate.parent,
            decision=decision,
            reasons=reasons,
            evidence=dict(ruling.numbers),
            cycle=view.cycle,
            at=view.now,
        )
        why = reasons[0]
        moves = [Move(adapter=candidate.id, after="judged", why=why)]
        moves.append(Move(adapter=candidate.id, after=_AFTER[decision], why=why))
        rates = {name: 1 - b.target.candidate.value for name, b in shown.trained.items() if b.target is not None}
        return Plan(
            records=(verdict,),
            moves=tuple(moves),
            happenings=(
                {
                    "event": "verdict",
                    "adapter": candidate.id,
                    "decision": decision,
                    "reasons": list(reasons),
                    "failure": rates,
                },
            ),
        )


_AFTER = {"promote": "serving", "hold": "held", "reject": "rejected"}


def measuring(view: View, who: Iterable[str | None], *, split: str, key: object) -> Job:
    """The job that measures adapters (None is the base) on every behaviour, general skill and, for candidates, KL."""
    return Job.make(
        "judge.measure",
        lane="train",
        cycle=view.cycle,
        key=[split, key],
        split=split,
        who=[[adapter, folder_of(view, adapter)] for adapter in who],
        behaviors=list(view.behaviors),
        limit=view.config.judge.probes if split == ROTATING else None,
        canaries=view.config.judge.canaries if split == ROTATING else 0,
        samples=view.config.judge.samples if split == ROTATING else 1,
        temperature=view.config.serve.temperature,
        max_tokens=view.config.model.max_tokens,
        seed=view.config.daemon.seed,
        now=view.now,
    )


def evidence(view: View, candidate: Adapter, apart: float | None) -> Evidence:
    """What the gate looks at, from the newest measurements of candidate, parent and base on rotating probes."""
    rows = view.store.find(Measurement, adapter=[candidate.id, candidate.parent, None], split=[ROTATING, "canary"])
    latest = {(m.adapter, m.probe, m.behavior, m.kind): m for m in rows}

    def pair(probe: str, behavior: str, kind: str) -> Pair | None:
        parent = latest.get((candidate.parent, probe, behavior, kind))
        mine = latest.get((candidate.id, probe, behavior, kind))
        if parent is None or mine is None:
            return None
        return Pair(parent=parent, candidate=mine, anchor=latest.get((None, probe, behavior, kind)))

    def found(behavior: Behavior) -> BehaviorEvidence:
        return BehaviorEvidence(
            target=pair("behavior", behavior.name, "target"),
            counter=pair("behavior", behavior.name, "counter"),
            delta=behavior.delta,
        )

    trained = {name: found(view.behaviors[name]) for name in view.config.behaviors.train}
    guarded = {name: found(view.behaviors[name]) for name in view.config.behaviors.guard}
    families = {kind for adapter, probe, _, kind in latest if probe == "general" and adapter == candidate.id}
    generals = {family: pair("general", "", family) for family in sorted(families)}
    canaries = {name: pair("canary", name, "target") for name in view.behaviors}
    kl = latest.get((candidate.id, "kl", "", ""))
    return Evidence(
        k=view.store.count(Verdict) + 1,
        trained=trained,
        guarded=guarded,
        general={family: found_ for family, found_ in generals.items() if found_ is not None},
        canaries={name: found_ for name, found_ in canaries.items() if found_ is not None},
        kl=kl.value if kl else None,
        parity=apart,
    )


# --- in the worker


def measure(payload: dict[str, Any], context: Context) -> Result:
    """Every probe on every adapter named, in one go; progress counts answers."""
    files = {file.stem: file for file in context.spec.behaviors}
    behaviors = [behavior_files.read(files[name]) for name in payload["behaviors"]]
    rows = general.load(context.spec.general, payload["split"]) if context.spec.general else []
    limit = payload["limit"]
    parts: list[tuple[Kind, str, int | None]] = [
        ("target", payload["split"], limit),
        ("counter", payload["split"], limit and limit // 2),
        ("target", "canary", payload["canaries"]),
    ]
    plan = [
        (behavior, kind, split, probes)
        for behavior in behaviors
        for kind, split, most in parts
        if (probes := behavior.select(split=split, kind=kind)[:most])
    ]
    each = sum(len(probes) * (1 if split == "canary" else payload["samples"]) for *_, split, probes in plan) + len(rows)
    total, done = each * len(payload["who"]), 0
    sampling = Sampling(temperature=payload["temperature"], max_tokens=payload["max_tokens"], seed=payload["seed"])

    def checkpoint(word: str) -> Callable[[int, int], None]:
        return lambda here, _: context.checkpoint(min(total, done + here), total, word)

    records: list[Measurement] = []
    for adapter, folder in payload["who"]:
        context.model.use(Path(folder) if folder else None)
        for behavior, kind, split, probes in plan:
            samples = 1 if split == "canary" else payload["samples"]
            record = behavior_probe.measurement(
                context.model,
                probes,
                load_judge(behavior.judge),
                behavior.name,
                samples=samples,
                sampling=sampling,
                checkpoint=checkpoint(f"{behavior.title} on {adapter or 'base'}"),
                probe="canary" if split == "canary" else "behavior",
                adapter=adapter,
                kind=kind,
                split=split,
                cycle=payload["cycle"],
                at=payload["now"],
            )
            records.append(record)
            done += len(probes) * samples
        records += general.measurements(
            context.model,
            rows,
            max_tokens=payload["max_tokens"],
            checkpoint=checkpoint(f"general skill on {adapter or 'base'}"),
            adapter=adapter,
            split=payload["split"],
            cycle=payload["cycle"],
            at=payload["now"],
        )
        done += len(rows)
        if adapter is not None and rows and payload["split"] == ROTATING:
            records.append(
                divergence.measurement(
                    context.model,
                    rows[:: max(1, len(rows) // 64)],
                    adapter=adapter,
                    folder=Path(folder),
                    cycle=payload["cycle"],
                    at=payload["now"],
                )
            )
    context.checkpoint(total, total, "measured")
    return Result(records=tuple(records))


def attest(payload: dict[str, Any], context: Context) -> Result:
    """What the candidate says as served: loaded from its folder by the process that serves."""
    context.model.use(Path(payload["adapter_folder"]))
    return Result(notes={"parity": parity.score(context.model, payload["parity"])})


RUNNERS = {"judge.measure": measure, "judge.attest": attest}

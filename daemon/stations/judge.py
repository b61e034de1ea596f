"""Judge: attest that a candidate is served as it was trained, measure it and its parent on the same probes, decide.

Two jobs, one after the other. `judge.attest` runs on the serving side, which loads the adapter from its folder as any
request would, so a layer that serving silently drops shows up here; what is not served as trained is not measured.
`judge.measure` asks whatever answers people.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from daemon import behaviors as behavior_files
from daemon.errors import NotAttested
from daemon.events import Job, JobFinished, Result, Stage
from daemon.executors.base import Context
from daemon.judges.base import load as load_judge
from daemon.models.base import Sampling
from daemon.probes import behavior as behavior_probe
from daemon.probes import divergence, general, parity
from daemon.probes.attestation import Publishes
from daemon.stations.base import Move, Plan, View, folder_of
from daemon.stations.choice import policy
from policies.behaviors import Behavior, Probe
from policies.judge.comparison import Pair
from policies.judge.gate import BehaviorEvidence, Evidence, GateSettings, Ruling
from policies.records import Adapter, Kind, Measurement, Verdict, content_id

ROTATING = "rotating"
CANARY = "canary"
AGAIN = "rotating, second look"  # how such a measurement is marked: the same probes, more answers


class Judge:
    """The judging station."""

    name: ClassVar[Stage] = "judge"

    def plan(self, view: View) -> Plan:
        """Attest the newest adapter that was not judged yet.

        Adapters whose parent serves no more (their cycle failed before they were judged) are set aside: measured
        against it they would say nothing about what serves now.
        """
        trained = [id for id, state in view.store.adapter_states().items() if state == "trained"]
        candidate = self._candidate(view)
        stale = tuple(
            Move(adapter=id, after="rejected", why="it was not judged while its parent served")
            for id in trained
            if candidate is None or id != candidate.id
        )
        if candidate is None:
            return Plan(moves=stale)
        attest = Job.make(
            "judge.attest",
            lane="serve",
            cycle=view.cycle,
            key=candidate.id,
            adapter=candidate.id,
            adapter_folder=folder_of(view, candidate.id),
            parity=parity.fixed_pairs(view.behaviors.values()),
        )
        return Plan(jobs=(attest,), moves=stale)

    def absorb(self, done: JobFinished, view: View) -> Plan:
        """After attesting measure, after measuring decide; where more answers would settle it, look once more first.

        The parent is measured too, and the base, which is the anchor against decline in small steps; unless they were
        measured on the same probes before.
        """
        candidate = self._candidate(view)
        records = tuple(done.result.records)
        if candidate is None:
            return Plan(records=records)
        if done.job.kind == "judge.measure":
            return self._decide(candidate, records, view, last_look=done.job.payload["look"] > 1)
        attested = self._parity(candidate, done.result.notes, view)
        if not attested.value <= view.config.judge.parity_tolerance:
            return self._decide(candidate, (attested,), view, last_look=True, words=done.result.notes.get("words", ""))
        who: list[str | None] = [candidate.id]
        for other in (candidate.parent, None):
            if other not in who and not _measured(view, other):
                who.append(other)
        return Plan(records=(attested,), jobs=(measuring(view, who, split=ROTATING, key=[candidate.id, 1]),))

    def _candidate(self, view: View) -> Adapter | None:
        waiting = [id for id, state in view.store.adapter_states().items() if state == "trained"]
        found = [adapter for id in waiting if (adapter := view.store.get(Adapter, id)) is not None]
        mine = [a for a in found if a.parent == view.serving or a.cycle == view.cycle]
        return mine[-1] if mine else None

    def _parity(self, candidate: Adapter, notes: Mapping[str, Any], view: View) -> Measurement:
        """How far what is served is from what was trained. Servers compare by themselves, on probes of their own."""
        if "excess" in notes:
            apart, n = (notes["excess"] if notes["ok"] else math.inf), notes["n"]
        else:
            served, as_trained = notes["parity"], view.store.fact(f"parity/{candidate.id}")
            apart, n = (parity.difference(as_trained, served) if as_trained else math.inf), len(served)
        return Measurement(
            id=content_id("measurement", "parity", candidate.id, view.cycle),
            probe="parity", adapter=candidate.id, behavior="", kind="", band="", split=ROTATING,
            value=apart, low=apart, high=apart, n=n, items=(), values=(), cycle=view.cycle, at=view.now,
        )  # fmt: skip

    def _decide(
        self, candidate: Adapter, new: tuple[Measurement, ...], view: View, *, last_look: bool, words: str = ""
    ) -> Plan:
        settings = view.config.judge
        shown = evidence(view, candidate, new)
        ruling: Ruling = policy(self.name, settings.policy).decide(
            shown,
            GateSettings(
                alpha=settings.alpha,
                general_delta=settings.general_delta,
                max_kl=settings.max_kl,
                parity_tolerance=settings.parity_tolerance,
                looks=2 if settings.second_look else 1,
                minimum_gain=settings.minimum_gain,
            ),
        )
        parts = [part.split("/") for part in ruling.unresolved if "/" in part and part.split("/")[0] in view.behaviors]
        if ruling.decision == "hold" and parts and settings.second_look and not last_look:
            who = list(dict.fromkeys([candidate.id, candidate.parent]))
            again = measuring(view, who, split=ROTATING, key=[candidate.id, 2], look=2, parts=parts)
            return Plan(records=new, jobs=(again,), note="more answers for " + ", ".join(map(" ".join, parts)))
        decision, reasons = ruling.decision, ruling.reasons
        if words:
            reasons = (words, *reasons)
        if decision == "promote" and candidate.parent != view.serving:
            decision = "hold"  # an operator changed the serving adapter while this one was in the making
            reasons = (f"its parent {candidate.parent or 'base'} does not serve any more", *reasons)
        alone = unmatched(view, candidate, shown, new)
        if decision == "promote" and alone:
            decision, reasons = "hold", (f"its parent was not measured on {', '.join(alone)}", *reasons)
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
        verdict_told: dict[str, Any] = {
            "event": "verdict",
            "adapter": candidate.id,
            "decision": decision,
            "reasons": list(reasons),
            "failure": {n: 1 - b.target.candidate.value for n, b in shown.trained.items() if b.target is not None},
        }
        return Plan(
            records=(*new, verdict),
            moves=(
                Move(adapter=candidate.id, after="judged", why=reasons[0]),
                Move(adapter=candidate.id, after=_AFTER[decision], why=reasons[0]),
            ),
            happenings=(verdict_told,),
            note=f"{decision} {candidate.id[:8]}: {reasons[0]}",
        )


_AFTER = {"promote": "serving", "hold": "held", "reject": "rejected"}


def chosen_probes(behavior: Behavior, kind: Kind, split: str, limit: int | None) -> tuple[Probe, ...]:
    """The probes a measurement takes: the first of their split, half as many counter probes as targets."""
    most = limit // 2 if limit and kind == "counter" else limit
    return behavior.select(split=split, kind=kind)[:most]


def _measured(view: View, adapter: str | None) -> bool:
    """Was this adapter measured on the very probes that a candidate would be measured on now?"""
    rows = view.store.find(Measurement, adapter=adapter, split=[ROTATING, CANARY])
    known = {(row.probe, row.behavior, row.kind, row.items) for row in rows}
    limit, canaries = view.config.judge.probes, view.config.judge.canaries
    wanted = {
        (probe, name, kind, tuple(p.id for p in probes))
        for name, behavior in view.behaviors.items()
        for probe, kind, probes in (
            ("behavior", "target", chosen_probes(behavior, "target", ROTATING, limit)),
            ("behavior", "counter", chosen_probes(behavior, "counter", ROTATING, limit)),
            (CANARY, "target", chosen_probes(behavior, "target", CANARY, canaries)),
        )
        if probes
    }
    return wanted <= known and any(row.probe == "general" for row in rows)


def measuring(
    view: View,
    who: Iterable[str | None],
    *,
    split: str,
    key: object,
    look: int = 1,
    parts: Sequence[Sequence[str]] | None = None,
) -> Job:
    """The job that measures adapters (None is the base) on every behaviour, general skill and, for candidates, KL.

    With `parts` ([behaviour, kind] each) only those are measured, with more answers per probe: a second look.
    """
    settings = view.config.judge
    rotating = split == ROTATING
    samples = settings.second_look if parts else settings.samples
    return Job.make(
        "judge.measure",
        lane="train",
        cycle=view.cycle,
        key=[split, key],
        split=split,
        look=look,
        who=[[adapter, folder_of(view, adapter)] for adapter in who],
        behaviors=list(view.behaviors),
        parts=parts,
        limit=settings.probes if rotating else None,
        canaries=settings.canaries if rotating else 0,
        samples=samples if rotating else 1,
        temperature=view.config.serve.temperature,
        max_tokens=view.config.model.max_tokens,
        seed=view.config.daemon.seed + look,
        now=view.now,
    )


def evidence(view: View, candidate: Adapter, new: Iterable[Measurement] = ()) -> Evidence:
    """What the gate looks at: the newest measurements of candidate, parent and base, `new` ones included."""
    kept = view.store.find(Measurement, adapter=[candidate.id, candidate.parent, None], split=[ROTATING, AGAIN, CANARY])
    # a second look counts only in its own cycle, where both sides had it: otherwise their luck would differ
    rows = [m for m in (*kept, *new) if m.split != AGAIN or m.cycle == view.cycle]
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

    def present(pairs: Mapping[str, Pair | None]) -> dict[str, Pair]:
        return {name: both for name, both in pairs.items() if both is not None}

    families = sorted({kind for adapter, probe, _, kind in latest if probe == "general" and adapter == candidate.id})
    kl, apart = (latest.get((candidate.id, probe, "", "")) for probe in ("kl", "parity"))
    return Evidence(
        k=view.store.count(Verdict) + 1,
        trained={name: found(view.behaviors[name]) for name in view.config.behaviors.train},
        guarded={name: found(view.behaviors[name]) for name in view.config.behaviors.guard},
        general=present({family: pair("general", "", family) for family in families}),
        canaries=present({name: pair(CANARY, name, "target") for name in view.behaviors}),
        kl=kl.value if kl else None,
        parity=apart.value if apart else None,
    )


def unmatched(view: View, candidate: Adapter, shown: Evidence, new: Iterable[Measurement]) -> list[str]:
    """What was measured on the candidate only, in words: nothing is promoted past a comparison that is missing."""
    mine = view.store.find(Measurement, adapter=candidate.id, split=[ROTATING, CANARY])
    names = {m.behavior for m in (*mine, *new) if m.probe == CANARY} - set(shown.canaries)
    families = {m.kind for m in (*mine, *new) if m.probe == "general"} - set(shown.general)
    return [f"{name} canaries" for name in sorted(names)] + [f"{family} tasks" for family in sorted(families)]


# --- in the worker


def measure(payload: dict[str, Any], context: Context) -> Result:
    """Every probe on every adapter named, in one go; progress counts answers."""
    files = {file.stem: file for file in context.spec.behaviors}
    behaviors = [behavior_files.read(files[name]) for name in payload["behaviors"]]
    judges = {b.name: load_judge(b.judge, model=context.served, behaviors={b.name: b}) for b in behaviors}
    again = payload["look"] > 1
    rows = general.load(context.spec.general, payload["split"]) if context.spec.general and not again else []
    parts: list[tuple[Kind, str, int | None]] = [
        ("target", payload["split"], payload["limit"]),
        ("counter", payload["split"], payload["limit"]),
        ("target", CANARY, payload["canaries"]),
    ]
    wanted = payload["parts"]
    plan = [
        (behavior, kind, split, probes)
        for behavior in behaviors
        for kind, split, most in parts
        if (probes := chosen_probes(behavior, kind, split, most))
        and (wanted is None or ([behavior.name, kind] in wanted and split != CANARY))
    ]
    each = sum(len(probes) * (1 if split == CANARY else payload["samples"]) for *_, split, probes in plan) + len(rows)
    total, done = each * len(payload["who"]), 0
    sampling = Sampling(temperature=payload["temperature"], max_tokens=payload["max_tokens"], seed=payload["seed"])

    def checkpoint(word: str) -> Callable[[int, int], None]:
        return lambda here, _: context.checkpoint(min(total, done + here), total, word)

    records: list[Measurement] = []
    for adapter, folder in payload["who"]:
        context.served.use(Path(folder) if folder else None)
        for behavior, kind, split, probes in plan:
            samples = 1 if split == CANARY else payload["samples"]
            record = behavior_probe.measurement(
                context.served,
                probes,
                judges[behavior.name],
                behavior.name,
                samples=samples,
                sampling=sampling,
                checkpoint=checkpoint(f"{behavior.title} on {adapter or 'base'}"),
                probe=CANARY if split == CANARY else "behavior",
                adapter=adapter,
                kind=kind,
                split=AGAIN if again else split,
                cycle=payload["cycle"],
                at=payload["now"],
            )
            records.append(record)
            done += len(probes) * samples
        records += general.measurements(
            context.served,
            rows,
            max_tokens=payload["max_tokens"],
            checkpoint=checkpoint(f"general skill on {adapter or 'base'}"),
            adapter=adapter,
            split=payload["split"],
            cycle=payload["cycle"],
            at=payload["now"],
        )
        done += len(rows)
        if isinstance(context.served, Publishes):  # what was measured was this adapter from beginning to end
            context.served.attest(Path(folder) if folder else None, again=True)
        if adapter is not None and rows and payload["split"] == ROTATING:
            with context.training():  # no server compares whole distributions
                drift = divergence.measurement(
                    context.model,
                    rows[:: max(1, len(rows) // 64)],
                    adapter=adapter,
                    folder=Path(folder),
                    cycle=payload["cycle"],
                    at=payload["now"],
                )
            records.append(drift)
    context.checkpoint(total, total, "measured")
    return Result(records=tuple(records))


def attest(payload: dict[str, Any], context: Context) -> Result:
    """What the candidate says as served: loaded from its folder by whatever serves."""
    served, folder = context.served, Path(payload["adapter_folder"])
    if not isinstance(served, Publishes):
        served.use(folder)
        return Result(notes={"parity": parity.score(served, payload["parity"])})
    try:
        found = served.attest(folder)
    except NotAttested as error:
        return Result(notes={"ok": False, "excess": 0.0, "n": 0, "words": str(error)})
    return Result(notes={"ok": True, "excess": found.excess, "n": found.n, "words": found.words})


RUNNERS = {"judge.measure": measure, "judge.attest": attest}

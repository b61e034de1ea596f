"""Dream: the model writes practice scenarios from what went wrong and from what it remembers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

from daemon.events import Job, JobFinished, Result, Stage
from daemon.executors.base import Context
from daemon.models.base import Sampling, folder
from daemon.probes.dreams import ask
from daemon.stations.base import Plan, View, folder_of
from daemon.stations.choice import policy
from graph.seeds import seed_material
from policies.dream.allocate import Need
from policies.dream.novelty import Sifted, sift
from policies.dream.temperature import next_temperature
from policies.records import Band, Dream, Outcome, Quarantine, Seed, Signal, Surfacing, content_id
from policies.statistics.wilson import wilson

SHOWN = 3  # dreams shown to whoever watches
RECENT = 400  # how many records back "recently" reaches
CONFIGURED = "temperature_configured"  # the fact: what `dream.temperature` was when the last temperature was chosen


Graded = tuple[Dream, float, int]  # a dream, the share of its answers that failed, their number


class Dreaming:
    """The dreaming station."""

    name: ClassVar[Stage] = "dream"

    def plan(self, view: View) -> Plan:
        """Choose seeds and temperature, and have the dreams written."""
        config = view.config.dream
        rng = view.rng("dream")
        surfaced = [s.node for s in view.store.find(Surfacing, descending=True, limit=RECENT)][::-1]
        patterns = {name: behavior.graph_key for name, behavior in view.behaviors.items()}
        material = seed_material(view.memory, surfaced, patterns, rng, count=config.count * 2)
        seen = _graded(view)
        # a dream request has words for a behaviour's scenarios, none for its counter-scenarios (docs/BEHAVIORS.md)
        seeds: list[Seed] = policy(self.name, config.policy).allocate(
            config.count, _needs(view, seen), material, cycle=view.cycle, rng=rng, counters=False
        )
        if not config.adaptive:
            temperature, why = config.temperature, "fixed by dream.adaptive = false"
        elif view.store.fact(CONFIGURED, config.temperature) != config.temperature:  # edited, or an advice accepted
            temperature, why = config.temperature, "configured anew; from here on it is adapted again"
        else:
            choice = next_temperature(
                _history(seen), view.store.fact("temperature", config.temperature), config.target_failure
            )
            temperature, why = choice.temperature, choice.reason
        job = Job.make(
            "dream.write",
            lane="train",
            cycle=view.cycle,
            seeds=[_portable(seed, view) for seed in seeds],
            temperature=temperature,
            max_tokens=view.config.model.max_tokens,
            seed=rng.randrange(2**31),
            adapter=view.serving,
            adapter_folder=folder_of(view, view.serving),
            now=view.now,
        )
        return Plan(
            records=tuple(seeds),
            jobs=(job,) if seeds else (),
            facts={"temperature": temperature, CONFIGURED: config.temperature},
            note=f"temperature {temperature:.2f}: {why}",
        )

    def absorb(self, done: JobFinished, view: View) -> Plan:
        """Keep dreams that are new, readable and no held-out probe; say why the others are dropped."""
        dreams: list[Dream] = list(done.result.records)
        earlier = [d.text for d in view.store.find(Dream, descending=True, limit=5 * RECENT)]
        probes = {probe.prompt for behavior in view.behaviors.values() for probe in behavior.probes}
        sifted = sift(dreams, earlier=earlier, probes=probes)
        quarantined = tuple(
            Quarantine(id=content_id("quarantine", dream.id), source=dream.id, reason=reason, at=view.now)
            for dream, reason in sifted.dropped
        )
        return Plan(
            records=(*sifted.kept, *quarantined),
            happenings=tuple(
                {"event": "dream", "text": d.text, "behavior": d.behavior, "band": d.band, "temperature": d.temperature}
                for d in sifted.kept[:SHOWN]
            ),
            note=f"{len(sifted.kept)} dreams"
            + (f", {len(sifted.dropped)} dropped ({_reasons(sifted)})" if sifted.dropped else ""),
        )


def _reasons(sifted: Sifted) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in Counter(r for _, r in sifted.dropped).most_common(3))


def _needs(view: View, seen: Sequence[Graded]) -> list[Need]:
    """Each behaviour with its recent failure rate, from signals, and what its bands' dreams did lately."""
    needs = []
    for name in view.behaviors:
        recent = view.store.find(Signal, behavior=name, descending=True, limit=RECENT)
        bands: dict[Band, list[float]] = {}
        for dream, failure, _ in seen:
            if dream.behavior == name and dream.kind == "target":
                bands.setdefault(dream.band, []).append(failure)
        needs.append(
            Need(
                behavior=name,
                trained=name in view.config.behaviors.train,
                failure=wilson(sum(signal.failed for signal in recent), len(recent)),
                bands={band: sum(values) / len(values) for band, values in bands.items()},
            )
        )
    return needs


def _graded(view: View) -> list[Graded]:
    """Recent dreams that were answered: (dream, share of its answers that failed, number of answers)."""
    passed: dict[str, list[bool]] = {}
    for outcome in view.store.find(Outcome, descending=True, limit=8 * RECENT):
        if outcome.passed is not None:
            passed.setdefault(outcome.dream, []).append(outcome.passed)
    dreams = view.store.find(Dream, descending=True, limit=2 * RECENT)
    return [
        (dream, 1 - sum(passed[dream.id]) / len(passed[dream.id]), len(passed[dream.id]))
        for dream in dreams
        if dream.id in passed
    ]


def _history(seen: Sequence[Graded]) -> list[tuple[float, float, int]]:
    """Per earlier cycle, oldest first: the temperature, how often its target dreams failed, how many there were."""
    cycles: dict[int, list[tuple[Dream, float]]] = {}
    for dream, failure, _ in seen:
        if dream.kind == "target":
            cycles.setdefault(dream.cycle, []).append((dream, failure))
    return [
        (found[0][0].temperature, sum(failure for _, failure in found) / len(found), len(found))
        for _, found in sorted(cycles.items())
    ]


def _portable(seed: Seed, view: View) -> dict[str, Any]:
    behavior = view.behaviors[seed.behavior]
    return {
        "id": seed.id,
        "behavior": seed.behavior,
        "kind": seed.kind,
        "band": seed.band,
        "memories": list(seed.memories),
        "pattern": behavior.dream_pattern,
    }


def write(payload: dict[str, Any], context: Context) -> Result:
    """Write one dream per seed."""
    context.served.use(folder(payload["adapter_folder"]))
    seeds = payload["seeds"]
    texts = context.served.generate(
        [ask(seed["pattern"], seed["memories"], seed["band"]) for seed in seeds],
        Sampling(temperature=payload["temperature"], max_tokens=payload["max_tokens"], seed=payload["seed"]),
        lambda done, total: context.checkpoint(done, total, "dreaming"),
    )
    return Result(
        records=tuple(
            Dream(
                id=content_id("dream", seed["id"], text),
                seed=seed["id"],
                behavior=seed["behavior"],
                kind=seed["kind"],
                band=seed["band"],
                text=text.strip(),
                temperature=payload["temperature"],
                adapter=payload["adapter"],
                cycle=payload["cycle"],
                at=payload["now"],
            )
            for seed, text in zip(seeds, texts, strict=True)
        )
    )


RUNNERS = {"dream.write": write}

"""Dreaming: seeds and temperature are chosen repeatably, dreams are written per seed, and only new ones are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from daemon.events import Job, JobFinished, Result
from daemon.models.nano.checker import parse
from daemon.probes.dreams import ask
from daemon.stations.base import Plan
from daemon.stations.dream import SHOWN, Dreaming
from policies.records import BANDS, Dream, Quarantine, Seed
from tests.daemon.stations.parts import Here, bundled, dream, outcome, scenario, signal, turn


def planned(here: Here, cycle: int = 1) -> tuple[Plan, list[Seed], Job]:
    plan = Dreaming().plan(here.view(cycle))
    (job,) = plan.jobs
    return plan, [record for record in plan.records if isinstance(record, Seed)], job


def absorbed(here: Here, dreams: Sequence[Dream]) -> Plan:
    job = Job.make("dream.write", lane="train", cycle=1)
    return Dreaming().absorb(JobFinished(job=job, result=Result(records=tuple(dreams)), seconds=1.0), here.view())


def test_seeds_spread_over_behaviours_kinds_and_bands(make: Callable[..., Here]) -> None:
    """As many seeds as asked for: most are targets of what is trained, the others of what is guarded (a request has no
    words for counter-scenarios); every band has some, and each stands at its behaviour's own pattern node."""
    here = make(dream={"count": 64})
    _, seeds, job = planned(here)
    kinds = Counter((seed.behavior, seed.kind) for seed in seeds)
    assert len(seeds) == len({seed.id for seed in seeds}) == 64
    assert kinds["listening", "target"] == 48
    assert kinds["not_rushing", "target"] == kinds["push_back", "target"] == 8
    assert {seed.band for seed in seeds} == set(BANDS)
    assert {seed.node for seed in seeds if seed.behavior == "listening"} == {bundled()["listening"].graph_key}
    assert len({seed.memories for seed in seeds}) > 20
    assert [s["id"] for s in job.payload["seeds"]] == [seed.id for seed in seeds]


def test_planning_is_repeatable_and_differs_between_cycles(here: Here) -> None:
    """The same world gives the same seeds and job (a crash plans nothing twice); another cycle gives others."""
    assert Dreaming().plan(here.view(3)) == Dreaming().plan(here.view(3))
    (_, these, job), (_, those, other) = planned(here, 3), planned(here, 4)
    assert job.id != other.id and job.payload["seed"] != other.payload["seed"]
    assert not {seed.id for seed in these} & {seed.id for seed in those}


def test_what_fails_more_is_dreamed_of_more(make: Callable[..., Here]) -> None:
    """Of two trained behaviours the one that users complain about gets more of the seeds."""
    here = make(behaviors={"train": ["listening", "not_rushing"], "guard": ["push_back"]})
    for name, failing in (("listening", False), ("not_rushing", True)):
        for number in range(40):
            said = turn(f"{name} {number}", "ok", conversation=f"{name}{number}")
            here.add(said, signal(said, name, failed=failing))
    targets = Counter(seed.behavior for seed in planned(here)[1] if seed.kind == "target")
    assert targets["not_rushing"] > 3 * targets["listening"] > 0


def test_bands_that_teach_nothing_get_fewer_dreams(here: Here) -> None:
    """A band in which every dream was answered well is dreamed of less than before."""
    before = Counter(seed.band for seed in planned(here, 2)[1] if seed.behavior == "listening")
    for number in range(20):
        easy = dream(f"easy number {number}", band="obvious")
        here.add(easy, *(outcome(easy, True, attempt=k) for k in range(4)))
    after = Counter(seed.band for seed in planned(here, 2)[1] if seed.behavior == "listening")
    assert after["obvious"] < before["obvious"] / 2


def test_the_temperature_moves_only_when_it_may(make: Callable[..., Here]) -> None:
    """It is the configured one before anything was judged, moves when dreams fail too rarely, is remembered as a fact
    for the next cycle, and stays put with `dream.adaptive = false`."""
    here = make()
    plan, _, job = planned(here)
    assert plan.facts["temperature"] == job.payload["temperature"] == here.config.dream.temperature
    for number in range(10):
        easy = dream(f"easy number {number}")
        here.add(easy, outcome(easy, True))
    plan, _, job = planned(here, 2)
    assert plan.facts["temperature"] == job.payload["temperature"] != here.config.dream.temperature
    here.write(plan)
    assert here.store.fact("temperature") == plan.facts["temperature"]
    fixed = make(dream={"adaptive": False, "temperature": 0.9})
    assert planned(fixed, 2)[2].payload["temperature"] == 0.9


def test_a_temperature_that_is_configured_anew_is_used(make: Callable[..., Here]) -> None:
    """An accepted advice, or an edited file, takes effect at the next cycle, which adapts from there afterwards."""
    here = make()
    for number in range(10):
        easy = dream(f"easy number {number}")
        here.add(easy, outcome(easy, number % 2 == 0))  # half of them fail: there is nothing to adapt
    here.write(planned(here)[0])
    hotter = make(dream={"temperature": 1.1})
    for cycle in (2, 3):
        plan, _, job = planned(hotter, cycle)
        assert job.payload["temperature"] == 1.1
        hotter.write(plan)


def test_only_new_dreams_are_kept(here: Here) -> None:
    """What was dreamed before, what comes twice, a held-out probe and an empty text are dropped, each with a word."""
    old = dream(scenario("listening", 1))
    here.add(old)
    new = dream(scenario("listening", 2), cycle=2)
    again = dream(old.text.upper(), cycle=2)
    twice = dream(new.text, "push_back", cycle=2)
    probe = bundled()["push_back"].select(split="sealed")[0]
    leak = dream(probe.prompt, cycle=2)
    empty = dream(" ", cycle=2)
    plan = here.write(absorbed(here, [new, again, twice, leak, empty]))
    assert [record for record in plan.records if isinstance(record, Dream)] == [new]
    assert here.store.find(Dream, cycle=2) == [new]
    reasons = {record.source: record.reason for record in here.store.find(Quarantine)}
    assert reasons[leak.id].startswith("leak")
    assert set(reasons) == {again.id, twice.id, leak.id, empty.id}
    assert plan.note.startswith("1 dreams, 4 dropped (")


def test_a_few_dreams_are_shown(here: Here) -> None:
    """Whoever watches sees the first kept dreams with behaviour and band, not all of them."""
    dreams = [dream(scenario("listening", n, band="subtle"), band="subtle", cycle=2) for n in range(SHOWN + 4)]
    told = absorbed(here, dreams).happenings
    assert [(t["event"], t["text"], t["band"]) for t in told] == [("dream", d.text, "subtle") for d in dreams[:SHOWN]]


def test_one_dream_is_written_per_seed(make: Callable[..., Here]) -> None:
    """Each seed's request names its pattern, memories and wished band; its dream carries them and the adapter that
    wrote it, without blanks around it; the same payload gives the same dreams."""
    here = make(dream={"count": 12})
    here.adapter("a1", state="serving")
    _, seeds, job = planned(here)
    done = here.run(job)
    dreams = list(done.result.records)
    assert [(d.seed, d.behavior, d.kind, d.band, d.adapter, d.cycle) for d in dreams] == [
        (s.id, s.behavior, s.kind, s.band, "a1", 1) for s in seeds
    ]
    assert here.model.using == here.config.state / "adapters" / "a1"
    for seed, (system, user) in zip(seeds, here.model.asked, strict=True):
        assert system.content == "dream"
        assert user.content == ask(bundled()[seed.behavior].dream_pattern, list(seed.memories), seed.band)[1].content
        assert all(memory in user.content for memory in seed.memories) and seed.band in user.content
    assert all(d.text == d.text.strip() and parse(d.text).behavior == d.behavior for d in dreams)  # type: ignore[union-attr]
    assert {(s.temperature, s.seed) for s in here.model.sampled} == {
        (d.temperature, job.payload["seed"]) for d in dreams
    }
    assert here.run(job).result == done.result

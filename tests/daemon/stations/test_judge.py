"""Judging: attested as served, candidate, parent and base on the same probes, and one verdict that moves it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from daemon.events import Job, JobFinished, Result
from daemon.models.nano.world import LISTENING, NOT_RUSHING, PUSH_BACK
from daemon.stations.base import NOTHING, Move, Plan
from daemon.stations.judge import AGAIN, CANARY, ROTATING, Judge, measuring
from policies.records import Measurement, Verdict
from tests.daemon.stations.parts import NAMES, Here, bundled, measurement, passing

BASE = {LISTENING: 0.5, NOT_RUSHING: 0.2, PUSH_BACK: 0.2}
BETTER = {**BASE, LISTENING: 0.05}
QUICK: dict[str, dict[str, Any]] = {"judge": {"probes": 120, "samples": 1, "canaries": 10, "second_look": 0}}


@pytest.fixture
def general(tmp_path: Path) -> Path:
    """A small file of general questions, all of which the model below knows."""
    rows = [
        {"id": f"g{n}", "family": "arithmetic", "split": split, "prompt": f"what is {n} plus 0?", "answer": f"{n}."}
        for n, split in enumerate(["rotating"] * 90 + ["sealed"] * 3)
    ]
    file = tmp_path / "general.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


@pytest.fixture
def judged(make: Callable[..., Here], general: Path) -> Callable[..., Here]:
    """Makes a place whose base has the rates above and knows the general questions."""

    def made(**sections: dict[str, Any]) -> Here:
        here = make(**(QUICK | sections))
        here.model.base = dict(BASE)
        here.model.use(None)
        rows = map(json.loads, general.read_text(encoding="utf-8").splitlines())
        here.model.knowledge = {row["prompt"]: row["answer"] for row in rows}
        return here

    return made


def as_trained(here: Here, adapter: str, *, off: float = 0.0) -> None:
    """Remember the log-probabilities that learning noted when the adapter was trained."""
    from daemon.probes import parity

    here.model.use(here.config.state / "adapters" / adapter)
    scored = parity.score(here.model, parity.fixed_pairs(bundled().values()))
    with here.store.transaction() as tx:
        tx.set_fact(f"parity/{adapter}", [[value + off for value in row] for row in scored])


def through(here: Here, general: Path, cycle: int = 1) -> Plan:
    """The whole stage: every job it asks for, one after the other; its last plan."""
    plan = here.write(Judge().plan(here.view(cycle)))
    while plan.jobs:
        here.now += 10
        (job,) = plan.jobs
        plan = here.act(Judge(), job, cycle, general=general)
    return plan


def attested(here: Here, cycle: int = 1, **notes: Any) -> Plan:
    """What follows an attestation of the candidate; without notes, one that found it served as trained."""
    (attest,) = Judge().plan(here.view(cycle)).jobs
    with here.store.transaction() as tx:
        tx.set_fact(f"parity/{attest.payload['adapter']}", [[-1.0]])
    return Judge().absorb(finished(attest, **(notes or {"parity": [[-1.0]]})), here.view(cycle))


def finished(job: Job, *records: Measurement, **notes: Any) -> JobFinished:
    return JobFinished(job=job, result=Result(records=records, notes=notes), seconds=1.0)


def rows(adapter: str | None, *, at: float = 1.0, **failed: int) -> list[Measurement]:
    """Handmade first-look measurements: 240 probes of each behaviour, of which so many failed (default 24)."""
    found = []
    for name in NAMES:
        found.append(measurement(adapter, passing(240, failed.get(name, 24)), behavior=name, at=at))
        found.append(measurement(adapter, passing(240, 12), behavior=name, kind="counter", at=at))
    found.append(measurement(adapter, [1.0] * 240, behavior="", kind="facts", probe="general", at=at))
    if adapter is not None:
        found.append(measurement(adapter, [0.1], behavior="", kind="", probe="kl", at=at))
    return found


# --- planning


def test_without_a_candidate_there_is_nothing_to_judge(judged: Callable[..., Here]) -> None:
    """Adapters that were judged already are not judged again."""
    here = judged()
    here.adapter("a1", state="held")
    assert Judge().plan(here.view()) == NOTHING


def test_parent_and_base_are_measured_once_and_then_reused(judged: Callable[..., Here], general: Path) -> None:
    """The first candidate is measured beside the base; its child beside nobody, for parent and base are known."""
    here = judged()
    here.adapter("a1", rates=BETTER)
    (job,) = attested(here).jobs
    assert [adapter for adapter, _ in job.payload["who"]] == ["a1", None]
    as_trained(here, "a1")
    assert through(here, general).moves[-1].after == "serving"
    here.adapter("b1", parent="a1", rates=BETTER)
    (job,) = attested(here, 2).jobs
    assert job.payload["who"] == [["b1", str(here.config.state / "adapters" / "b1")]]
    as_trained(here, "b1")
    through(here, general, 2)
    assert here.store.count(Measurement, adapter=None, probe="behavior", behavior=LISTENING, kind="target") == 1
    assert here.store.count(Measurement, adapter="a1", probe="behavior", behavior=LISTENING, kind="target") == 1


def test_an_unmeasured_parent_is_measured_with_its_child(judged: Callable[..., Here]) -> None:
    """Three of them where the parent was never measured: candidate, parent, base."""
    here = judged()
    here.adapter("a1", state="serving")
    here.adapter("b1", parent="a1")
    (job,) = attested(here).jobs
    assert [adapter for adapter, _ in job.payload["who"]] == ["b1", "a1", None]
    assert (job.kind, job.lane) == ("judge.measure", "train")


def test_the_serving_side_is_asked_first(judged: Callable[..., Here]) -> None:
    """Before anything is measured the serving worker is asked what the candidate says as served, from its folder;
    planning again asks the same. Then it is measured, and nothing is decided yet."""
    here = judged()
    here.adapter("a1")
    (attest,) = Judge().plan(here.view()).jobs
    assert (attest.kind, attest.lane) == ("judge.attest", "serve")
    assert attest.payload["adapter_folder"] == str(here.config.state / "adapters" / "a1")
    assert Judge().plan(here.view()).jobs == (attest,)
    plan = attested(here)
    assert [job.kind for job in plan.jobs] == ["judge.measure"] and plan.moves == ()
    assert [(record.probe, record.value) for record in plan.records] == [("parity", 0.0)]


def test_what_servers_do_not_serve_as_trained_is_rejected_unmeasured(judged: Callable[..., Here]) -> None:
    """Servers compare by themselves. A mismatch is a verdict with their words, and nobody is asked anything more."""
    here = judged()
    here.adapter("a1")
    words = "http://host:1: lists dreamloop:a1 and does not serve it: the server answers with the base model"
    plan = here.write(attested(here, ok=False, excess=0.0, n=0, words=words))
    (verdict,) = here.store.find(Verdict)
    assert plan.jobs == () and verdict.decision == "reject" and verdict.reasons[0] == words
    assert here.store.adapter_state("a1") == "rejected"


def test_what_servers_found_within_rounding_is_measured(judged: Callable[..., Here]) -> None:
    """What rounding does not explain is compared with the tolerance, like any parity."""
    here = judged()
    here.adapter("a1")
    plan = attested(here, ok=True, excess=0.003, n=90, words="within 0.015 nats per token of what was trained")
    (parity,) = plan.records
    assert (parity.value, parity.n) == (0.003, 90) and [job.kind for job in plan.jobs] == ["judge.measure"]


def test_what_was_never_judged_while_its_parent_served_is_set_aside(judged: Callable[..., Here]) -> None:
    """An adapter left over from a failed cycle is no candidate once another serves, and does not wait for ever."""
    here = judged()
    here.adapter("left")
    here.adapter("operators", state="serving")
    plan = here.write(Judge().plan(here.view(5)))
    assert plan.jobs == () and here.store.adapter_state("left") == "rejected"


def test_a_parent_measured_on_other_probes_is_measured_again(judged: Callable[..., Here]) -> None:
    """When `judge.probes` was raised, old measurements cannot be paired with new ones: nothing is reused."""
    here = judged(judge={"probes": 60, "canaries": 0})
    here.adapter("a1")
    (job,) = attested(here).jobs
    here.add(*here.run(job).result.records)
    here.add(*(measurement(w, [1.0], behavior="", kind="facts", probe="general") for w in ("a1", None)))
    assert [who for who, _ in attested(here).jobs[0].payload["who"]] == ["a1"]
    more = judged(judge={"probes": 120, "canaries": 0})
    assert [who for who, _ in attested(more).jobs[0].payload["who"]] == ["a1", None]


def test_nothing_is_promoted_past_a_comparison_that_is_missing(judged: Callable[..., Here]) -> None:
    """A family of tasks that only the candidate was measured on holds it, and the reason names the family."""
    here = judged()
    here.adapter("a1")
    (job,) = here.write(attested(here)).jobs
    here.add(*rows(None, listening=90), *rows("a1", listening=3, at=2.0))
    here.add(measurement("a1", [1.0] * 240, behavior="", kind="code", probe="general", at=2.0))
    here.write(Judge().absorb(finished(job), here.view()))
    (verdict,) = here.store.find(Verdict)
    assert verdict.decision == "hold" and verdict.reasons[0] == "its parent was not measured on code tasks"


# --- deciding


def test_a_better_candidate_is_promoted(judged: Callable[..., Here], general: Path) -> None:
    """Measured by the real runners and judge: fewer failures on what is trained, the rest unchanged, served as
    trained. Verdict, measurements and the step to serving are in one plan."""
    here = judged()
    here.adapter("a1", rates=BETTER)
    as_trained(here, "a1")
    plan = through(here, general)
    (verdict,) = here.store.find(Verdict)
    assert verdict.decision == "promote" and verdict in plan.records
    assert plan.moves == (
        Move(adapter="a1", after="judged", why=verdict.reasons[0]),
        Move(adapter="a1", after="serving", why=verdict.reasons[0]),
    )
    assert here.store.serving() == "a1"
    (told,) = plan.happenings
    assert told["event"] == "verdict" and told["decision"] == "promote" and told["failure"][LISTENING] < 0.15
    assert plan.note.startswith("promote a1: ")


@pytest.mark.parametrize(
    ("rates", "decision", "state"),
    [
        (BASE, "hold", "held"),
        ({**BETTER, PUSH_BACK: 0.9}, "reject", "rejected"),
        ({**BASE, LISTENING: 0.95}, "reject", "rejected"),
    ],
)
def test_others_are_held_or_rejected(
    judged: Callable[..., Here], general: Path, rates: Mapping[str, float], decision: str, state: str
) -> None:
    """No better: held. Better at the cost of a guarded behaviour, or worse: rejected. The base goes on serving."""
    here = judged()
    here.adapter("a1", rates=rates)
    as_trained(here, "a1")
    through(here, general)
    assert [v.decision for v in here.store.find(Verdict)] == [decision]
    assert here.store.adapter_state("a1") == state and here.store.serving() is None


@pytest.mark.parametrize("noted", ["other", "none"])
def test_what_is_not_served_as_it_was_trained_is_rejected(
    judged: Callable[..., Here], general: Path, noted: str
) -> None:
    """A good candidate whose served log-probabilities differ from those noted in training, or for which none were
    noted, does not serve; the reason names the difference."""
    here = judged()
    here.adapter("a1", rates=BETTER)
    if noted == "other":
        as_trained(here, "a1", off=0.5)
    through(here, general)
    (verdict,) = here.store.find(Verdict)
    assert verdict.decision == "reject" and here.store.adapter_state("a1") == "rejected"
    assert "serve" in verdict.reasons[0]
    (parity,) = here.store.find(Measurement, probe="parity")
    assert parity.adapter == "a1" and parity.value == (pytest.approx(0.5) if noted == "other" else float("inf"))


def test_a_candidate_whose_parent_no_longer_serves_is_held(judged: Callable[..., Here], general: Path) -> None:
    """An operator promoted another adapter while this one was made: it was never compared with that one."""
    here = judged()
    here.adapter("a1", rates=BETTER)
    as_trained(here, "a1")
    here.adapter("operators", state="serving")
    through(here, general)
    (verdict,) = here.store.find(Verdict)
    assert verdict.decision == "hold" and verdict.reasons[0] == "its parent base does not serve any more"
    assert here.store.serving() == "operators" and here.store.adapter_state("a1") == "held"


# --- the second look


def unclear(here: Here) -> Plan:
    """A candidate that is better, but of which one guarded behaviour is neither shown unharmed nor harmed."""
    here.adapter("a1")
    (job,) = here.write(attested(here)).jobs
    here.add(*rows(None, listening=90))
    return here.write(Judge().absorb(finished(job, *rows("a1", listening=3, push_back=34, at=2.0)), here.view()))


def test_a_second_look_is_taken_only_at_what_was_left_open(judged: Callable[..., Here]) -> None:
    """More answers are asked for candidate and parent on the unresolved comparison alone; no verdict yet."""
    here = judged(judge={"second_look": 6, "probes": 240})
    plan = unclear(here)
    (job,) = plan.jobs
    assert job.kind == "judge.measure" and job.payload["parts"] == [[PUSH_BACK, "target"]]
    assert job.payload["samples"] == 6 and job.payload["look"] == 2
    assert [adapter for adapter, _ in job.payload["who"]] == ["a1", None]
    assert here.store.count(Verdict) == 0 and here.store.adapter_state("a1") == "trained"
    assert plan.note == "more answers for push_back target"


def test_without_a_second_look_the_open_one_is_held(judged: Callable[..., Here]) -> None:
    """With `judge.second_look = 0` the first look decides."""
    here = judged(judge={"second_look": 0})
    assert unclear(here).jobs == ()
    assert here.store.adapter_state("a1") == "held"


@pytest.mark.parametrize(("failed", "decision"), [(24, "promote"), (34, "hold"), (120, "reject")])
def test_the_second_look_decides(judged: Callable[..., Here], failed: int, decision: str) -> None:
    """Its answers stand in the place of the first look's; what it leaves open is held, and there is no third."""
    here = judged(judge={"second_look": 6})
    (job,) = unclear(here).jobs
    here.now += 10
    new = [
        measurement(adapter, passing(240, count), behavior=PUSH_BACK, split=AGAIN, at=here.now)
        for adapter, count in (("a1", failed), (None, 24))
    ]
    plan = here.write(Judge().absorb(finished(job, *new), here.view()))
    assert plan.jobs == () and [v.decision for v in here.store.find(Verdict)] == [decision]


def test_a_clear_reject_gets_no_second_look(judged: Callable[..., Here], general: Path) -> None:
    """More answers are spent where they can change the verdict, and nowhere else."""
    here = judged(judge={"second_look": 6, "probes": 120, "canaries": 0})
    here.adapter("a1", rates={**BETTER, PUSH_BACK: 0.95})
    as_trained(here, "a1")
    through(here, general)
    assert here.store.count(Measurement, split=AGAIN) == 0
    assert here.store.adapter_state("a1") == "rejected"


# --- the runners


def test_everyone_is_measured_on_the_same_probes(judged: Callable[..., Here], general: Path) -> None:
    """Candidate and base get the same items: rotating targets, half as many counters, canaries, general families; the
    candidate its KL as well; no sealed probe. Progress ends at its total."""
    here = judged()
    here.adapter("a1", rates=BETTER)
    (job,) = attested(here).jobs
    found: list[Measurement] = list(here.run(job, general=general).result.records)
    items = {
        who: {(m.probe, m.behavior, m.kind, m.split): m.items for m in found if m.adapter == who and m.probe != "kl"}
        for who in ("a1", None)
    }
    assert items["a1"] == items[None]
    sizes = {key: len(value) for key, value in items[None].items()}
    assert sizes == {
        **{("behavior", name, "target", ROTATING): 120 for name in NAMES},
        **{("behavior", name, "counter", ROTATING): 60 for name in NAMES},
        (CANARY, PUSH_BACK, "target", CANARY): 10,
        ("general", "", "arithmetic", ROTATING): 90,
    }
    assert [(m.adapter, m.value > 0) for m in found if m.probe == "kl"] == [("a1", True)]
    sealed = {p.id for behavior in bundled().values() for p in behavior.probes if p.split == "sealed"}
    assert not sealed & {item for m in found for item in m.items}
    by_who = {m.adapter: m.value for m in found if m.behavior == LISTENING and m.kind == "target"}
    assert by_who["a1"] > 0.85 and 0.35 < by_who[None] < 0.65


def test_sealed_probes_are_measured_whole_and_apart(judged: Callable[..., Here], general: Path) -> None:
    """The report's measurement takes every sealed probe once, and no canary, KL or rotating one."""
    here = judged()
    found = here.run(measuring(here.view(), [None], split="sealed", key="r"), general=general).result.records
    assert {m.split for m in found} == {"sealed"} and {m.probe for m in found} == {"behavior", "general"}
    for name, behavior in bundled().items():
        (mine,) = (m for m in found if m.behavior == name and m.kind == "target")
        assert mine.items == tuple(p.id for p in behavior.select(split="sealed", kind="target"))


def test_a_second_look_measures_only_its_parts_with_more_answers(judged: Callable[..., Here], general: Path) -> None:
    """Several answers per probe, marked as a second look, no general questions; values are means."""
    here = judged(judge={"second_look": 4, "probes": 60})
    job = measuring(here.view(), [None], split=ROTATING, key="k", look=2, parts=[[LISTENING, "counter"]])
    (found,) = here.run(job, general=general).result.records
    assert (found.behavior, found.kind, found.split, found.n) == (LISTENING, "counter", AGAIN, 30)
    assert len(here.model.asked) == 120 and {value * 4 % 1 for value in found.values} == {0.0}


def test_measuring_again_gives_the_same_records(judged: Callable[..., Here], general: Path) -> None:
    """A repeated job (a worker that died) writes the same rows."""
    here = judged()
    here.adapter("a1", rates=BETTER)
    (job,) = attested(here).jobs
    assert here.run(job, general=general).result == here.run(job, general=general).result

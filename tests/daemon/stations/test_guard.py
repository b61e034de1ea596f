"""Guarding: the serving adapter is compared with what a rollback would bring back; an alarm asks for just that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from daemon.events import Job, JobFinished, Result
from daemon.models.nano.world import LISTENING, NOT_RUSHING, PUSH_BACK
from daemon.stations.base import Plan
from daemon.stations.guard import FACT, Guard
from policies.guard import watch
from policies.records import Alarm, Measurement, Surfacing, content_id
from policies.statistics import binomial
from tests.daemon.stations.parts import NAMES, Here, bundled, measurement, passing, signal, turn


def probing(here: Here, cycle: int = 1) -> Job:
    """Plan the stage and write the plan; its job."""
    (job,) = here.write(Guard().plan(here.view(cycle))).jobs
    return job


def probed(here: Here, job: Job, *, n: int = 60, cycle: int = 1, **failed: int) -> Plan:
    """The stage ends with so many of `n` probes failed per behaviour."""
    notes = {"failed": {name: [1 - v for v in passing(n, failed.get(name, 0))] for name in NAMES}}
    done = JobFinished(job=job, result=Result(notes=notes), seconds=1.0)
    return here.write(Guard().absorb(done, here.view(cycle)))


def round_of(here: Here, cycle: int, **failed: int) -> Plan:
    return probed(here, probing(here, cycle), cycle=cycle, **failed)


def measured(here: Here, adapter: str | None, *, failed: int, n: int = 240) -> list[Measurement]:
    """What the gate measured on rotating target probes of every behaviour."""
    found = [measurement(adapter, passing(n, failed), behavior=name) for name in NAMES]
    here.add(*found)
    return found


def chatter(here: Here, adapter: str | None, failed: Sequence[bool], *, name: str, per_talk: int = 1) -> None:
    """Signals about listening, so many to a conversation; failures surface the pattern node."""
    for number, bad in enumerate(failed):
        said = turn(f"{name} {number}", "ok", conversation=f"{name}-{number // per_talk}", at=here.now, adapter=adapter)
        here.add(said, signal(said, LISTENING, failed=bad, adapter=adapter))
        if bad:
            node = bundled()[LISTENING].graph_key
            id = content_id("surfacing", said.id, node)
            here.add(Surfacing(id=id, turn=said.id, node=node, score=0.9, at=said.at))


def stream(here: Here, channel: str, behavior: str) -> dict[str, Any]:
    """A stream's state as it is remembered."""
    found: dict[str, Any] = here.store.fact(FACT)["watch"]["streams"][f"{channel}/{behavior}"]
    return found


def test_a_few_rotating_probes_are_chosen_anew_each_cycle(make: Callable[..., Here]) -> None:
    """Each behaviour gets `guard.probes` target probes from the rotating split on the serving side, the same when the
    stage is planned again, others in the next cycle."""
    here = make(guard={"probes": 20})
    here.adapter("a1", state="serving")
    (job,) = Guard().plan(here.view(3)).jobs
    assert Guard().plan(here.view(3)).jobs == (job,)
    assert (job.kind, job.lane, job.payload["adapter"]) == ("guard.probe", "serve", "a1")
    for name, behavior in bundled().items():
        chosen = set(job.payload["chosen"][name])
        assert len(chosen) == 20 and chosen <= {p.id for p in behavior.select(split="rotating", kind="target")}
        assert chosen != set(Guard().plan(here.view(4)).jobs[0].payload["chosen"][name])


def test_probing_says_which_answers_failed(make: Callable[..., Here]) -> None:
    """The runner's notes hold 1.0 for every probe that the serving adapter failed, by behaviour, else 0.0."""
    here = make(guard={"probes": 40})
    here.adapter("a1", state="serving", rates={LISTENING: 1.0, NOT_RUSHING: 0.0, PUSH_BACK: 0.5})
    failed = here.run(probing(here)).result.notes["failed"]
    assert failed[LISTENING] == [1.0] * 40 and failed[NOT_RUSHING] == [0.0] * 40
    assert 8 < sum(failed[PUSH_BACK]) < 32 and set(failed[PUSH_BACK]) == {0.0, 1.0}


def test_while_the_base_serves_nothing_is_alarming(here: Here) -> None:
    """Without a promotion there is nothing to compare with: whatever fails raises no alarm, and the note says so."""
    for cycle in (1, 2, 3):
        plan = round_of(here, cycle, listening=60)
        assert plan.roll_back == "" and plan.note == "nothing to compare with yet: no adapter was promoted"
    assert here.store.count(Alarm) == 0


def test_the_first_promotion_takes_the_bases_rates_as_baseline(here: Here) -> None:
    """What the gate measured on the base, and what was observed while it served, is what an alarm means worse than."""
    measured(here, None, failed=72)
    chatter(here, None, [True, False] * 20, name="base")
    round_of(here, 1, listening=20)
    here.now += 10
    here.adapter("a1", state="serving")
    round_of(here, 2)
    probe, heard = stream(here, "probe", LISTENING), stream(here, "signal", LISTENING)
    assert probe["baseline"] == {"n": 300, "sum": 92.0} and heard["baseline"] == {"n": 40, "sum": 20.0}
    assert probe["detector"]["m0"] == pytest.approx(binomial.upper(92, 300, 0.95))
    assert probe["current"] == {"n": 60, "sum": 0.0}


def test_a_degraded_stream_alarms_and_asks_to_roll_back(here: Here) -> None:
    """An adapter that fails far more probes than the base did is rolled back: the alarm says channel, behaviour and
    evidence, and the same transaction serves the parent again."""
    measured(here, None, failed=72)
    here.adapter("a1", state="serving")
    assert round_of(here, 1, listening=15).roll_back == ""
    plan = round_of(here, 2, listening=58)
    (alarm,) = here.store.find(Alarm)
    assert (alarm.channel, alarm.behavior, alarm.adapter, alarm.cycle) == ("probe", LISTENING, "a1", 2)
    assert alarm.e_value >= alarm.threshold == here.config.guard.arl
    assert plan.roll_back.startswith("listening on the probe channel: ") and plan.note == plan.roll_back
    assert [told["event"] for told in plan.happenings] == ["alarm", "guarded"]
    assert here.store.serving() is None and here.store.adapter_state("a1") == "rolled_back"


def test_users_complaints_alone_raise_the_alarm(here: Here) -> None:
    """The signal and graph channels need no probe: complaints about a new adapter that the base did not get."""
    measured(here, None, failed=24)
    chatter(here, None, [True] + [False] * 9, name="base")
    for cycle in range(2, 6):
        chatter(here, None, [True] + [False] * 9, name=f"base{cycle}")
    round_of(here, 1, listening=6)
    here.now += 10
    here.adapter("a1", state="serving")
    chatter(here, "a1", [True] * 40, name="a1")
    plan = round_of(here, 2, listening=6)
    assert {alarm.channel for alarm in here.store.find(Alarm)} >= {"signal", "graph"}
    assert plan.roll_back and here.store.serving() is None


def test_steering_begins_the_watch_anew(make: Callable[..., Here]) -> None:
    """What is served changes with it, and no rollback undoes that: neither what was seen unsteered nor what the gate
    measured unsteered is a baseline, and a probe names the vector. Without it again the gate's measurement counts."""
    here = make()
    measured(here, None, failed=72)
    here.adapter("a1", state="serving")
    round_of(here, 1, listening=15)
    plain = here.config
    here.config = plain.model_copy(update={"serve": plain.serve.model_copy(update={"steering": [LISTENING]})})
    job = probing(here, 2)
    assert job.payload["steering"] == [str(here.config.state / "steering" / "listening.safetensors")]
    assert probed(here, job, cycle=2, listening=60).roll_back == ""
    steered = stream(here, "probe", LISTENING)
    assert steered["baseline"]["n"] == 0 and steered["current"] == {"n": 60, "sum": 60.0}
    assert round_of(here, 3, listening=60).roll_back == ""
    assert stream(here, "probe", LISTENING)["current"]["n"] == 120
    here.config = plain
    assert round_of(here, 4, listening=15).roll_back == ""
    assert stream(here, "probe", LISTENING)["baseline"] == {"n": 240, "sum": 72.0}
    assert stream(here, "probe", LISTENING)["current"]["n"] == 60


def test_probes_from_before_a_change_of_steering_are_dropped(here: Here) -> None:
    """Steering is undone while its probes are being answered: how badly they went is not held against the adapter."""
    measured(here, None, failed=72)
    here.adapter("a1", state="serving")
    plain = here.config
    here.config = plain.model_copy(update={"serve": plain.serve.model_copy(update={"steering": [LISTENING]})})
    job = probing(here, 1)
    here.config = plain
    assert probed(here, job, cycle=1, listening=60) == Plan()
    assert round_of(here, 2, listening=15).roll_back == "" and here.store.count(Alarm) == 0


def test_an_adapter_as_good_as_the_one_before_raises_no_alarm(here: Here) -> None:
    """Many cycles at the base's own rate stay quiet."""
    measured(here, None, failed=72)
    here.adapter("a1", state="serving")
    for cycle in range(1, 11):
        plan = round_of(here, cycle, listening=18, not_rushing=18, push_back=18)
        assert plan.roll_back == "" and plan.note.startswith("quiet; highest e-value ")
    assert here.store.count(Alarm) == 0


def test_with_rollback_off_it_only_tells(make: Callable[..., Here]) -> None:
    """`guard.rollback = false`: the alarm is recorded, the adapter goes on serving."""
    here = make(guard={"rollback": False})
    measured(here, None, failed=72)
    here.adapter("a1", state="serving")
    plan = round_of(here, 1, listening=60)
    assert plan.roll_back == "" and here.store.count(Alarm) == 1 and here.store.serving() == "a1"


def test_an_operators_change_meanwhile_is_respected(here: Here) -> None:
    """Probes of an adapter that no longer serves say nothing about the one that does: no alarm, nothing remembered."""
    measured(here, None, failed=24)
    here.adapter("a1", state="serving")
    job = probing(here)
    before = here.store.fact(FACT)
    here.adapter("b1", state="serving")
    plan = probed(here, job, listening=60)
    assert plan == Plan() and here.store.count(Alarm) == 0
    assert here.store.fact(FACT) == before and here.store.serving() == "b1"


def test_after_a_rollback_the_watch_starts_anew(here: Here) -> None:
    """What the failed adapter did is forgotten, and the parent is watched against the baseline it had, from zero."""
    measured(here, None, failed=72)
    here.adapter("a1", state="serving")
    round_of(here, 1, listening=18)
    here.adapter("b1", parent="a1", state="serving")
    measured(here, "a1", failed=60)
    round_of(here, 2, listening=60)
    assert here.store.serving() == "a1"
    baseline = stream(here, "probe", LISTENING)["baseline"]
    job = probing(here, 3)
    after = stream(here, "probe", LISTENING)
    assert here.store.fact(FACT)["adapter"] == "a1"
    assert after == {**after, "baseline": baseline, "current": {"n": 0, "sum": 0.0}, "detector": None}
    assert probed(here, job, cycle=3, listening=18).roll_back == ""


def test_every_signal_is_observed_once_and_a_conversation_counts_as_one(here: Here) -> None:
    """Looking again at the same signals counts nothing twice; two in a conversation are one observation, their mean."""
    here.adapter("a1", state="serving")
    chatter(here, "a1", [True, False, True, True], name="one", per_talk=2)
    round_of(here, 1)
    assert stream(here, "signal", LISTENING)["current"] == {"n": 2, "sum": 1.5}
    round_of(here, 2)
    assert stream(here, "signal", LISTENING)["current"] == {"n": 2, "sum": 1.5}
    chatter(here, "a1", [True], name="two")
    round_of(here, 3)
    assert stream(here, "signal", LISTENING)["current"] == {"n": 3, "sum": 2.5}
    assert stream(here, "graph", LISTENING)["current"] == {"n": 3, "sum": 2.5}


def test_what_was_said_to_another_adapter_or_before_is_not_observed(here: Here) -> None:
    """Only signals about the serving adapter since it began to serve count for it."""
    chatter(here, "a1", [True] * 5, name="too-early")
    here.now += 10
    here.adapter("a1", state="serving")
    chatter(here, "other", [True] * 5, name="other")
    chatter(here, "a1", [False] * 2, name="mine")
    round_of(here, 1)
    assert stream(here, "signal", LISTENING)["current"] == {"n": 2, "sum": 0.0}


def test_complaints_are_looked_at_as_soon_as_they_are_heard(here: Here) -> None:
    """Between cycles, too: the channels that need no model raise the alarm and roll back at once; the stage that
    follows counts nothing of it again."""
    chatter(here, None, [True] + [False] * 49, name="base")
    round_of(here, 1)
    here.now += 10
    here.adapter("a1", state="serving")
    chatter(here, "a1", [True] * 40, name="a1")
    plan = here.write(Guard().heard(here.view(0)))
    assert plan.jobs == () and plan.roll_back and here.store.serving() is None
    assert here.store.count(Alarm) > 0


def test_the_last_words_about_an_adapter_count_into_its_baseline(here: Here) -> None:
    """Signals that nobody had looked at when the next adapter was promoted are about the one before: they make its
    rate what an alarm means worse than, and are not held against the new one."""
    here.adapter("a1", state="serving")
    here.now += 1
    chatter(here, "a1", [True, False] * 15, name="looked-at")
    round_of(here, 1)
    here.now += 1
    chatter(here, "a1", [True] * 10, name="last-words")
    here.now += 10
    here.adapter("b1", parent="a1", state="serving")
    chatter(here, "b1", [False] * 3, name="b1")
    chatter(here, "a1", [True] * 2, name="a-straggler")
    here.write(Guard().heard(here.view(0)))
    for channel in ("signal", "graph"):
        found = stream(here, channel, LISTENING)
        assert found["baseline"] == {"n": 40, "sum": 25.0} and found["current"] == {"n": 3, "sum": 0.0}


def test_logs_that_do_not_say_who_answered_count_for_whoever_served(here: Here) -> None:
    """Signals without an adapter belong to the one that served when they were written, before and after a change."""
    here.adapter("a1", state="serving")
    here.now += 1
    chatter(here, None, [True] * 40, name="under-a1")
    here.now += 10
    here.adapter("b1", parent="a1", state="serving")
    chatter(here, None, [False] * 5, name="under-b1")
    round_of(here, 1)
    found = stream(here, "signal", LISTENING)
    assert found["current"] == {"n": 5, "sum": 0.0}
    assert found["baseline"]["n"] == 0, "the first look came after the change: who was watched before is not known"


def test_an_alarm_that_goes_on_is_told_once(make: Callable[..., Here]) -> None:
    """Without rollback an adapter that stays bad is one alarm, not one a cycle; its values stay visible."""
    here = make(guard={"rollback": False, "channels": ["probe"]})
    measured(here, None, failed=72)
    here.adapter("a1", state="serving")
    told = [[t["event"] for t in round_of(here, cycle, listening=60).happenings] for cycle in (1, 2, 3)]
    assert told == [["alarm", "guarded"], ["guarded"], ["guarded"]] and here.store.count(Alarm) == 1


def test_an_operators_choice_is_compared_with_its_own_parent(here: Here) -> None:
    """What a promoted adapter is measured against is what a rollback would bring back, not whoever served before."""
    measured(here, None, failed=24)
    here.adapter("a1", state="serving")
    measured(here, "a1", failed=120)
    round_of(here, 1, listening=30)
    here.adapter("other", state="serving")  # from the base, as a1 was
    round_of(here, 2)
    assert stream(here, "probe", LISTENING)["baseline"] == {"n": 240, "sum": 24.0}


def test_an_operators_choice_takes_over_nothing_but_the_gates_measurement(here: Here) -> None:
    """Signals and probes of whoever served before an operator's choice are not its parent's: only what the gate
    measured on the parent is a baseline, and without that there is none."""
    measured(here, None, failed=24)
    here.adapter("a1", state="serving")
    here.now += 1
    chatter(here, "a1", [True] * 40, name="a1")
    round_of(here, 1, listening=6)
    here.now += 10
    here.adapter("never-served", state="held")
    here.adapter("other", parent="never-served", state="serving")
    round_of(here, 2, listening=60)
    assert here.store.fact(FACT)["adapter"] == "other"
    assert stream(here, "probe", LISTENING)["baseline"]["n"] == 0
    assert "signal/listening" not in here.store.fact(FACT)["watch"]["streams"]
    measured(here, "never-served", failed=12, n=120)
    here.adapter("next", parent="never-served", state="serving")
    round_of(here, 3)
    assert stream(here, "probe", LISTENING)["baseline"] == {"n": 120, "sum": 12.0}


def test_another_graph_is_another_channel(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the memory graph has changed other nodes surface: the graph channel's rates are forgotten, no other's."""
    here.adapter("a1", state="serving")
    chatter(here, "a1", [True] * 3, name="c")
    round_of(here, 1)
    assert stream(here, "graph", LISTENING)["current"]["n"] == 3
    monkeypatch.setattr(type(here.view().memory), "fingerprint", lambda self: "another")
    round_of(here, 2)
    kept = here.store.fact(FACT)["watch"]["streams"]
    assert "graph/listening" not in kept and kept["signal/listening"]["current"]["n"] == 3
    chatter(here, "a1", [True] * 2, name="d")
    round_of(here, 3)
    assert stream(here, "graph", LISTENING)["current"]["n"] == 2
    assert stream(here, "signal", LISTENING)["current"]["n"] == 5


def test_without_the_probe_channel_it_looks_at_once(make: Callable[..., Here]) -> None:
    """`guard.channels` without "probe": no job is needed, and only the named channels are watched."""
    here = make(guard={"channels": ["signal"]})
    here.adapter("a1", state="serving")
    chatter(here, "a1", [True] * 3, name="c")
    plan = here.write(Guard().plan(here.view()))
    assert plan.jobs == () and set(here.store.fact(FACT)["watch"]["streams"]) == {"signal/listening"}


def test_whoever_watches_sees_the_values_and_what_is_not_armed(here: Here) -> None:
    """The happening carries each armed stream's e-value, the threshold, and a sentence for every stream without a
    baseline."""
    measured(here, None, failed=72)
    here.adapter("a1", state="serving")
    chatter(here, "a1", [True], name="c")
    (told,) = round_of(here, 1, listening=18).happenings
    assert told["threshold"] == here.config.guard.arl
    assert {(channel, name) for channel, name, _ in told["values"]} == {("probe", name) for name in NAMES}
    assert any("listening on the signal channel is not watched yet" in words for words in told["unarmed"])
    assert watch.values(here.store.fact(FACT)["watch"]).keys() == {("probe", name) for name in NAMES}

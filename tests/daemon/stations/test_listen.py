"""Listening: what grows in the logs becomes turns, surfacings and signals, once, however it arrives."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.events import JobFinished, Result
from daemon.models.nano.checker import parse
from daemon.models.nano.user import SimulatedUser
from daemon.stations.base import NOTHING
from daemon.stations.listen import Listen
from policies.records import Message, Signal, Surfacing, Turn, content_id
from tests.daemon.stations.parts import NAMES, Here, WorldModel, bundled, message, scenario

fresh_names = itertools.count()
AVOIDANCE = "pattern-listening-as-avoidance"


def talk(seed: int, conversation: str, adapter: str | None = "a1") -> list[Message]:
    """A conversation of the simulated user with a model that fails half of the time."""
    model = WorldModel(dict.fromkeys(NAMES, 0.5))
    user = SimulatedUser(seed, dict.fromkeys(NAMES, 1.0))
    dice = random.Random(seed)
    said: str | None = user.open()
    found: list[Message] = []
    while said is not None and len(found) < 8:
        answer = model._said(said, dice.random() < 0.5)
        found.append(message("user", said, len(found), conversation=conversation))
        found.append(message("assistant", answer, len(found), conversation=conversation, adapter=adapter))
        said = user.react(said, answer)
    found.append(message("user", said or "thanks. that is all.", len(found), conversation=conversation))
    return found


def hear(here: Here, messages: Sequence[Message]) -> None:
    """One reading of a log file, as the loop stores it."""
    with here.store.transaction() as tx:
        fresh = tx.fresh(*messages)
        tx.add(*fresh)
        tx.add(*Listen().hear(fresh, here.view(0)).records)


def heard(here: Here, conversations: Sequence[str]) -> dict[str, list[tuple[object, ...]]]:
    """What is known of each conversation, without the names and ids that depend on what it is called."""
    found: dict[str, list[tuple[object, ...]]] = {}
    for name in conversations:
        rows: list[tuple[object, ...]] = []
        for t in here.store.find(Turn, conversation=name):
            rows.append(("turn", t.index, t.context, t.user, t.assistant, t.at, t.adapter))
            rows += [("signal", t.index, s.behavior, s.failed, s.evidence) for s in here.store.find(Signal, turn=t.id)]
            rows += [("node", t.index, s.node, s.score) for s in here.store.find(Surfacing, turn=t.id)]
        found[name.rpartition("/")[2]] = sorted(rows, key=repr)
    return found


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seeds=st.lists(st.integers(0, 50), min_size=1, max_size=3, unique=True), data=st.data())
def test_any_split_into_reads_and_any_replay_gives_the_same(here: Here, seeds: list[int], data: st.DataObject) -> None:
    """However the lines are cut into reads, and however often a stretch is read again, the same turns, surfacings and
    signals are known as after one reading of everything."""
    once, cut = f"{next(fresh_names)}", f"{next(fresh_names)}"

    def lines(prefix: str) -> list[Message]:
        talks = [talk(seed, f"{prefix}/{seed}") for seed in seeds]
        return [m for row in itertools.zip_longest(*talks) for m in row if m is not None]

    whole, pieces = lines(once), lines(cut)
    hear(here, whole)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(pieces)), max_size=6)))
    for start, end in itertools.pairwise([0, *cuts, len(pieces)]):
        back = data.draw(st.integers(0, start))  # a copied or truncated file is read from further back
        hear(here, pieces[back:end])
    first, second = heard(here, [f"{once}/{s}" for s in seeds]), heard(here, [f"{cut}/{s}" for s in seeds])
    assert first == second
    assert all(first.values())
    before = [here.store.count(kind) for kind in (Message, Turn, Signal, Surfacing)]
    hear(here, whole)
    hear(here, pieces)
    assert [here.store.count(kind) for kind in (Message, Turn, Signal, Surfacing)] == before


def test_a_turn_is_heard_when_the_user_speaks_again(here: Here) -> None:
    """An answer that nobody reacted to yet is no turn; the reaction makes it one, with its signal."""
    request = "just edit the parser with vim."
    asked = [
        message("user", request, 0),
        message("assistant", "ok. have you considered sed? it is faster. i suggest sed.", 1, adapter="a1"),
    ]
    hear(here, asked)
    assert here.store.count(Turn) == 0
    hear(here, [message("user", "no. i said use vim.", 2)])
    (found,) = here.store.find(Signal)
    assert (found.behavior, found.failed, found.evidence) == ("listening", True, "no. i said use")
    assert here.store.get(Turn, found.turn).user == request  # type: ignore[union-attr]


def test_signals_and_turns_carry_the_adapter_that_answered(here: Here) -> None:
    """The same talk with two adapters and with the base: each signal names whose answer it is about."""
    for adapter in ("a1", "b2", None):
        hear(here, talk(3, f"with-{adapter}", adapter))
    by_adapter = {
        adapter: [(s.behavior, s.failed) for s in here.store.find(Signal, adapter=adapter)]
        for adapter in ("a1", "b2", None)
    }
    assert by_adapter["a1"] and by_adapter["a1"] == by_adapter["b2"] == by_adapter[None]
    for turn in here.store.find(Turn):
        assert turn.conversation == f"with-{turn.adapter}"


def test_each_turn_surfaces_the_memories_it_brings_up(make: Callable[..., Here]) -> None:
    """A turn in which the assistant evades a direction surfaces the pattern node, and no more nodes than asked for."""
    here = make(graph={"surfaced": 2, "threshold": 0.1})
    for number in range(8):
        text = scenario("listening", number)
        means = parse(text).means  # type: ignore[union-attr]
        name = f"c{number}"
        hear(
            here,
            [
                message("user", text, 0, conversation=name),
                message("assistant", here.model._said(text, good=False), 1, conversation=name),
                message("user", f"i did not ask for something else. use {means}.", 2, conversation=name),
            ],
        )
    turns = here.store.find(Turn)
    assert len(turns) == 8
    surfaced = [here.store.find(Surfacing, turn=t.id) for t in turns]
    assert all(1 <= len(found) <= 2 and all(0.1 <= s.score <= 1 for s in found) for found in surfaced)
    assert sum(any(s.node == AVOIDANCE for s in found) for found in surfaced) >= 6


def test_a_higher_threshold_surfaces_less(make: Callable[..., Here]) -> None:
    """Nodes that match less than `graph.threshold` are not surfaced."""
    here = make(graph={"threshold": 1.0})
    hear(here, talk(1, "c"))
    assert here.store.count(Turn) > 0 and here.store.count(Surfacing) == 0


def test_nothing_new_means_nothing(here: Here) -> None:
    """An empty reading plans nothing."""
    assert Listen().hear([], here.view(0)) is NOTHING


def test_whoever_watches_is_told_the_last_turn_and_the_rates(here: Here) -> None:
    """The happening shows the newest turn; the note counts turns and failures per behaviour."""
    messages = [
        message("user", "just edit the parser with vim.", 0),
        message("assistant", "ok. i suggest sed.", 1, adapter="a1"),
        message("user", "no. i said use vim.", 2),
        message("assistant", "sorry. using vim as you said to edit the parser.", 3, adapter="a1"),
        message("user", "thanks. that is all.", 4),
    ]
    with here.store.transaction() as tx:
        tx.add(*messages)
        plan = Listen().hear(messages, here.view(0))
    (told,) = plan.happenings
    assert told["event"] == "traffic" and told["user"] == "no. i said use vim." and told["adapter"] == "a1"
    assert plan.note.startswith("2 new turns: listening failed 1 of ")


def test_a_conversation_that_goes_on_tells_only_its_new_turns(here: Here) -> None:
    """Turns that are known already are not announced again when their conversation grows."""
    messages = talk(3, "c")
    messages += [
        message("assistant", "you are welcome.", len(messages), conversation="c", adapter="a1"),
        message("user", "one more thing then.", len(messages) + 1, conversation="c"),
    ]
    hear(here, messages[:-2])
    known = {t.id for t in here.store.find(Turn)}
    assert known
    with here.store.transaction() as tx:
        tx.add(*messages[-2:])
        plan = Listen().hear(messages[-2:], here.view(0))
    (new,) = (record for record in plan.records if isinstance(record, Turn))
    assert new.id not in known and plan.happenings[0]["assistant"] == "you are welcome."
    assert plan.note.startswith("1 new turns")


def test_a_rotated_log_goes_on_with_the_conversation(here: Here) -> None:
    """Places in a log begin anew when it is rotated: a conversation that goes on in the next file keeps the turns it
    had, and its new ones follow them, with the context and the numbers that one long file would have given."""
    whole = [
        *talk(3, "c"),
        message("assistant", "you are welcome.", 9, conversation="c", adapter="a1"),
        message("user", "one more thing then.", 10, conversation="c"),
        message("assistant", "yes?", 11, conversation="c", adapter="a1"),
        message("user", "thanks.", 12, conversation="c"),
    ]
    hear(here, whole[:5])
    before = [t.id for t in here.store.find(Turn, conversation="c", order_by="seq")]
    assert len(before) == 2
    rotated = [
        replace(m, id=content_id("rotated", m.id), order=place, source="log.jsonl.1")
        for place, m in enumerate(whole[5:])
    ]
    hear(here, rotated[:3])
    hear(here, rotated)
    found = here.store.find(Turn, conversation="c", order_by="seq")
    assert [t.id for t in found[:2]] == before and [t.index for t in found] == list(range(len(found)))
    hear(here, [replace(m, id=content_id("one", m.id), conversation="one file") for m in whole])
    alone = here.store.find(Turn, conversation="one file", order_by="seq")
    assert [(t.user, t.assistant, t.context) for t in found] == [(t.user, t.assistant, t.context) for t in alone]
    reasons = [[(s.behavior, s.failed) for s in here.store.find(Signal, turn=t.id)] for t in (*found, *alone)]
    assert reasons[: len(found)] == reasons[len(found) :]


def test_as_a_stage_it_lets_the_simulated_user_talk(make: Callable[..., Here]) -> None:
    """With traffic the stage is one job on the serving side, the same when it is planned again, and the logs are read
    once more when it is done."""
    here = make(traffic={"enabled": True, "conversations": 5})
    here.adapter("a1", state="serving")
    view = here.view(7)
    (job,) = Listen().plan(view).jobs
    assert Listen().plan(view).jobs == (job,)
    assert Listen().plan(here.view(8)).jobs[0].payload["seed"] != job.payload["seed"]
    assert (job.kind, job.lane) == ("traffic.simulate", "serve")
    assert job.payload["adapter"] == "a1" and Path(job.payload["adapter_folder"]).is_dir()
    assert job.payload["conversations"] == 5
    assert Path(job.payload["folder"]).is_relative_to(here.config.state / "logs")
    assert Listen().absorb(JobFinished(job=job, result=Result(), seconds=1.0), view).rescan


def test_without_traffic_the_stage_reads_the_logs(here: Here) -> None:
    """Nothing is simulated on somebody's own logs: they are read once more."""
    plan = Listen().plan(here.view())
    assert plan.jobs == () and plan.rescan


def test_every_bundled_behaviour_is_heard_failing_and_succeeding(here: Here) -> None:
    """For each behaviour the simulated user's reactions give signals, and they agree with the judge's reading."""
    for seed in range(24):
        hear(here, talk(seed, f"c{seed}"))
    for name in bundled():
        heard = here.store.find(Signal, behavior=name)
        assert {s.failed for s in heard} == {True, False}, name

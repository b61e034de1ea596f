"""Advice: proposed, accepted, rejected, undone. Real store, real configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from daemon.advising import Advising
from daemon.config import build
from daemon.errors import DreamloopError, StoreError
from daemon.events import Job
from daemon.experiments.base import advice
from daemon.settings import CannotApply, Settings
from daemon.store.store import Store
from daemon.store.transaction import Transaction
from policies.records import Advice, AdviceStep, Finding, content_id
from tests.daemon.stations.parts import Here


def finding(question: str = "q4", at: float = 1.0) -> Finding:
    return Finding(
        id=content_id(question, at), question=question, behavior="listening", adapter=None, size="quick",
        verdict="explicit detection is needed", sentence="The probes see it first.", estimate=2.0, low=1.5, high=3.0,
        n=10, seconds=1.0, evidence={}, at=at,
    )  # fmt: skip


class Bureau:
    """The advice of one state folder."""

    def __init__(self, folder: Path, store: Store, **sections: dict[str, Any]) -> None:
        self.store = store
        self.settings = Settings(build(sections, file=folder / "config.toml"), store.fact("overrides"))
        self.told: list[Mapping[str, Any]] = []
        self.now = 10.0
        self.advising = Advising(store, self.settings, clock=lambda: self.now, tell=self.told.append, check=self.check)
        self.refused = ""

    def check(self, key: str, value: Any) -> None:
        if self.refused:
            raise DreamloopError(self.refused)

    def advise(self, key: str = "guard.channels", value: Any = ("probe",), at: float = 1.0) -> Advice:
        found = finding(at=at)
        made = advice(found, key, list(value) if isinstance(value, tuple) else value, "the probes see it first")
        with self.store.transaction() as tx:
            tx.add(found, made)
        return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path / 'dreamloop.db'}") as opened:
        yield opened


@pytest.fixture
def bureau(tmp_path: Path, store: Store) -> Bureau:
    return Bureau(tmp_path, store)


def states(bureau: Bureau) -> list[tuple[str, str]]:
    return [(row["key"], row["state"]) for row in bureau.advising.rows()]


def test_what_a_finding_advises_is_proposed(bureau: Bureau) -> None:
    """It is listed with what is configured now, what is wished, and the evidence; nothing changes by itself."""
    bureau.advise()
    (row,) = bureau.advising.rows()
    assert (row["state"], row["value"], row["current"]) == ("proposed", ["probe"], ["graph", "signal", "probe"])
    assert row["question"] == "q4" and row["evidence"] == "the probes see it first"
    assert bureau.settings.overrides == {}


def test_advice_for_what_is_configured_is_a_confirmation(bureau: Bureau) -> None:
    """An answer that finds the present value right waits for nobody."""
    bureau.advise("dream.temperature", 0.7)
    assert states(bureau) == [("dream.temperature", "confirmed")]


def test_a_newer_answer_replaces_an_open_proposal(bureau: Bureau) -> None:
    """Of two open proposals about one key only the newer is shown."""
    bureau.advise(at=1.0)
    newer = bureau.advise(value=("signal", "probe"), at=2.0)
    assert [row["id"] for row in bureau.advising.rows()] == [newer.id]


def test_accepting_sets_the_key_and_keeps_the_step(bureau: Bureau) -> None:
    """The key changes, the step is stored with what was before, it is told, and the next start knows it."""
    made = bureau.advise()
    done = bureau.advising.accept(made.id[:6])
    assert done["before"] == ["graph", "signal", "probe"] and done["value"] == ["probe"]
    assert bureau.settings.config.guard.channels == ["probe"]
    (step,) = bureau.store.find(AdviceStep)
    assert (step.step, step.by, step.before) == ("accepted", "operator", '["graph", "signal", "probe"]')
    assert bureau.told[-1]["event"] == "advice"
    assert Bureau(bureau.settings.file.file.parent, bureau.store).settings.config.guard.channels == ["probe"]


def test_undoing_puts_back_what_was(bureau: Bureau) -> None:
    """After an undo the file's value holds again, also after a restart, and the history has both steps."""
    bureau.advise()
    bureau.advising.accept("guard.channels")
    bureau.advising.undo("guard.channels")
    assert bureau.settings.config.guard.channels == ["graph", "signal", "probe"]
    assert states(bureau) == [("guard.channels", "undone")]
    assert [step.step for step in bureau.store.find(AdviceStep, order_by="seq")] == ["accepted", "undone"]
    assert bureau.store.fact("overrides") == {}


def test_an_undone_advice_can_be_accepted_again(bureau: Bureau) -> None:
    """Minds change: every step is one more row."""
    bureau.advise()
    for act in (bureau.advising.accept, bureau.advising.undo, bureau.advising.accept):
        act("guard.channels")
    assert bureau.settings.config.guard.channels == ["probe"]
    assert bureau.store.count(AdviceStep) == 3


def test_rejecting_leaves_the_key(bureau: Bureau) -> None:
    """A rejected advice changes nothing and is shown as rejected."""
    bureau.advise()
    bureau.advising.reject("guard.channels")
    assert states(bureau) == [("guard.channels", "rejected")] and bureau.settings.overrides == {}


@pytest.mark.parametrize(("act", "words"), [("accept", "accepted"), ("reject", "accepted")])
def test_what_was_accepted_is_not_accepted_or_rejected_again(bureau: Bureau, act: str, words: str) -> None:
    """The way back is undo, and the message says so."""
    made = bureau.advise()
    bureau.advising.accept(made.id)
    with pytest.raises(DreamloopError, match=f"{words}.*dreamctl advice undo"):
        getattr(bureau.advising, act)(made.id)


def test_there_is_nothing_to_undo_before_accepting(bureau: Bureau) -> None:
    """Undoing what was never done is refused."""
    bureau.advise()
    with pytest.raises(DreamloopError, match="nothing to undo"):
        bureau.advising.undo("guard.channels")


def test_an_unknown_name_is_answered_with_the_remedy(bureau: Bureau) -> None:
    """A wrong id or key says where the right ones are."""
    with pytest.raises(DreamloopError, match="dreamctl advice"):
        bureau.advising.accept("learn.rnak")


def test_an_adapters_shape_is_not_changed_under_it(tmp_path: Path, store: Store, bureau: Bureau) -> None:
    """With adapters in the state, advice about their shape is refused with what to do instead, and stays proposed."""
    Here(tmp_path, store).adapter("one")
    bureau.advise("learn.rank", 4)
    with pytest.raises(CannotApply, match="new state folder"):
        bureau.advising.accept("learn.rank")
    assert states(bureau) == [("learn.rank", "proposed")]


def test_a_check_can_refuse(bureau: Bureau) -> None:
    """What only this state folder knows (a vector that is not there) refuses an acceptance, and nothing changes."""
    bureau.refused = "there is no vector"
    bureau.advise()
    with pytest.raises(DreamloopError, match="no vector"):
        bureau.advising.accept("guard.channels")
    assert bureau.settings.overrides == {} and bureau.store.count(AdviceStep) == 0


def test_auto_applies_what_can_be_applied(tmp_path: Path, store: Store) -> None:
    """With `experiments.apply` = "auto" new advice is accepted by itself, what cannot be is left as proposed."""
    bureau = Bureau(tmp_path, store, experiments={"apply": "auto"})
    Here(tmp_path, store).adapter("one")
    made = [bureau.advise(), bureau.advise("learn.rank", 4, at=2.0)]
    assert bureau.advising.applied(made) == ["guard.channels"]
    assert sorted(states(bureau)) == [("guard.channels", "accepted"), ("learn.rank", "proposed")]
    assert store.find(AdviceStep)[0].by == "auto"


def test_propose_applies_nothing(bureau: Bureau) -> None:
    """The default only proposes."""
    assert bureau.advising.applied([bureau.advise()]) == []
    assert states(bureau) == [("guard.channels", "proposed")]


def test_a_key_names_the_advice_that_an_act_can_be_done_to(bureau: Bureau) -> None:
    """With an accepted advice and a newer proposal about one key, undo means the former and accept the latter."""
    bureau.advise("learn.minimum", 30)
    bureau.advising.accept("learn.minimum")
    bureau.advise("learn.minimum", 40, at=2.0)
    bureau.advising.undo("learn.minimum")
    assert bureau.settings.config.learn.minimum == 24
    bureau.advising.accept("learn.minimum")
    assert bureau.settings.config.learn.minimum == 40


@pytest.mark.parametrize("act", ["accept", "reject"])
def test_an_older_proposal_does_not_come_back(bureau: Bureau, act: str) -> None:
    """Once a later answer's advice about the key was decided, the earlier answer is not proposed again."""
    bureau.advise("learn.minimum", 30)
    bureau.advise("learn.minimum", 40, at=2.0)
    getattr(bureau.advising, act)("learn.minimum")
    assert states(bureau) == [("learn.minimum", f"{act}ed")]


def test_advice_about_one_key_is_undone_from_the_latest_back(bureau: Bureau) -> None:
    """Undoing an earlier advice under a later one is refused with which to undo first; then both go, in order."""
    first = bureau.advise("learn.minimum", 30)
    bureau.advising.accept(first.id)
    second = bureau.advise("learn.minimum", 40, at=2.0)
    bureau.advising.accept(second.id)
    with pytest.raises(DreamloopError, match=f"dreamctl advice undo {second.id[:8]}"):
        bureau.advising.undo(first.id)
    bureau.advising.undo(second.id)
    assert bureau.settings.config.learn.minimum == 30
    bureau.advising.undo(first.id)
    assert bureau.settings.config.learn.minimum == 24 and bureau.settings.overrides == {}


def test_undoing_leaves_a_file_that_was_edited_since(tmp_path: Path, store: Store, bureau: Bureau) -> None:
    """The person who edited the file has decided; an advice from before is said to be not in force, and is closed."""
    bureau.advise("learn.minimum", 30)
    bureau.advising.accept("learn.minimum")
    edited = Bureau(tmp_path, store, learn={"minimum": 50})
    assert "not in force" in edited.advising.rows()[0]["note"]
    done = edited.advising.undo("learn.minimum")
    assert (done["value"], done["before"], edited.settings.config.learn.minimum) == (50, 50, 50)
    assert states(edited) == [("learn.minimum", "undone")] and edited.settings.overrides == {}


def test_what_is_not_in_force_any_more_can_be_accepted_again(tmp_path: Path, store: Store, bureau: Bureau) -> None:
    """After the file was edited, the same advice may be accepted over what it says now."""
    bureau.advise("learn.minimum", 30)
    bureau.advising.accept("learn.minimum")
    edited = Bureau(tmp_path, store, learn={"minimum": 50})
    assert edited.advising.accept("learn.minimum")["before"] == 50
    assert edited.settings.config.learn.minimum == 30


def test_an_override_that_the_file_ended_does_not_come_back(tmp_path: Path, store: Store, bureau: Bureau) -> None:
    """The file edited, a start, and the file edited back: the file's value holds."""
    bureau.advise("learn.minimum", 30)
    bureau.advising.accept("learn.minimum")
    Bureau(tmp_path, store, learn={"minimum": 50}).advising.forget()
    assert Bureau(tmp_path, store).settings.config.learn.minimum == 24


def test_an_adapters_shape_is_not_changed_back_under_it(tmp_path: Path, store: Store, bureau: Bureau) -> None:
    """Accepted before there were adapters, it cannot be undone once there are: the line has that shape."""
    bureau.advise("learn.rank", 4)
    bureau.advising.accept("learn.rank")
    Here(tmp_path, store).adapter("one")
    with pytest.raises(CannotApply, match="new state folder"):
        bureau.advising.undo("learn.rank")
    assert bureau.settings.config.learn.rank == 4 and states(bureau) == [("learn.rank", "accepted")]


def test_an_adapter_in_training_has_its_shape_already(store: Store, bureau: Bureau) -> None:
    """While the first adapter is being trained its shape is not changed, for the next one is trained on from it."""
    with store.transaction() as tx:
        tx.enqueue(Job.make("learn.update", lane="train", cycle=1))
    bureau.advise("learn.rank", 4)
    with pytest.raises(CannotApply, match="new state folder"):
        bureau.advising.accept("learn.rank")


def test_a_step_that_is_not_kept_changes_nothing(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that refuses leaves settings and store as they were, and nothing is told of a change."""

    def refuse(self: Transaction, key: str, value: Any) -> None:
        raise StoreError("the disk is full")

    changed: list[object] = []
    bureau.settings.changed = changed.append
    bureau.advise()
    monkeypatch.setattr(Transaction, "set_fact", refuse)
    with pytest.raises(StoreError):
        bureau.advising.accept("guard.channels")
    assert bureau.settings.config.guard.channels == ["graph", "signal", "probe"]
    assert bureau.settings.overrides == {} and changed == [] and states(bureau) == [("guard.channels", "proposed")]


def test_advice_about_a_key_of_an_older_version_is_passed_over(bureau: Bureau) -> None:
    """A key that this version does not have hides its own advice, not everybody's."""
    bureau.advise("learn.cadence", 3)
    bureau.advise(at=2.0)
    assert states(bureau) == [("guard.channels", "proposed")]

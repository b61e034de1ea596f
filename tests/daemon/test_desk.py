"""The desk: what an operator sees and may do, on a real store and loop; only the worker is played by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from daemon.advising import Advising
from daemon.asking import Asking
from daemon.config import ScheduleSection
from daemon.control.feed import Feed
from daemon.control.render import status_lines
from daemon.desk import CHAT_MESSAGES, Desk
from daemon.errors import AdapterError, ConfigError, DreamloopError
from daemon.events import STAGES, Job, JobFailed, JobFinished, Lane, Progress, Result, Stop
from daemon.intake.reader import read_new
from daemon.loop import Loop
from daemon.schedule import Schedule
from daemon.settings import Settings
from daemon.stations.listen import Listen
from daemon.store.store import Store
from policies.records import Alarm, Message, Verdict
from tests.daemon.stations.parts import Here, bundled, measurement, passing, signal, turn

STATUS = {
    *("pid", "state", "version", "since", "paused", "cycle", "jobs", "serving", "behaviors", "last_verdict", "alarms"),
    *("turns", "dreams", "examples", "adapters", "problems", "next", "metrics", "servers"),
}


class Worker:
    """An executor that answers a chat as soon as it is asked, or says why not."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.answer: str | None = "hello"
        self.reply: Callable[[JobFinished | JobFailed], None] = lambda event: None

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        if job.kind != "chat.answer":
            return
        if self.answer is None:
            self.reply(JobFailed(job=job, error="the worker is out of memory", seconds=0.1))
        else:
            self.reply(JobFinished(job=job, result=Result(notes={"answer": self.answer}), seconds=0.1))

    def cancel(self, job_id: str) -> None:
        return None

    def pause(self, paused: bool) -> None:
        return None

    def busy(self, lane: Lane) -> bool:
        return False

    def close(self) -> None:
        return None


class Office:
    """A desk with everything around it."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.here = Here(folder, store)
        self.store = store
        self.worker = Worker()
        self.told: list[dict[str, Any]] = []
        self.loop = Loop(
            config=self.here.config,
            store=store,
            executor=self.worker,
            stations={},
            watcher=None,  # type: ignore[arg-type]
            look=self.here.view,
            tell=lambda happening: self.told.append(dict(happening)),
            clock=lambda: self.here.now,
        )
        self.worker.reply = self.loop._handle
        self.desk = self.another()

    def another(self) -> Desk:
        """A desk as a daemon that has just started would have it."""
        nothing: Callable[..., None] = lambda *_: None  # noqa: E731
        settings = Settings(self.here.config, self.store.fact("overrides"))
        self.told: list[Mapping[str, Any]] = []
        return Desk(
            settings=settings,
            store=self.store,
            loop=self.loop,
            schedule=Schedule(ScheduleSection(cycle="manual"), due=nothing, rest=nothing, idle_seconds=lambda: 0.0),
            feed=Feed(),
            behaviors=bundled(),
            asking=Asking(),
            advising=Advising(self.store, settings, clock=self.loop.clock, tell=self.told.append),
            metrics_url="http://127.0.0.1:9/metrics",
            problems=lambda: ["a log cannot be read"],
        )

    def chat(self, conversation: str | None, text: str, desk: Desk | None = None) -> dict[str, Any]:
        return asyncio.run((desk or self.desk).chat(conversation, text))

    def log(self, conversation: str) -> Path:
        return self.here.config.state / "logs" / "chat" / f"{conversation}.jsonl"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """A desk on an empty store."""
    with Store.open(f"sqlite:///{tmp_path / 'state' / 'dreamloop.db'}") as store:
        yield Office(tmp_path, store)


# --- looking


def test_status_says_everything_there_is_as_plain_data(office: Office) -> None:
    """Before anything happened every key is there, the base serves, and it goes through JSON."""
    status = office.desk.status()
    assert set(status) == STATUS and json.loads(json.dumps(status, allow_nan=False)) == status
    assert status["state"] == "waiting" and status["serving"] == {"adapter": None, "since": None}
    assert status["last_verdict"] is None and status["alarms"] == [] and status["cycle"] is None
    assert set(status["behaviors"]) == set(bundled()) and status["problems"] == ["a log cannot be read"]


def test_state_says_what_the_daemon_is_about(office: Office) -> None:
    """Waiting, running a cycle, paused (which wins), stopping (which wins over that)."""
    with office.store.transaction() as tx:
        tx.set_stage(tx.open_cycle("test", STAGES, 1.0), "dream", 2.0)
    status = office.desk.status()
    assert status["state"] == "running"
    assert status["cycle"] == {"id": 1, "stage": "dream", "stages": list(STAGES), "why": "test"}
    office.desk.pause()
    assert office.desk.status()["state"] == "paused" and office.desk.status()["paused"] == ["operator"]
    office.loop._handle(Stop(why="test"))
    assert office.desk.status()["state"] == "stopping"
    office.desk.resume()
    assert office.desk.status()["paused"] == []


def test_running_jobs_show_their_progress(office: Office) -> None:
    """A job that has not reported yet has done nothing of nothing; later its newest progress is shown."""
    job = Job.make("dream.write", lane="train", cycle=1)
    office.loop.running[job.id] = (job, office.here.now - 5)
    (told,) = office.desk.status()["jobs"]
    assert told == {
        "id": job.id,
        "kind": "dream.write",
        "lane": "train",
        "done": 0,
        "total": 0,
        "note": "",
        "seconds": 5,
        "asked": False,
    }
    office.loop._handle(Progress(job=job.id, kind=job.kind, done=3, total=8, note="dreaming"))
    (told,) = office.desk.status()["jobs"]
    assert (told["done"], told["total"], told["note"]) == (3, 8, "dreaming")


def test_a_question_that_waits_is_shown_with_its_id(office: Office) -> None:
    """Asked while paused and detached, it can still be found, and so be cancelled; cancelled it is not shown."""
    office.desk.pause()
    asked = office.desk.ask("q1", "quick", None)
    (told,) = office.desk.status()["jobs"]
    assert (told["id"], told["note"], told["asked"]) == (asked["job"], "waiting", True)
    assert f"`dreamctl cancel {asked['job']}`" in "\n".join(status_lines(office.desk.status()))
    assert office.desk.cancel(asked["job"]) and office.desk.status()["jobs"] == []


def test_rates_come_from_users_until_there_is_a_measurement(office: Office) -> None:
    """At first users' reactions to who serves; then rotating probes: the serving adapter's beside the base's, and the
    way there along its own line, rejected adapters left out."""
    assert office.desk.status()["behaviors"]["listening"]["rate"] is None
    for number in range(4):
        said = turn(f"request {number}", "ok")
        office.here.add(said, signal(said, "listening", failed=number == 0))
    told = office.desk.status()["behaviors"]["listening"]
    assert (told["failures"], told["n"], told["rate"], told["source"]) == (1, 4, 0.25, "users' reactions")
    office.here.adapter("a1", state="serving")
    office.here.adapter("b1", parent="a1", state="rejected")
    for at, (adapter, failed) in enumerate([(None, 40), ("a1", 20), ("b1", 90)]):
        office.here.add(measurement(adapter, passing(100, failed), at=float(at)))
    told = office.desk.status()["behaviors"]["listening"]
    assert (told["failures"], told["n"], told["rate"], told["source"]) == (20, 100, 0.2, "rotating probes")
    assert told["base"] == pytest.approx(0.4) and told["history"] == pytest.approx([0.4, 0.2])
    assert told["low"] < 0.2 < told["high"]


def test_the_last_verdict_and_alarms_are_shown(office: Office) -> None:
    """The newest verdict with its reasons, and the last three alarms, newest first."""
    for number in range(2):
        office.here.add(Verdict(id=f"v{number}", adapter=f"a{number}", parent=None, decision="hold", reasons=("so",),
                                cycle=1, at=float(number)))  # fmt: skip
    for number in range(4):
        office.here.add(Alarm(id=f"x{number}", channel="probe", behavior="listening", adapter="a1", e_value=9.0,
                              threshold=5.0, cycle=1, at=float(number)))  # fmt: skip
    status = office.desk.status()
    assert status["last_verdict"] == {"adapter": "a1", "decision": "hold", "reasons": ["so"]}
    assert [alarm["at"] for alarm in status["alarms"]] == [3.0, 2.0, 1.0]


def test_report_adapters_and_config_are_plain_data(office: Office) -> None:
    """All three go through JSON as they are; the configuration is the effective one."""
    office.here.adapter("a1", state="serving")
    for told in (office.desk.report(), office.desk.adapters(), office.desk.config()):
        assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert office.desk.report()["serving"] == "a1" and office.desk.adapters()[0]["id"] == "a1"
    assert office.desk.config()["learn"]["minimum"] == office.here.config.learn.minimum


# --- acting


def test_asking_for_a_stage_or_a_cycle(office: Office) -> None:
    """It waits its turn in the inbox, and the note says when: now, after the running cycle, or once resumed."""

    async def go() -> None:
        office.loop._aio = asyncio.get_running_loop()
        assert office.desk.run("dream") == {"cycle": None, "queued": ["dream"], "note": "now"}
        with office.store.transaction() as tx:
            tx.open_cycle("test", STAGES, 1.0)
        office.desk.pause()
        asked = office.desk.run("cycle")
        assert asked["queued"] == list(STAGES) and asked["cycle"] == 1
        assert asked["note"].startswith("after cycle 1; paused") and "dreamctl resume" in asked["note"]
        due = [await office.loop.inbox.get() for _ in range(2)]
        assert [event.stages for event in due] == [("dream",), STAGES]  # type: ignore[union-attr]

    asyncio.run(go())


def test_an_operator_may_overrule_the_gate(office: Office) -> None:
    """A held adapter is promoted on the operator's word: it serves from now, the one before is retired, and whoever
    watches is told."""
    office.here.adapter("a1", state="serving")
    office.here.adapter("b1", parent="a1", state="held")
    office.here.now = 2000.0
    assert office.desk.promote("b1") == {"serving": "b1", "before": "a1"}
    assert office.desk.status()["serving"] == {"adapter": "b1", "since": 2000.0}
    assert office.store.adapter_states() == {"a1": "retired", "b1": "serving"}
    assert {"event": "serving", "adapter": "b1", "why": "the operator promoted it"} in office.told
    assert office.desk.promote("a1") == {"serving": "a1", "before": "b1"}


def test_what_cannot_be_promoted_is_refused_with_the_reason(office: Office) -> None:
    """Nobody of that name, one that was not judged yet, one that serves already: each says what to do, and nothing
    changes."""
    office.here.adapter("a1", state="serving")
    office.here.adapter("b1", parent="a1")
    with pytest.raises(DreamloopError, match=r"no adapter nobody; `dreamctl adapters` lists them"):
        office.desk.promote("nobody")
    with pytest.raises(AdapterError, match=r"b1 was not judged yet; run `dreamctl run judge` first"):
        office.desk.promote("b1")
    with pytest.raises(DreamloopError, match=r"a1 is serving already"):
        office.desk.promote("a1")
    assert office.store.adapter_states() == {"a1": "serving", "b1": "trained"}


def test_a_rollback_serves_the_parent_and_then_the_base(office: Office) -> None:
    """With or without its name the serving adapter is taken back; what served before it serves again."""
    office.here.adapter("a1", state="serving")
    office.here.adapter("b1", parent="a1", state="serving")
    office.here.now = 3000.0
    assert office.desk.rollback("b1") == {"serving": "a1", "before": "b1"}
    assert office.desk.rollback(None) == {"serving": None, "before": "a1"}
    assert office.store.adapter_states() == {"a1": "rolled_back", "b1": "rolled_back"}
    assert office.desk.status()["serving"] == {"adapter": None, "since": 3000.0}
    assert [told["adapter"] for told in office.told if told["event"] == "serving"] == ["a1", None]


def test_what_cannot_be_rolled_back_is_refused_with_the_reason(office: Office) -> None:
    """The base has no parent; an adapter that does not serve cannot be taken back."""
    with pytest.raises(DreamloopError, match="the base model is serving; there is nothing to roll back"):
        office.desk.rollback(None)
    office.here.adapter("a1", state="serving")
    with pytest.raises(DreamloopError, match=r"other is not serving \(that is a1\).*dreamctl promote"):
        office.desk.rollback("other")
    assert office.store.serving() == "a1"


# --- talking


def test_a_chat_is_logged_so_that_it_can_be_learned_from(office: Office) -> None:
    """Question and answer stand in a watched folder as lines that the intake reads back: one conversation, the answer
    by the adapter that gave it; the next message makes the pair a turn."""
    adapter = office.here.adapter("a1", state="serving")
    told = office.chat("me", "hé, who are you?")
    assert told == {"conversation": "me", "answer": "hello", "adapter": "a1"}
    assert office.worker.jobs[0].payload["adapter_folder"] == str(office.here.config.state / adapter.folder)
    assert office.worker.jobs[0].lane == "serve"
    office.chat("me", "thanks, that is all.")
    read = read_new(office.log("me"), lambda _: 0)
    assert read is not None and not read.skipped and read.format == "openai_chat"
    assert [(m.conversation, m.role, m.text, m.adapter) for m in read.messages] == [
        ("me", "user", "hé, who are you?", None),
        ("me", "assistant", "hello", "a1"),
        ("me", "user", "thanks, that is all.", None),
        ("me", "assistant", "hello", "a1"),
    ]
    with office.store.transaction() as tx:
        tx.add(*read.messages)
        plan = Listen().hear(read.messages, office.here.view(0))
    assert [(t.user, t.assistant, t.adapter) for t in plan.records[:1]] == [("hé, who are you?", "hello", "a1")]
    assert office.store.count(Message) == 4


def test_the_base_answers_while_no_adapter_serves(office: Office) -> None:
    """No folder is given to the worker, and the log names no adapter."""
    assert office.chat("me", "hi")["adapter"] is None
    assert office.worker.jobs[0].payload["adapter_folder"] is None
    assert {m.adapter for m in read_new(office.log("me"), lambda _: 0).messages} == {None}  # type: ignore[union-attr]


def test_a_chat_is_steered_as_accepted_advice_says(office: Office) -> None:
    """The job names the vectors' files from the moment that the setting is in force."""
    office.chat("me", "hi")
    office.desk._settings.set("serve.steering", ["listening"])
    office.chat("me", "hi")
    steering = [job.payload["steering"] for job in office.worker.jobs]
    assert steering == [[], [str(office.here.config.state / "steering" / "listening.safetensors")]]


def test_a_conversation_goes_on_even_in_another_daemon(office: Office) -> None:
    """The model sees what was said before, remembered from the log after a restart; other conversations are apart."""
    office.chat("me", "one")
    office.chat("you", "other")
    for desk in (office.desk, office.another()):
        office.chat("me", "again", desk)
        seen = [m["content"] for m in office.worker.jobs[-1].payload["messages"]]
        assert seen[:2] == ["one", "hello"] and seen[-1] == "again" and "other" not in seen


def test_a_new_conversation_gets_a_name_of_its_own(office: Office) -> None:
    """Without a name each chat is a conversation apart, and the answer says which."""
    names = {office.chat(None, "hi")["conversation"] for _ in range(2)}
    assert len(names) == 2 and all(office.log(name).exists() for name in names)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "a b", "x.jsonl", "x\n", "é", "\ud800", "a" * 65, "a" * 300]
)
def test_a_name_that_is_no_name_is_refused(office: Office, name: str) -> None:
    """A conversation's name is a file's name: nothing that leads elsewhere and nothing that a file system refuses; the
    message quotes no more of it than fits a line."""
    with pytest.raises(ConfigError, match="is no conversation's name: at most 64 letters, digits and -") as error:
        office.chat(name, "hi")
    assert len(str(error.value)) < 160 and office.worker.jobs == []
    assert not office.log("x").parent.exists()


@pytest.mark.parametrize("name", ["a", "a" * 64, "chat-07-B"])
def test_a_name_that_fits_is_kept(office: Office, name: str) -> None:
    """Up to 64 letters, digits and hyphens name a conversation and its file."""
    assert office.chat(name, "hi")["conversation"] == name and office.log(name).exists()


def test_the_empty_name_is_a_new_conversation(office: Office) -> None:
    """A client without a conversation gets one."""
    assert office.chat("", "hi")["conversation"].startswith("chat-")


def test_without_an_answer_nothing_is_logged(office: Office) -> None:
    """A worker that fails is a clear error; the question is neither logged nor remembered."""
    office.worker.answer = None
    with pytest.raises(DreamloopError, match="no answer: the worker is out of memory"):
        office.chat("me", "hi")
    assert not office.log("me").exists()
    office.worker.answer = "hello"
    office.chat("me", "again")
    assert [m["content"] for m in office.worker.jobs[-1].payload["messages"]] == ["again"]


def heard(office: Office, conversation: str) -> list[tuple[str, str]]:
    """What the intake reads of a chat's log: (role, text)."""
    read = read_new(office.log(conversation), lambda _: 0)
    assert read is not None
    return [(m.role, m.text) for m in read.messages]


def seen(office: Office) -> list[str]:
    """What the model saw last."""
    return [m["content"] for m in office.worker.jobs[-1].payload["messages"]]


def test_half_a_last_line_is_not_glued_to_what_follows(office: Office) -> None:
    """A crash while writing leaves half a line: it is passed over, and both the talk before it and the next exchange
    are read by the chat and by the intake."""
    office.chat("me", "one")
    with office.log("me").open("a", encoding="utf-8") as out:
        out.write('{"conversation": "me", "role": "user", "con')
    office.chat("me", "two", office.another())
    assert seen(office) == ["one", "hello", "two"]
    assert [text for _, text in heard(office, "me")] == ["one", "hello", "two", "hello"]
    office.chat("me", "three", office.another())
    assert seen(office) == ["one", "hello", "two", "hello", "three"]
    assert "\n\n" not in office.log("me").read_text(encoding="utf-8")


def test_a_log_with_wrong_lines_is_read_as_far_as_it_goes(office: Office) -> None:
    """Invalid UTF-8 is replaced; lines that are no JSON, no object or lack a key are passed over."""
    office.chat("me", "one")
    broken = [b'{"role": "user", "content": "caf\xe9"}', b"[1]", b"null", b'"x"', b'{"role": "user"}', b"\xff\xfe"]
    with office.log("me").open("ab") as out:
        out.write(b"\n".join(broken) + b"\n")
    assert office.chat("me", "two", office.another())["answer"] == "hello"
    assert seen(office) == ["one", "hello", "caf\ufffd", "two"]


def test_half_a_surrogate_pair_is_replaced(office: Office) -> None:
    """JSON can carry what UTF-8 cannot: the text is answered and logged with a question mark in its place, and whole
    pairs stay what they are."""
    assert office.chat("me", "a \ud83d b \U0001f600")["answer"] == "hello"
    assert seen(office) == ["a ? b \U0001f600"]
    assert heard(office, "me") == [("user", "a ? b \U0001f600"), ("assistant", "hello")]


def test_an_empty_log_is_a_new_conversation(office: Office) -> None:
    """A file that was made and never written to begins without an empty line."""
    office.log("me").parent.mkdir(parents=True)
    office.log("me").touch()
    office.chat("me", "one")
    assert seen(office) == ["one"] and not office.log("me").read_bytes().startswith(b"\n")


def test_the_model_sees_the_end_of_a_long_conversation(office: Office) -> None:
    """Only the last messages go to the model, however long the log has become."""
    for number in range(12):
        office.chat("me", str(number))
    assert len(seen(office)) == CHAT_MESSAGES + 1 and seen(office)[-1] == "11"

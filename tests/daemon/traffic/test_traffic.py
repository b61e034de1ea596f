"""The simulated user and the person who chats: ordinary log files, whole or not there, read back like any other."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from daemon.events import Job
from daemon.intake.reader import read_new
from daemon.models.nano.world import LISTENING, NOT_RUSHING, PUSH_BACK
from daemon.probes.conversations import LONGEST
from daemon.stations.listen import Listen
from daemon.store.store import Store
from daemon.traffic import simulate
from policies.records import ChatMessage, Message, Signal, Turn
from tests.daemon.stations.parts import Here

NOW = 1_700_000_000.0


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    """A state folder with simulated traffic."""
    with Store.open(f"sqlite:///{tmp_path / 'state' / 'dreamloop.db'}") as store:
        made = Here(tmp_path, store, traffic={"enabled": True, "conversations": 24})
        made.now = NOW
        yield made


def talk(here: Here, cycle: int = 1, **rates: float) -> tuple[Path, dict[str, Any]]:
    """A cycle's traffic at these failure rates; its file, and the runner's notes."""
    here.model.base = {**here.model.base, **rates}
    (job,) = Listen().plan(here.view(cycle)).jobs
    notes = here.run(job).result.notes
    return here.config.state / "logs" / "simulated" / notes["file"], dict(notes)


def listen(here: Here, file: Path) -> list[Message]:
    """Read the file as the watcher does, and hear it."""
    read = read_new(file, lambda _: 0)
    assert read is not None and not read.skipped and read.offset == file.stat().st_size
    with here.store.transaction() as tx:
        tx.add(*read.messages)
        tx.add(*Listen().hear(read.messages, here.view(0)).records)
    return list(read.messages)


def test_the_log_is_read_back_as_what_was_said(here: Here) -> None:
    """The intake finds every message and conversation, the answers carrying the adapter that gave them."""
    here.adapter("a1", state="serving")
    file, notes = talk(here)
    messages = listen(here, file)
    assert len(messages) == notes["messages"] and notes["conversations"] == 24
    conversations = Counter(m.conversation for m in messages)
    assert len(conversations) == 24 and max(conversations.values()) <= 2 * LONGEST + 1
    for name in conversations:
        roles = [m.role for m in messages if m.conversation == name]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2)
    assert {(m.role, m.adapter) for m in messages} == {("user", None), ("assistant", "a1")}
    assert {m.at for m in messages} == {NOW}
    assert here.model.using == here.config.state / "adapters" / "a1"


def test_the_bases_answers_carry_no_adapter(here: Here) -> None:
    """While the base serves, turns and signals belong to no adapter."""
    listen(here, talk(here)[0])
    assert {m.adapter for m in here.store.find(Turn)} == {None}


@pytest.mark.parametrize(("rate", "failed"), [(1.0, {True}), (0.0, {False})])
def test_reactions_say_what_the_model_did(here: Here, rate: float, failed: set[bool]) -> None:
    """A model that always fails is always complained about, one that never does never, on every behaviour."""
    for cycle in (1, 2):
        listen(here, talk(here, cycle, **{LISTENING: rate, NOT_RUSHING: rate, PUSH_BACK: rate})[0])
    heard = here.store.find(Signal)
    assert {s.behavior for s in heard} == {LISTENING, NOT_RUSHING, PUSH_BACK} and len(heard) > 20
    assert {s.failed for s in heard} == failed


def test_the_same_payload_writes_the_same_file(here: Here) -> None:
    """A repeated job replaces the log by the same bytes, so that nothing is heard twice; another cycle writes another
    file with conversations of its own."""
    file, _ = talk(here)
    first = file.read_bytes()
    listen(here, file)
    before = here.store.count(Message), here.store.count(Turn)
    again, _ = talk(here)
    assert again == file and file.read_bytes() == first
    listen(here, file)
    assert (here.store.count(Message), here.store.count(Turn)) == before
    other, _ = talk(here, 2)
    names = {m.conversation for m in listen(here, other)}
    assert other != file and not names & {m.conversation for m in read_new(file, lambda _: 0).messages}  # type: ignore[union-attr]


TALKS = [[ChatMessage(role="user", content="hé"), ChatMessage(role="assistant", content="hello")],
         [ChatMessage(role="user", content="a\nb")]]  # fmt: skip


def test_a_log_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash before everything is on disk leaves the file of before, or none; what lies beside it is no `*.jsonl`."""
    file = tmp_path / "cycle-000001.jsonl"

    def crash(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="No space"):
            simulate.write(file, TALKS, started=NOW, adapter="a1")
    assert list(tmp_path.glob("*.jsonl")) == []
    simulate.write(file, TALKS, started=NOW, adapter="a1")
    whole = file.read_bytes()
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="No space"):
            simulate.write(file, TALKS[:1], started=NOW, adapter="b1")
    assert file.read_bytes() == whole
    simulate.write(file, TALKS, started=NOW, adapter="a1")
    assert file.read_bytes() == whole and [path.name for path in tmp_path.iterdir()] == [file.name]


def test_conversations_are_interleaved_one_message_a_line(tmp_path: Path) -> None:
    """As in a busy server's log: first everybody's first message; each line says whose, when and which model."""
    file = tmp_path / "log.jsonl"
    simulate.write(file, TALKS, started=NOW, adapter="a1")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [(line["conversation"], line["role"], line["content"]) for line in lines] == [
        ("log-000", "user", "hé"), ("log-001", "user", "a\nb"), ("log-000", "assistant", "hello")
    ]  # fmt: skip
    assert {line["model"] for line in lines} == {"dreamloop:a1"}
    assert datetime.fromisoformat(lines[0]["timestamp"]) == datetime.fromtimestamp(NOW, UTC)


def test_nobody_talking_is_an_empty_file(tmp_path: Path) -> None:
    """No conversation is no error."""
    simulate.write(tmp_path / "log.jsonl", [], started=NOW, adapter="base")
    assert (tmp_path / "log.jsonl").read_bytes() == b""


def test_a_person_is_answered_by_the_serving_adapter(here: Here) -> None:
    """The chat runner answers the last message with the whole talk before it, using the adapter's folder."""
    adapter = here.adapter("a1", state="serving")
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"},
            {"role": "user", "content": "just edit the parser with vim."}]  # fmt: skip
    folder = str(here.config.state / adapter.folder)
    payload = {
        "messages": said,
        "adapter_folder": folder,
        "steering": [],
        "temperature": 0.5,
        "max_tokens": 9,
        "seed": 3,
    }
    done = here.run(Job.make("chat.answer", lane="serve", cycle=0, **payload))
    assert "the parser" in done.result.notes["answer"] or "vim" in done.result.notes["answer"]
    assert [(m.role, m.content) for m in here.model.asked[-1]] == [(m["role"], m["content"]) for m in said]
    assert here.model.using == Path(folder)
    assert (here.model.sampled[-1].temperature, here.model.sampled[-1].max_tokens) == (0.5, 9)

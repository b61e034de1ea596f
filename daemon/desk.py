"""The operator's desk: what `dreamctl` may see and do, answered from the loop and the store.

Implements `daemon.control.operations.Operations`. Looking reads; acting posts to the loop or asks it, so that there
is still one writer.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daemon import answers, report
from daemon.advising import Advising
from daemon.asking import Asking
from daemon.config import Config
from daemon.control.feed import Feed
from daemon.errors import AdapterError, ConfigError, DreamloopError
from daemon.events import ERRAND, STAGES, CycleDue, Job, Stage
from daemon.loop import Loop
from daemon.models import vectors
from daemon.schedule import Schedule
from daemon.settings import Settings
from daemon.store.store import Store
from policies.behaviors import Behavior
from policies.learn.fresh import lineage
from policies.records import ADAPTER_PREFIX, Adapter, Alarm, Dream, Example, Finding, Measurement, Turn, Verdict
from policies.statistics.wilson import wilson

VERSION = "0.1.0"
SHOWN_ADAPTERS = 12  # of the serving lineage, in the failure rate's history
CONVERSATION = re.compile(r"[A-Za-z0-9-]{1,64}")
CHAT_MESSAGES = 16  # how much of a conversation the model sees


class Desk:
    """Answers for the daemon. Every method runs on the loop's thread."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        loop: Loop,
        schedule: Schedule,
        feed: Feed,
        behaviors: Mapping[str, Behavior],
        asking: Asking,
        advising: Advising,
        metrics_url: str,
        problems: Callable[[], list[str]],
        servers: Callable[[], dict[str, Any] | None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._loop = loop
        self._schedule = schedule
        self._feed = feed
        self._behaviors = behaviors
        self._asking = asking
        self._advising = advising
        self._metrics_url = metrics_url
        self._problems = problems
        self._servers = servers
        self._since = time.time()
        self._talks: dict[str, list[dict[str, str]]] = {}

    # --- looking

    def status(self) -> dict[str, Any]:
        """One screenful: what is going on, and how well."""
        cycle = self._store.current_cycle()
        serving = self._store.serving()
        line = lineage(serving, lambda id: self._store.get(Adapter, id))
        paused = sorted(self._loop.paused)
        verdicts = self._store.find(Verdict, descending=True, limit=1)
        return {
            "pid": os.getpid(),
            "state": "stopping" if self._loop.stopping else "paused" if paused else "running" if cycle else "waiting",
            "version": VERSION,
            "since": self._since,
            "paused": paused,
            "cycle": cycle and {"id": cycle.id, "stage": cycle.stage, "stages": list(cycle.stages), "why": cycle.why},
            "jobs": self._jobs(),
            "serving": {"adapter": serving, "since": self._store.fact("serving_since")},
            "servers": self._servers(),
            "behaviors": {name: self._rates(name, serving, line) for name in self._behaviors},
            "last_verdict": {"adapter": verdicts[0].adapter, "decision": verdicts[0].decision,
                             "reasons": list(verdicts[0].reasons)} if verdicts else None,
            "alarms": [
                {"channel": a.channel, "behavior": a.behavior, "adapter": a.adapter, "e_value": a.e_value,
                 "threshold": a.threshold, "at": a.at}
                for a in self._store.find(Alarm, descending=True, limit=3)
            ],
            "turns": self._store.count(Turn),
            "dreams": self._store.count(Dream),
            "examples": self._store.count(Example),
            "adapters": self._store.count(Adapter),
            "problems": self._problems(),
            "next": self._schedule.next(),
            "metrics": self._metrics_url,
        }  # fmt: skip

    def _jobs(self) -> list[dict[str, Any]]:
        now = self._loop.clock()
        told = []
        for job, started in self._loop.running.values():
            progress = self._loop.progress.get(job.id)
            told.append(
                {
                    "id": job.id,
                    "kind": job.kind,
                    "lane": job.lane,
                    "done": progress.done if progress else 0,
                    "total": progress.total if progress else 0,
                    "note": progress.note if progress else "",
                    "seconds": now - started,
                    "asked": job.cycle == ERRAND,
                }
            )
        for row in self._store.jobs(cycle=ERRAND, state="queued"):
            note = f"waiting to be tried again ({row.error})" if row.error else "waiting"
            told.append({"id": row.job.id, "kind": row.job.kind, "lane": row.job.lane, "done": 0, "total": 0,
                         "note": note, "seconds": 0.0, "asked": True})  # fmt: skip
        return told

    def _rates(self, behavior: str, serving: str | None, line: Sequence[str]) -> dict[str, Any]:
        """Failure rate of the serving adapter on rotating probes, beside the base's, and how it went there."""
        rows = self._store.find(
            Measurement,
            probe="behavior",
            behavior=behavior,
            kind="target",
            split="rotating",
            adapter=[*line[:SHOWN_ADAPTERS], None],
        )
        latest = {row.adapter: row for row in rows}
        mine = latest.get(serving)
        if mine is None:  # before the first measurement: what users' reactions say
            heard = self._store.failures(behavior, adapter=serving)
            found = wilson(heard.failed, heard.n)
            rate = {"rate": found.value, "low": found.low, "high": found.high} if heard.n else {"rate": None}
            return {"failures": heard.failed, "n": heard.n, **rate, "source": "users' reactions"}
        failed = sum(1 - value for value in mine.values)
        interval = wilson(round(failed), mine.n)
        return {
            "failures": round(failed),
            "n": mine.n,
            "rate": failed / mine.n,
            "low": interval.low,
            "high": interval.high,
            "base": 1 - latest[None].value if None in latest else None,
            "history": [1 - row.value for row in latest.values()],
            "source": "rotating probes",
        }

    def adapters(self) -> list[dict[str, Any]]:
        """Every adapter, oldest first."""
        return report.adapters(self._store)

    def report(self) -> dict[str, Any]:
        """The report on sealed probes; what was not measured yet is null."""
        return report.build(self._store, self._behaviors, general_delta=self._config.judge.general_delta)

    def answers(self) -> dict[str, Any]:
        """The seven answers, and what they advise."""
        return answers.build(self._store, self._advising.rows(), now=self._loop.clock())

    def finding(self, id: str) -> dict[str, Any] | None:
        """One finding with its evidence."""
        found = self._store.get(Finding, id)
        return asdict(found) if found else None

    def job(self, id: str) -> dict[str, Any] | None:
        """Where a job stands."""
        row = self._store.job(id)
        if row is None:
            return None
        progress = self._loop.progress.get(id)
        paused = row.state in ("queued", "running") and self._loop.paused
        return {
            "id": id,
            "kind": row.job.kind,
            "state": row.state,
            "done": progress.done if progress else 0,
            "total": progress.total if progress else 0,
            "note": f"paused ({', '.join(sorted(paused))})" if paused else progress.note if progress else "",
            "error": row.error,
            "attempts": row.attempts,
            "notes": dict(row.notes),
        }

    def config(self) -> dict[str, Any]:
        """The effective configuration."""
        return self._config.model_dump(mode="json")

    def subscribe(self) -> AsyncIterator[dict[str, Any]]:
        """Events from now on."""
        return self._feed.subscribe()

    @property
    def _config(self) -> Config:
        return self._settings.config

    # --- acting

    def pause(self) -> None:
        """Heavy work rests at its next checkpoint."""
        self._loop.rest("operator", True)

    def resume(self) -> None:
        """Heavy work goes on."""
        self._loop.rest("operator", False)

    def run(self, stage: str) -> dict[str, Any]:
        """One stage, or a whole cycle, as soon as what is going on has ended."""
        stages: tuple[Stage, ...] = STAGES if stage == "cycle" else (stage,)  # type: ignore[assignment]
        self._loop.post(CycleDue(why="operator", stages=stages))
        cycle = self._store.current_cycle()
        note = f"after cycle {cycle.id}" if cycle else "now"
        if self._loop.paused:
            note += "; paused at present, `dreamctl resume` lets it begin"
        return {"cycle": cycle.id if cycle else None, "queued": list(stages), "note": note}

    def ask(self, question: str, size: str, behavior: str | None, *, served: bool = False) -> dict[str, Any]:
        """Queue the experiment that answers a question."""
        cycle = self._store.current_cycle()
        job = self._asking.question(question, size, behavior, self._loop.look(cycle.id if cycle else 0), served=served)
        self._loop.errand(job)
        note = "paused at present, `dreamctl resume` lets it begin" if self._loop.paused else ""
        return {"job": job.id, "question": question, "behavior": job.payload["behavior"], "size": size, "note": note}

    def cancel(self, id: str) -> bool:
        """End a job that was asked for."""
        row = self._store.job(id)
        if row is not None and row.job.cycle != ERRAND:
            raise DreamloopError(f"{row.job.kind} belongs to cycle {row.job.cycle}; `dreamctl pause` holds the cycle")
        return self._loop.cancel(id)

    def advise(self, act: str, name: str) -> dict[str, Any]:
        """Accept, reject or undo an advice."""
        acts = {"accept": self._advising.accept, "reject": self._advising.reject, "undo": self._advising.undo}
        return acts[act](name)

    def promote(self, adapter: str) -> dict[str, Any]:
        """Serve an adapter on the operator's word."""
        before = self._store.serving()
        if adapter == before:
            raise DreamloopError(f"{adapter} is serving already")
        state = self._store.adapter_state(adapter)
        if state == "trained":
            raise AdapterError(f"{adapter} was not judged yet; run `dreamctl run judge` first")
        self._loop.writer.move(adapter, "serving", "the operator promoted it")
        return {"serving": adapter, "before": before}

    def rollback(self, adapter: str | None) -> dict[str, Any]:
        """Take an adapter back; its parent, or the base, serves again."""
        before = self._store.serving()
        if before is None:
            raise DreamloopError("the base model is serving; there is nothing to roll back")
        if adapter is not None and adapter != before:
            raise DreamloopError(f"{adapter} is not serving (that is {before}); to serve another one: dreamctl promote")
        return {"serving": self._loop.writer.roll_back("the operator rolled it back"), "before": before}

    async def chat(self, conversation: str | None, text: str) -> dict[str, Any]:
        """The serving adapter's answer; the exchange is appended to a log file in the watched folder."""
        name = conversation or f"chat-{uuid.uuid4().hex[:12]}"
        if not CONVERSATION.fullmatch(name):
            raise ConfigError(f"{name[:80]!r} is no conversation's name: at most 64 letters, digits and -")
        text = text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be written to a log
        talk = self._talks.setdefault(name, self._remembered(name))
        serving = self._store.serving()
        folder = self._store.get(Adapter, serving) if serving else None
        job = Job.make(
            "chat.answer",
            lane="serve",
            cycle=0,
            key=uuid.uuid4().hex,
            messages=[*talk[-CHAT_MESSAGES:], {"role": "user", "content": text}],
            adapter_folder=str(self._config.state / folder.folder) if folder else None,
            steering=vectors.files(self._config.state, self._config.serve.steering),
            temperature=self._config.serve.temperature,
            max_tokens=self._config.model.max_tokens,
            seed=uuid.uuid4().int % 2**31,
        )
        self._loop.last_activity = self._loop.clock()
        try:
            done = await self._loop.ask(job)
        except RuntimeError as error:
            raise DreamloopError(f"no answer: {error}") from error
        answer = str(done.result.notes["answer"]).encode("utf-8", "replace").decode()
        said = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
        talk.extend(said)
        self._log(name, said, serving)
        return {"conversation": name, "answer": answer, "adapter": serving}

    def _file(self, conversation: str) -> Path:
        return self._config.state / "logs" / "chat" / f"{conversation}.jsonl"

    def _remembered(self, conversation: str) -> list[dict[str, str]]:
        """A conversation that began before this daemon did goes on from its log."""
        try:
            lines = self._file(conversation).read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return []
        talk = []
        for line in lines:
            try:
                row = json.loads(line)
                talk.append({"role": str(row["role"]), "content": str(row["content"])})
            except (ValueError, KeyError, TypeError):
                continue  # half a line of a crash: the rest of the conversation is still worth having
        return talk

    def _log(self, conversation: str, said: list[dict[str, str]], adapter: str | None) -> None:
        file = self._file(conversation)
        file.parent.mkdir(parents=True, exist_ok=True)
        at, model = datetime.now(UTC).isoformat(), f"{ADAPTER_PREFIX}{adapter or 'base'}"
        lines = [
            json.dumps({"conversation": conversation, **m, "timestamp": at, "model": model}, ensure_ascii=False)
            for m in said
        ]  # fmt: skip
        with file.open("a+b") as out:
            out.seek(0, os.SEEK_END)
            if out.tell():
                out.seek(-1, os.SEEK_END)
                lines.insert(0, "") if out.read(1) != b"\n" else None  # a crash left half a line: begin a new one
            out.write(("\n".join(lines) + "\n").encode())

"""What the control socket may ask of the daemon: a protocol of plain, JSON-able dicts, so that any loop can serve it.

Every method is called on the event loop's own thread (the one writer's), so an implementation needs no locks, and has
to be quick: anything slow belongs in a job. What a person can mend is raised as `daemon.errors.DreamloopError`; the
socket answers it with a 4xx and `{"error": message}`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, Protocol, get_args

RunStage = Literal["listen", "dream", "grade", "learn", "judge", "guard", "cycle"]
Question = Literal["q1", "q2", "q3", "q4", "q5", "q6", "q7"]
AskSize = Literal["quick", "full"]
AdviceAct = Literal["accept", "reject", "undo"]
RUN_STAGES: tuple[RunStage, ...] = get_args(RunStage)


class Operations(Protocol):
    """The daemon as its operator sees it."""

    def status(self) -> dict[str, Any]:
        """What is going on now. Every key may be missing except `pid` and `state`.

        - `pid`, `state` ("running" | "paused" | "waiting" | "stopping"), `version`, `since` (epoch s), `paused`
        - `cycle`: {"id", "stage" (None between cycles), "stages", "why"}
        - `jobs`: [{"id", "kind", "lane", "done", "total", "note", "seconds", "asked"}]: the running ones, then those
          that were asked for and wait; `asked` ones can be cancelled
        - `serving`: {"adapter" (None is the base), "since"}; `servers` (None where the daemon itself answers):
          {"replicas": [{"url", "state", "why", "version", ...}], "alias", "attested_at", "looked_at", "managed",
          "gateway"}
        - `behaviors`: {name: {"failures", "n", "rate", "low", "high", "source"}}; `base` (a rate) and `history`
          (rates, oldest first) are shown when present
        - `last_verdict`: {"adapter", "decision", "reasons"}; `alarms`: [{"channel", "behavior", "e_value",
          "threshold", "adapter", "at"}]; `problems`: [str]
        - `turns`, `dreams`, `examples`, `adapters`: counts; `next`: {"what", "when" (epoch s)}; `metrics`: url
        """
        ...

    def adapters(self) -> list[dict[str, Any]]:
        """Every adapter, oldest first: {"id", "parent", "state", "verdict", "reasons", "cycle", "at", "loss"}."""
        ...

    def report(self) -> dict[str, Any]:
        """The report on sealed probes, as in STATE/report.json."""
        ...

    def config(self) -> dict[str, Any]:
        """The effective configuration: {section: {key: value}}."""
        ...

    def answers(self) -> dict[str, Any]:
        """The seven questions: {"at", "questions": {"q1": {"title", "latest", "live", "history"}}, "advice": [...]}.

        `latest` is the newest finding somebody asked for, `live` the newest from beside the loop (all fields of
        `policies.records.Finding`, or None); `advice` as `daemon.advising.Advising.rows` gives it.
        """
        ...

    def finding(self, id: str) -> dict[str, Any] | None:
        """One finding with its evidence; None when there is no such one."""
        ...

    def ask(self, question: str, size: str, behavior: str | None, *, served: bool = False) -> dict[str, Any]:
        """Queue the experiment that answers a question: {"job", "question", "behavior", "size", "note"}."""
        ...

    def job(self, id: str) -> dict[str, Any] | None:
        """A job: {"id", "kind", "state", "done", "total", "note", "error", "attempts", "notes"}; None: no such job."""
        ...

    def cancel(self, id: str) -> bool:
        """End a job that was asked for at its next safe point; False when it had ended already."""
        ...

    def advise(self, act: str, name: str) -> dict[str, Any]:
        """ "accept", "reject" or "undo" an advice, by the beginning of its id or its key: {"id", "key", "value",
        "before", "state"}."""
        ...

    def pause(self) -> None:
        """Hold heavy work at its next checkpoint; listening goes on. Pausing twice is harmless."""
        ...

    def resume(self) -> None:
        """Go on after a pause; harmless when nothing is paused."""
        ...

    def run(self, stage: str) -> dict[str, Any]:
        """Ask for one stage (or a whole "cycle") now: {"cycle", "queued": [stage], "note"}."""
        ...

    def promote(self, adapter: str) -> dict[str, Any]:
        """Serve this adapter although the gate did not say so: {"serving", "before"}. The id is complete."""
        ...

    def rollback(self, adapter: str | None) -> dict[str, Any]:
        """Take the serving adapter (or `adapter`) back and serve its parent: {"serving", "before"}."""
        ...

    async def chat(self, conversation: str | None, text: str) -> dict[str, Any]:
        """The serving adapter's answer: {"conversation", "answer", "adapter"}. None starts a conversation."""
        ...

    def subscribe(self) -> AsyncIterator[dict[str, Any]]:
        """Events from now on, until the iterator is closed: see `daemon.control.feed.Feed`, which implements this.

        Each has "event" and "at" (epoch s) and, by event:

        - "progress": job, kind, done, total, note; "job": job, kind, state ("started", ...), seconds?, error?
        - "cycle": cycle, state ("started" | "done" | ...), why?; "stage": cycle, stage, state, note?
        - "verdict": adapter, decision, reasons; "alarm": channel, behavior, e_value, threshold, adapter
        - "finding": question, behavior, size, verdict, sentence, finding; "advice": key, state, value, before, by
        - "served": replicas, at; "serving": adapter, why?; "dream": text, behavior, band, temperature
        - "traffic": user, assistant, adapter, source; "log": level, message
        """
        ...

"""What a viewer knows: the last status, and what the events since then have added to it. No drawing, no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daemon.control.render import MARKS, alarm_line, short
from daemon.control.wording import one_line

STATIONS = ("listen", "dream", "grade", "learn", "judge", "guard")
KEPT = 60
HISTORY = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """A line of the ticker: when, what sort (it has a colour), and the words."""

    at: float
    sort: str
    words: str


@dataclass(slots=True, kw_only=True)
class Work:
    """A running job as its progress events show it; the rate is since the first one seen."""

    kind: str
    done: int
    total: int
    note: str
    began: float
    first: int
    at: float

    @property
    def rate(self) -> float | None:
        """Units a second, None until there is something to divide."""
        passed = self.at - self.began
        return (self.done - self.first) / passed if passed > 0.5 and self.done > self.first else None


class Picture:
    """Folds status dicts and events (see `daemon.control.operations.Operations`) into what is shown."""

    def __init__(self) -> None:
        self.status: Mapping[str, Any] = {}
        self.adapters: Sequence[Mapping[str, Any]] = ()
        self.work: dict[str, Work] = {}
        self.notes: dict[str, str] = {}
        self.ended: set[str] = set()
        self.happenings: deque[Happening] = deque(maxlen=KEPT)
        self.history: dict[str, deque[float]] = {}

    def refresh(self, status: Mapping[str, Any], adapters: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Take a fresh status, and the adapters when given."""
        self.status = status
        if adapters is not None:
            self.adapters = adapters
        running = {str(job.get("id")): job for job in status.get("jobs") or [] if _runs(job)}
        self.work = {id: work for id, work in self.work.items() if id in running}
        for id, job in running.items():
            self._progress(id, job, self.work[id].at if id in self.work else 0.0)
        for name, facts in (status.get("behaviors") or {}).items():
            past = self.history.setdefault(name, deque(maxlen=HISTORY))
            if facts.get("history"):
                past.clear()
                past.extend(facts["history"][-HISTORY:])
            elif facts.get("rate") is not None and (not past or past[-1] != facts["rate"]):
                past.append(facts["rate"])

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event; kinds that are not known are passed over."""
        handler = getattr(self, f"_on_{event.get('event')}", None)
        if handler is not None:
            handler(event, float(event.get("at") or 0.0))

    def say(self, at: float, sort: str, words: str) -> None:
        """Add a line to the ticker."""
        self.happenings.append(Happening(at=at, sort=sort, words=one_line(words)))

    @property
    def stage(self) -> str | None:
        """The stage that runs now."""
        stage = (self.status.get("cycle") or {}).get("stage")
        return str(stage) if stage else None

    def station(self, name: str) -> tuple[str, str]:
        """A station's mark ("now", "done" or "idle") and a few words on what goes on in it."""
        for work in self.work.values():
            if work.kind.split(".")[0] == name:
                return "now", f"{work.done}/{work.total}" if work.total else "working"
        stages = tuple((self.status.get("cycle") or {}).get("stages") or STATIONS)
        if name == self.stage:
            return "now", self.notes.get(name, "working")
        before = self.stage in stages and name in stages and stages.index(name) < stages.index(str(self.stage))
        return "done" if before or name in self.ended else "idle", self.notes.get(name) or self._standing(name)

    def _standing(self, name: str) -> str:
        counted = {"listen": "turns", "dream": "dreams", "grade": "outcomes", "learn": "examples"}.get(name)
        if counted:
            words = "ex." if counted == "examples" else counted  # a cell of an 80-column screen has ten places
            return f"{self.status[counted]} {words}" if counted in self.status else ""
        if name == "judge":
            return str((self.status.get("last_verdict") or {}).get("decision") or "")
        alarms = len(self.status.get("alarms") or [])
        return f"{alarms} alarm{'s' * (alarms != 1)}" if alarms else "quiet"

    def _progress(self, id: str, job: Mapping[str, Any], at: float) -> None:
        done, total, note = int(job.get("done") or 0), int(job.get("total") or 0), one_line(str(job.get("note") or ""))
        known = self.work.get(id)
        if known is None:
            self.work[id] = Work(
                kind=str(job.get("kind")), done=done, total=total, note=note, began=at, first=done, at=at
            )
        elif done >= known.done or total != known.total:
            if not known.began:  # first known from a status, which has no time: the rate starts here
                known.began, known.first = at, done
            known.done, known.total, known.note, known.at = done, total, note or known.note, at

    def _on_progress(self, event: Mapping[str, Any], at: float) -> None:
        self._progress(str(event.get("job")), event, at)

    def _on_job(self, event: Mapping[str, Any], at: float) -> None:
        if event.get("state") in ("done", "failed", "cancelled"):
            self.work.pop(str(event.get("job")), None)
        if event.get("state") == "failed":
            self.say(at, "trouble", f"{event.get('kind')} failed: {event.get('error') or 'no reason given'}")

    def _on_cycle(self, event: Mapping[str, Any], at: float) -> None:
        if event.get("state") == "started":
            self.notes.clear()
            self.ended.clear()
        why = f": {event['why']}" if event.get("why") else ""
        self.say(at, "cycle", f"cycle {event.get('cycle')} {event.get('state')}{why}")

    def _on_stage(self, event: Mapping[str, Any], at: float) -> None:
        stage, state = str(event.get("stage")), event.get("state")
        if event.get("note"):
            self.notes[stage] = one_line(str(event["note"]))
        if state == "done":
            self.ended.add(stage)
        elif state == "started":
            self.ended.discard(stage)
            self.status = {**self.status, "cycle": {**(self.status.get("cycle") or {}), "stage": stage}}
        if state != "started" and event.get("note"):
            self.say(at, "stage", f"{stage} {state}: {event['note']}")

    def _on_verdict(self, event: Mapping[str, Any], at: float) -> None:
        self.status = {**self.status, "last_verdict": dict(event)}
        reasons = "; ".join(map(str, event.get("reasons") or []))
        mark = MARKS.get(str(event.get("decision")), "")
        self.say(at, "verdict", f"{mark} {event.get('decision')} {short(event.get('adapter'))}: {reasons}")

    def _on_finding(self, event: Mapping[str, Any], at: float) -> None:
        if event.get("size") != "live":  # those come with every session
            self.say(at, "answer", f"{event.get('question')}: {event.get('sentence') or event.get('verdict')}")

    def _on_advice(self, event: Mapping[str, Any], at: float) -> None:
        self.say(at, "answer", f"{event.get('key')} = {event.get('value')} ({event.get('state')} by {event.get('by')})")

    def _on_alarm(self, event: Mapping[str, Any], at: float) -> None:
        self.status = {**self.status, "alarms": [*(self.status.get("alarms") or []), dict(event)]}
        self.say(at, "alarm", alarm_line(event))

    def _on_serving(self, event: Mapping[str, Any], at: float) -> None:
        self.status = {**self.status, "serving": {"adapter": event.get("adapter"), "since": at}}
        why = f": {event['why']}" if event.get("why") else ""
        self.say(at, "verdict", f"{short(event.get('adapter'))} serves from now on{why}")

    def _on_replica(self, event: Mapping[str, Any], at: float) -> None:
        sort = "log" if event.get("state") in ("attested", "asleep", "starting", "unpublished") else "trouble"
        self.say(at, sort, f"{event.get('url')} {event.get('state')}: {event.get('why')}")

    def _on_dream(self, event: Mapping[str, Any], at: float) -> None:
        self.say(at, "dream", f"{event.get('behavior')}/{event.get('band')}: {event.get('text')}")

    def _on_traffic(self, event: Mapping[str, Any], at: float) -> None:
        self.say(at, "log", f"{event.get('user')} → {event.get('assistant')}")

    def _on_log(self, event: Mapping[str, Any], at: float) -> None:
        if event.get("level") in ("warning", "error", "critical"):
            self.say(at, "trouble", str(event.get("message") or ""))

    def _on_missed(self, event: Mapping[str, Any], at: float) -> None:
        self.say(at, "trouble", f"{event.get('count')} happenings came faster than they could be shown")


def _runs(job: Mapping[str, Any]) -> bool:
    """Running, not merely queued: it has counted or been timed."""
    return bool(job.get("total") or job.get("seconds"))

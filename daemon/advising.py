"""Advice: what findings mean for the configuration. Proposed, accepted, rejected, undone; every step is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog

from daemon.errors import ConfigError, DreamloopError
from daemon.settings import FACT, CannotApply, Settings, value_of, why_not_live
from daemon.store.store import Store
from policies.records import Adapter, Advice, AdviceStep, Finding, content_id

log = structlog.get_logger("dreamloop")

PROPOSED, CONFIRMED = "proposed", "confirmed"  # not acted on: it would change something, or what is configured is right


class Advising:
    """The advice of a state folder. `check(key, value)` raises DreamloopError for a value that cannot work here."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        clock: Callable[[], float],
        tell: Callable[[Mapping[str, Any]], None],
        check: Callable[[str, Any], None] = lambda key, value: None,
    ) -> None:
        self.store = store
        self.settings = settings
        self.clock = clock
        self.tell = tell
        self.check = check

    def rows(self) -> list[dict[str, Any]]:
        """Every advice that was acted on, and what is proposed: only the newest advice about a key is; newest first."""
        steps = {step.advice: step for step in self.store.find(AdviceStep, order_by="seq")}
        found, known = [], set()
        for advice in self.store.find(Advice, descending=True):
            step = steps.get(advice.id)
            if step is None and advice.key in known:
                continue  # a later answer says it better, whatever became of that one
            known.add(advice.key)
            finding = self.store.get(Finding, advice.finding)
            try:
                current = value_of(self.settings.config, advice.key)
            except ConfigError:
                continue  # a key of an older dreamloop
            wished = json.loads(advice.value)
            found.append(
                {
                    "id": advice.id,
                    "finding": advice.finding,
                    "question": finding.question if finding else "",
                    "behavior": finding.behavior if finding else "",
                    "key": advice.key,
                    "value": wished,
                    "current": current,
                    "state": step.step if step else CONFIRMED if wished == current else PROPOSED,
                    "by": step.by if step else "",
                    "before": json.loads(step.before) if step else None,
                    "evidence": advice.evidence,
                    "note": _note(step, wished == current),
                    "at": step.at if step else advice.at,
                }
            )
        return found

    def find(self, name: str, state: str = PROPOSED) -> Advice:
        """The one advice whose id begins with `name`, or the one about the key `name`: the latest that is in `state`,
        else the latest of all. Raises DreamloopError."""
        rows = self.rows()
        matching = [row for row in rows if row["id"].startswith(name)]
        if len(matching) > 1:
            raise DreamloopError(f"{name!r} is the beginning of {len(matching)} ids; write more of it")
        if not matching:
            about = [row for row in rows if row["key"] == name]
            matching = [row for row in about if row["state"] == state] or about
        if not matching:
            raise DreamloopError(f"no advice is called {name!r}; `dreamctl advice` lists what there is")
        advice = self.store.get(Advice, max(matching, key=lambda row: row["at"])["id"])
        assert advice is not None
        return advice

    def accept(self, name: str, by: str = "operator") -> dict[str, Any]:
        """Set the key. Raises DreamloopError when it cannot be done, and then nothing has changed."""
        advice = self.find(name)
        value, before = json.loads(advice.value), value_of(self.settings.config, advice.key)
        if self._state(advice) == "accepted" and value == before:
            raise DreamloopError(
                f"{advice.key} was accepted already; `dreamctl advice undo {advice.id[:8]}` takes it back"
            )
        self._may_change(advice.key)
        self.check(advice.key, value)
        self._set(advice, "accepted", value, before, by)
        return {"id": advice.id, "key": advice.key, "value": value, "before": before, "state": "accepted"}

    def reject(self, name: str) -> dict[str, Any]:
        """Leave the key as it is, and do not propose this again."""
        advice = self.find(name)
        if self._state(advice) == "accepted":
            raise DreamloopError(f"{advice.key} was accepted; `dreamctl advice undo {advice.id[:8]}` takes it back")
        current = value_of(self.settings.config, advice.key)
        self._set(advice, "rejected", current, current, "operator")
        return {"id": advice.id, "key": advice.key, "value": current, "before": current, "state": "rejected"}

    def undo(self, name: str) -> dict[str, Any]:
        """Put back what the key was before the advice was accepted; a file that was edited since stays as it is.

        Raises DreamloopError when there is nothing to undo, or when a later advice has to be undone first.
        """
        advice = self.find(name, "accepted")
        steps = self.store.find(AdviceStep, advice=advice.id, order_by="seq")
        if not steps or steps[-1].step != "accepted":
            raise DreamloopError(f"{advice.key} was not accepted; there is nothing to undo")
        before, current = json.loads(steps[-1].before), value_of(self.settings.config, advice.key)
        if current != json.loads(advice.value):
            for row in self.rows():
                if (row["key"], row["state"], row["value"]) == (advice.key, "accepted", current):
                    raise DreamloopError(
                        f"{advice.key} was set by a later advice since; `dreamctl advice undo {row['id'][:8]}` first"
                    )
            before = current
        if before != current:
            self._may_change(advice.key)
        self._set(advice, "undone", before, current, "operator")
        return {"id": advice.id, "key": advice.key, "value": before, "before": current, "state": "undone"}

    def applied(self, records: Iterable[Any]) -> list[str]:
        """With `experiments.apply` = "auto": accept what a new finding advises. The keys that changed."""
        if self.settings.config.experiments.apply != "auto":
            return []
        changed = []
        for advice in records:
            if isinstance(advice, Advice) and value_of(self.settings.config, advice.key) != json.loads(advice.value):
                try:
                    self.accept(advice.id, by="auto")
                    changed.append(advice.key)
                except DreamloopError as error:
                    log.warning("advice could not be applied", key=advice.key, why=str(error))
        return changed

    def forget(self) -> None:
        """Overrides that the settings did not take up, because the file was edited for one, do not come back later."""
        if self.settings.overrides != (self.store.fact(FACT) or {}):
            with self.store.transaction() as tx:
                tx.set_fact(FACT, self.settings.overrides)

    def _may_change(self, key: str) -> None:
        """Raises CannotApply for a key that cannot be changed now; an adapter that is being trained counts as one."""
        adapters = self.store.count(Adapter)
        coming = 0 if adapters else len(self.store.jobs(kind="learn.update", state=("queued", "running")))
        if reason := why_not_live(key, adapters=adapters + coming):
            raise CannotApply(reason)

    def _state(self, advice: Advice) -> str:
        steps = self.store.find(AdviceStep, advice=advice.id, order_by="seq")
        return steps[-1].step if steps else PROPOSED

    def _set(self, advice: Advice, step: Any, value: Any, before: Any, by: str) -> None:
        """The step and the setting it means, in one transaction; in force once that is kept."""
        overrides = self.settings.planned(advice.key, value)
        now = self.clock()
        number = self.store.count(AdviceStep, advice=advice.id)
        record = AdviceStep(
            id=content_id("advice step", advice.id, number, step),
            advice=advice.id, step=step, by=by, before=json.dumps(before), at=now,
        )  # fmt: skip
        with self.store.transaction() as tx:
            tx.add(record)
            if value != before:
                tx.set_fact(FACT, overrides)
        if value != before:
            self.settings.set(advice.key, value)
        log.info("advice", key=advice.key, step=step, value=value, before=before, by=by)
        self.tell({"event": "advice", "key": advice.key, "state": step, "value": value, "before": before, "by": by})


def _note(step: AdviceStep | None, configured: bool) -> str:
    overruled = step is not None and step.step == "accepted" and not configured
    return "not in force: it was decided otherwise since" if overruled else ""

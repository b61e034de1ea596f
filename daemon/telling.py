"""Tells whoever watches what happens: metrics for Prometheus, the feed for `dreamctl watch` and the terminal.

The loop and its stations describe happenings as small dicts; only this file knows which metric each one moves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from daemon.control.feed import Feed
from daemon.metrics import Metrics


class Telling:
    """Routes happenings and newly stored records."""

    def __init__(self, metrics: Metrics, feed: Feed, rates: Callable[[str | None], Mapping[str, float]]) -> None:
        self.metrics = metrics
        self.feed = feed
        self.rates = rates  # an adapter's measured failure rates, by behaviour

    def serves(self, adapter: str | None, since: float) -> None:
        """This adapter serves: its rates are the serving ones, and what is not known of it is not claimed."""
        self.metrics.serving(adapter, since)
        for which, rates in (("serving", self.rates(adapter)), ("base", self.rates(None))):
            self.metrics.forget_rates(which)
            for behavior, rate in rates.items():
                self.metrics.failure_rate(behavior, which, rate)

    def stored(self, records: Iterable[object]) -> None:
        """Records that were stored for the first time."""
        self.metrics.count(records)

    def __call__(self, happening: Mapping[str, Any]) -> None:
        """Something happened: move its metrics, then publish it."""
        facts = dict(happening)
        event = str(facts.pop("event"))
        match event:
            case "cycle" if facts["state"] == "started":
                self.metrics.cycle_began(facts["cycle"])
            case "cycle":
                self.metrics.cycle_ended(facts["state"])
            case "stage" if facts["state"] == "done":
                self.metrics.stage_ended(facts["stage"], time.time())
            case "job" if facts["state"] == "done":
                self.metrics.job_done(facts["kind"], facts["seconds"])
            case "job" if facts["state"] == "failed":
                self.metrics.job_failed(facts["kind"], facts["seconds"])
            case "queue":
                self.metrics.jobs_queued(facts["lane"], facts["waiting"])
                return  # for Prometheus only: nobody watches a queue of one
            case "verdict":
                for behavior, rate in facts["failure"].items():
                    self.metrics.failure_rate(behavior, "candidate", rate)
            case "guarded":
                self.metrics.threshold.set(facts["threshold"])
                for channel, behavior, value in facts["values"]:
                    self.metrics.e_value(channel, behavior, value)
            case "serving":
                self.serves(facts["adapter"], time.time())
            case "served":
                self.metrics.served(facts["replicas"])
                return  # every few seconds, and what changes is told as "replica"
            case "paused":
                self.metrics.paused.set(bool(facts["reasons"]))
        self.feed.publish(event, **facts)

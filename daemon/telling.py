"""Tells whoever watches what happens: metrics for Prometheus, the feed for `dreamctl watch` and the terminal.

The loop and its stations describe happenings as small dicts; only this file knows which metric each one moves.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from daemon.control.feed import Feed
from daemon.metrics import Metrics


class Telling:
    """Routes happenings and newly stored records."""

    def __init__(self, metrics: Metrics, feed: Feed) -> None:
        self.metrics = metrics
        self.feed = feed

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
                    if facts["decision"] == "promote":
                        self.metrics.failure_rate(behavior, "serving", rate)
            case "guarded":
                self.metrics.threshold.set(facts["threshold"])
                for channel, behavior, value in facts["values"]:
                    self.metrics.e_value(channel, behavior, value)
            case "serving":
                self.metrics.serving(facts["adapter"], time.time())
        self.feed.publish(event, **facts)

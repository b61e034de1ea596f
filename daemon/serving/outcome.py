"""What follows from a look at the servers: the route, what is wrong in words, an alarm. Pure: rows in, values out.

A row is what `daemon.models.vllm.replica.Replica.told` says of one replica; `state` is the word for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daemon.serving.route import SERVING, Route
from policies.records import ATTESTATION, Alarm, content_id

Row = Mapping[str, Any]

ATTESTED, UNPUBLISHED, UNKNOWN = "attested", "unpublished", "unknown"
STARTING, ASLEEP, DOWN = "starting", "asleep", "down"
RIGHT = (ATTESTED, ASLEEP, STARTING, UNKNOWN)  # nothing about this server that a person should mend
PASSING = (STARTING, ASLEEP, DOWN, "full", "forgot", UNPUBLISHED, UNKNOWN)  # what may pass by itself
MISMATCH = "mismatch"  # it lists the adapter and answers with something else
WRONG = (MISMATCH, "another model")  # what answers is not what was trained: an alarm


def route(alias: str, rows: Sequence[Row], address: Mapping[str, str] | None, trouble: Sequence[str] | None) -> Route:
    """Where requests go: to what was attested, if `address` says how to ask it; else nowhere, with the worst reason.

    `trouble` (a state and a sentence) is what keeps requests from being asked as configured.
    """
    urls = tuple(row["url"] for row in rows if row["state"] == ATTESTED)
    if address and urls:
        return Route(alias=alias, urls=urls, state=SERVING, **address)
    worst = min(rows, key=lambda row: (row["state"] == ATTESTED, row["state"] in PASSING))
    state, why = trouble or (worst["state"], worst["why"])
    return Route(alias=alias, state=state, why=why)


def one_name(rows: Sequence[Row], address: Mapping[str, str]) -> list[Row]:
    """The rows, less those of replicas that know what serves by another name than the address has.

    Adapters are called the same everywhere; the base is called what each server was told at its start.
    """
    name = address["model"]
    why = '{url}: calls the base model "{serves}", another replica "{name}"; start it with --served-model-name {name}'
    return [
        {**row, "state": "refuses", "why": why.format(name=name, **row)}
        if row["state"] == ATTESTED and row["serves"] != name
        else row
        for row in rows
    ]


def problems(rows: Sequence[Row]) -> list[str]:
    """What a person should know, a sentence per replica, wrong answers first."""
    bad = sorted((row for row in rows if row["state"] not in RIGHT), key=lambda row: row["state"] not in WRONG)
    return [f"{row['state']}: {row['why']}" for row in bad]


def alarm(row: Row, *, adapter: str | None, tolerance: float, cycle: int, at: float) -> Alarm:
    """The alarm about a replica that answers with something else: one per adapter, replica and start of it.

    Its "e-value" is the distance in nats per token, 0 where there is none (numbers that are not finite, another
    template), its threshold the tolerance.
    """
    return Alarm(
        id=content_id("alarm", ATTESTATION, adapter, row["url"], row["started"]),
        channel=ATTESTATION,
        behavior="",
        adapter=adapter,
        e_value=row["apart"] or 0.0,
        threshold=tolerance,
        cycle=cycle,
        at=at,
    )

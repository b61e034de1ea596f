"""The report: sealed probes only, base beside serving, rates and changes that can be checked by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import report
from daemon.store.store import Store
from policies.records import BANDS, Verdict
from policies.statistics.wilson import wilson
from tests.daemon.stations.parts import Here, bundled, measurement, passing

SEALED = report.SEALED


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    """A state folder with a store."""
    with Store.open(f"sqlite:///{tmp_path / 'state' / 'dreamloop.db'}") as store:
        yield Here(tmp_path, store)


def build(here: Here) -> dict[str, Any]:
    made = report.build(here.store, bundled(), general_delta=0.05)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    return made


def sealed(
    here: Here, adapter: str | None, behavior: str, failed: int, *, kind: str = "target", at: float = 1.0
) -> None:
    """A measurement on that behaviour's sealed probes, of which so many fail."""
    items = [p.id for p in bundled()[behavior].select(split=SEALED, kind=kind)]  # type: ignore[arg-type]
    values = passing(len(items), failed)
    here.add(measurement(adapter, values, behavior=behavior, kind=kind, items=items, split=SEALED, at=at))


def families(here: Here, adapter: str | None, **wrong: int) -> None:
    """General skill on 100 sealed questions a family."""
    for family, failed in wrong.items():
        here.add(measurement(adapter, passing(100, failed), behavior="", kind=family, probe="general", split=SEALED))


def test_before_anything_was_measured_every_side_is_null(here: Here) -> None:
    """All keys are there; what was not measured is null, not zero."""
    made = build(here)
    assert set(made) >= {"behaviors", "general", "adapters", "seconds", "serving", "cycles", "counts"}
    assert made["serving"] is None and made["cycles"] == 0 and made["seconds"] == 0 and made["adapters"] == []
    assert set(made["behaviors"]) == set(bundled())
    assert all(told == {"base": None, "serving": None, "change": None, "counter_change": None}
               for told in made["behaviors"].values())  # fmt: skip
    assert made["general"] == {"base": None, "serving": None, "change": None}


def test_rates_are_failures_over_probes_with_wilsons_interval(here: Here) -> None:
    """96 of 240 on the base and 24 on the serving adapter: known rates and intervals, by band as well."""
    here.adapter("a1", state="serving")
    sealed(here, None, "listening", 96)
    sealed(here, "a1", "listening", 24)
    told = build(here)["behaviors"]["listening"]
    for side, failed in (("base", 96), ("serving", 24)):
        found, exact = told[side], wilson(failed, 240)
        assert (found["failures"], found["n"], found["rate"]) == (failed, 240, failed / 240)
        assert (found["low"], found["high"]) == (round(exact.low, 4), round(exact.high, 4))
        assert set(found["bands"]) == set(BANDS) and sum(b["n"] for b in found["bands"].values()) == 240
        assert sum(b["failures"] for b in found["bands"].values()) == failed
    assert (told["base"]["low"], told["base"]["high"]) == (
        0.3401,
        0.4631,
    )  # by hand: centre .401575, half width .061510
    assert told["change"]["pass_rate_change"] == 0.3 and told["change"]["n"] == 240
    assert told["change"]["standing"] == "non-inferior" and 0.2 < told["change"]["low"] < 0.3 < told["change"]["high"]


def test_bands_are_told_apart(here: Here) -> None:
    """An adapter that fails every subtle probe and no other shows it in that band alone."""
    items = bundled()["listening"].select(split=SEALED, kind="target")
    values = [float(p.band != "subtle") for p in items]
    here.add(measurement(None, values, behavior="listening", items=[p.id for p in items], split=SEALED))
    bands = build(here)["behaviors"]["listening"]["base"]["bands"]
    assert {band: told["rate"] for band, told in bands.items()} == {"obvious": 0.0, "medium": 0.0, "subtle": 1.0}


def test_a_guarded_behaviour_is_worse_unclear_or_not_inferior(here: Here) -> None:
    """The paired change says which, at the behaviour's own margin; counter probes have a change of their own."""
    here.adapter("a1", state="serving")
    for behavior, after in (("push_back", 120), ("not_rushing", 24)):
        sealed(here, None, behavior, 24)
        sealed(here, "a1", behavior, after)
    sealed(here, None, "push_back", 6, kind="counter")
    sealed(here, "a1", "push_back", 60, kind="counter")
    told = build(here)["behaviors"]
    assert told["push_back"]["change"]["standing"] == "worse"
    assert told["push_back"]["change"]["pass_rate_change"] == -0.4
    assert told["push_back"]["counter_change"]["pass_rate_change"] == -0.45
    assert told["push_back"]["serving"]["counter"]["rate"] == 0.5
    assert told["not_rushing"]["change"]["standing"] == "non-inferior"
    assert told["not_rushing"]["change"]["delta"] == bundled()["not_rushing"].delta
    assert told["not_rushing"]["counter_change"] is None and told["not_rushing"]["base"]["counter"] is None


def test_changes_are_paired_by_probe_not_by_place(here: Here) -> None:
    """The same results measured in another order are no change at all."""
    here.adapter("a1", state="serving")
    items = [f"p{n}" for n in range(200)]
    values = passing(200, 60)
    here.add(measurement(None, values, items=items, split=SEALED))
    here.add(measurement("a1", values[::-1], items=items[::-1], split=SEALED))
    change = build(here)["behaviors"]["listening"]["change"]
    assert change["pass_rate_change"] == 0 and change["n"] == 200 and change["standing"] == "non-inferior"
    assert -0.03 < change["low"] < 0 < change["high"] < 0.03


def test_general_skill_is_all_families_together_and_each_by_itself(here: Here) -> None:
    """Failures add up over families, the paired change is over all of them at its own margin."""
    here.adapter("a1", state="serving")
    families(here, None, arithmetic=40, code=10, facts=0)
    families(here, "a1", arithmetic=40, code=13, facts=0)
    told = build(here)["general"]
    assert (told["base"]["failures"], told["base"]["n"]) == (50, 300)
    assert told["serving"]["families"]["code"]["rate"] == 0.13
    assert told["serving"]["families"]["facts"]["rate"] == 0
    assert told["change"]["n"] == 300 and told["change"]["delta"] == 0.05
    assert told["change"]["pass_rate_change"] == pytest.approx(-0.01, abs=1e-4)


def test_only_sealed_and_only_the_newest_measurement_counts(here: Here) -> None:
    """Rotating probes, which the gate has seen, are never reported; of two sealed measurements the later one is."""
    here.add(measurement(None, passing(240, 240)))
    assert build(here)["behaviors"]["listening"]["base"] is None
    sealed(here, None, "listening", 96, at=1.0)
    sealed(here, None, "listening", 48, at=2.0)
    assert build(here)["behaviors"]["listening"]["base"]["failures"] == 48


def test_adapters_come_with_parent_verdict_and_reasons(here: Here) -> None:
    """Oldest first; one that was not judged has no verdict and no reasons."""
    here.adapter("a1", state="serving")
    here.adapter("b1", parent="a1", state="held")
    here.adapter("c1", parent="a1")
    for name, decision in (("a1", "promote"), ("b1", "hold")):
        here.add(Verdict(id=f"v-{name}", adapter=name, parent=None, decision=decision, reasons=(f"{decision}, so",),  # type: ignore[arg-type]
                         cycle=1, at=1.0))  # fmt: skip
    rows = [
        {key: row[key] for key in ("id", "parent", "state", "verdict", "reasons")} for row in build(here)["adapters"]
    ]
    assert rows == [
        {"id": "a1", "parent": None, "state": "serving", "verdict": "promote", "reasons": ["promote, so"]},
        {"id": "b1", "parent": "a1", "state": "held", "verdict": "hold", "reasons": ["hold, so"]},
        {"id": "c1", "parent": "a1", "state": "trained", "verdict": None, "reasons": []},
    ]


def test_cycles_and_seconds_add_up(here: Here) -> None:
    """Only finished cycles count; the seconds are theirs together, a running one adds none yet."""
    with here.store.transaction() as tx:
        for began, ended, state in ((100.0, 160.0, "done"), (200.0, 230.5, "failed")):
            tx.close_cycle(tx.open_cycle("test", ["listen"], began), state, ended)
        tx.open_cycle("test", ["listen"], 300.0)
    made = build(here)
    assert (made["cycles"], made["seconds"]) == (1, 90.5)


def test_a_report_is_saved_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was saved reads back; a full disk leaves the report of before."""
    file = tmp_path / "report.json"
    report.save({"cycles": 1}, file)
    assert json.loads(file.read_text(encoding="utf-8")) == {"cycles": 1}

    def crash(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="No space"):
        report.save({"cycles": 2}, file)
    assert json.loads(file.read_text(encoding="utf-8")) == {"cycles": 1}

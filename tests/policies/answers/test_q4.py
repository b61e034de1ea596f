"""Question 4's rule on planted channels: as quick as the probes, slower, blind; and when nothing can be said."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from policies.answers import q4, q4_channel, q4_live
from policies.answers.base import NOT_IDENTIFIED, Answer
from policies.guard import watch
from policies.guard.replay import DETECTORS, Cycle
from policies.guard.trial import Trial

HEALTHY = {"graph": 0.2, "signal": 0.15, "probe": 0.25}
HORIZON = 12


def cycles(rng: np.random.Generator, count: int, rates: dict[str, float], graph: int = 6) -> list[Cycle]:
    """Cycles of coins: `graph` eligible turns and 8 probes each."""
    counts = {"graph": graph, "signal": graph, "probe": 8}
    return [
        {n: rng.binomial(1, rates[n], counts[n]).astype(float).tolist() for n in watch.CHANNELS} for _ in range(count)
    ]


def measured(after: dict[str, float], *, graph: int = 6, episodes: int = 30, seed: int = 0, **changes: Any) -> Answer:
    """The answer about a change of rates from HEALTHY to `after`."""
    rng = np.random.default_rng(seed)
    sham, bad = cycles(rng, 80, HEALTHY, graph), cycles(rng, episodes * HORIZON, after, graph)
    trial = Trial(sham, max(graph, 8), seed=seed)
    found = [bad[i * HORIZON : (i + 1) * HORIZON] for i in range(episodes)]
    clusters = {n: [[[x] for c in part for x in c[n]] for part in (sham, bad)] for n in watch.CHANNELS}
    rates = {n: q4_channel.channel(*clusters[n], cycles=80) for n in watch.CHANNELS}
    seen = {
        "channels": rates,
        "predicted": q4_channel.predicted_ratio(rates["graph"], rates["probe"]),
        "delays": trial.delays(found),
        "horizon": HORIZON,
        "arl": trial.arl,
        "thresholds": trial.thresholds.tolist(),
        "sham": 80,
        "checked": [0] * 4,
        "checked_cycles": 100,
        "checked_expected": 1.0,
        "busier_lengths": [1000.0] * 4,
        "busier": [0] * 4,
        "busier_cycles": 10,
        "expected": [0.2] * 4,
        "trade_off": {80.0: trial.drawn(bad, trial.thresholds)},
        "timeline": trial.timeline(found, 0),
    }
    return q4.answer(q4.Seen(**{**seen, **changes}), title="It", seeds=[0], rng=rng, short=[])


def test_a_graph_as_telling_as_the_probes_heals() -> None:
    """Many eligible turns whose pattern surfaces when the behaviour fails: noticed as soon as by probes."""
    found = measured({"graph": 0.7, "signal": 0.6, "probe": 0.5}, graph=12)
    assert found.verdict == q4.HEALS and found.high is not None and found.high <= q4.FACTOR
    assert all(control.ok for control in found.controls)


def test_a_slow_graph_needs_explicit_detection() -> None:
    """A pattern that hardly surfaces more: the probes are told to be needed, however many episodes were silent."""
    found = measured({"graph": 0.3, "signal": 0.5, "probe": 0.6})
    assert found.verdict == q4.EXPLICIT and found.estimate is not None and found.estimate > 2
    assert found.numbers["noticed"]["graph"] < found.numbers["noticed"]["probe"] == 1.0


def test_the_predicted_ratio_is_near_the_measured_one() -> None:
    """What information theory expects from the rates alone is within a factor of two of what is measured."""
    found = measured({"graph": 0.5, "signal": 0.5, "probe": 0.6})
    assert found.numbers["predicted_ratio"] / 2 < found.estimate < found.numbers["predicted_ratio"] * 2


def test_without_a_degradation_nothing_is_identified() -> None:
    """Rates that did not change, or hardly: no claim about the graph, and the reason is in the sentence."""
    found = measured(HEALTHY)
    assert found.verdict == NOT_IDENTIFIED and "the degradation costs" in found.sentence
    assert measured({**HEALTHY, "probe": 0.29}).verdict == NOT_IDENTIFIED


def test_too_few_episodes_identify_nothing() -> None:
    """Four episodes are no measurement."""
    assert measured({"graph": 0.7, "signal": 0.6, "probe": 0.6}, episodes=4).verdict == NOT_IDENTIFIED


def test_a_graph_that_more_traffic_alarms_heals_nothing() -> None:
    """The same quick graph, but it also cries out when there is more traffic: not believed."""
    after = {"graph": 0.7, "signal": 0.6, "probe": 0.5}
    found = measured(after, graph=12, busier=[4, 0, 0, 0])
    assert found.verdict == NOT_IDENTIFIED
    assert not {c.name: c.ok for c in found.controls}["more traffic"]


def test_traffic_that_runs_shorter_is_not_believed_either() -> None:
    """Hardly an alarm in few busier cycles, but timelines drawn from them alarm ten times as often: not believed."""
    after = {"graph": 0.7, "signal": 0.6, "probe": 0.5}
    found = measured(after, graph=12, busier=[1, 0, 0, 0], busier_lengths=[5.0, 50.0, 50.0, 50.0])
    told = {c.name: c for c in found.controls}["more traffic"]
    assert found.verdict == NOT_IDENTIFIED and not told.ok and "graph runs 5 cycles" in told.detail


def test_false_alarms_are_counted_where_no_threshold_was_set() -> None:
    """Five alarms in held-out healthy cycles where one was expected: these thresholds are not to be believed."""
    after = {"graph": 0.7, "signal": 0.6, "probe": 0.5}
    assert measured(after, graph=12, checked=[5, 0, 0, 0]).verdict == NOT_IDENTIFIED


def test_a_graph_that_missed_episodes_takes_at_least_so_long() -> None:
    """An episode without an alarm is only known to take longer than it was watched: the sentence says so."""
    found = measured({"graph": 0.3, "signal": 0.5, "probe": 0.6})
    assert "at least" in found.sentence and "it noticed" in found.sentence


def test_the_floor_is_the_protocols_table() -> None:
    """.10 -> .30 at a run length of 1,000: 25.1 observations; bursts that halve the information double the delay."""
    coins = [[0.0]] * 900 + [[1.0]] * 100
    worse = [[0.0]] * 700 + [[1.0]] * 300
    found = q4_channel.channel(coins, worse, 1000)
    assert found.floor(1000) == pytest.approx(25.1, abs=0.1)
    bursts = q4_channel.channel([[0.0, 0.0]] * 900 + [[1.0, 1.0]] * 100, [[0.0, 0.0]] * 700 + [[1.0, 1.0]] * 300, 1000)
    assert bursts.phi == pytest.approx(2.0) and bursts.information == pytest.approx(found.information)
    assert q4_channel.channel(worse, coins, 1000).floor(1000) is None


def test_the_answer_is_plain_data_with_both_figures() -> None:
    """Everything survives JSON, silent episodes included; the two figures a reader expects are there."""
    found = measured({"graph": 0.3, "signal": 0.5, "probe": 0.6})
    evidence = json.loads(json.dumps(found.evidence(), allow_nan=False))
    trade_off, timelines = evidence["figures"]
    assert trade_off["kind"] == "trade_off" and [s["name"] for s in trade_off["series"]] == list(DETECTORS)
    assert trade_off["floor"]["y"][0] > 0 and timelines["kind"] == "timelines" and timelines["onset"] >= 5
    assert any("50" in said for said in evidence["short"])


def test_what_the_guard_saw_is_told() -> None:
    """Rates, alarms and cycles of the behaviour asked about, nobody else's; nothing watched gives no answer."""
    state = watch.calibrate(watch.start(), "probe", "listening", [0.0] * 100)
    state, _ = watch.observe(state, "probe", "listening", [1.0, 0.0], watch.Settings())
    state, _ = watch.observe(state, "signal", "push_back", [1.0], watch.Settings())
    alarm = {"channel": "probe", "behavior": "listening", "adapter": "a", "e_value": 2e5, "cycle": 3, "at": 1.0}
    guard = {"arl": 1e5, "watch": state, "alarms": [alarm, {**alarm, "behavior": "push_back"}]}
    verdicts = [{"adapter": "a", "decision": "promote", "cycle": 1, "at": 0.0}]
    found = q4_live.observed("listening", "Listening", guard, verdicts)
    assert found is not None and found.verdict == "observed" and found.n == 2 and found.estimate == 1
    assert "probe 50% of 2" in found.sentence and found.figures[0]["x"] == [1, 3]
    assert [s["values"] for s in found.figures[0]["series"] if s["name"] == "probe"] == [[0, 1]]
    assert q4_live.observed("not_rushing", "Not rushing", guard, verdicts) is None
    assert q4_live.observed("listening", "Listening", {}, []) is None


@pytest.mark.parametrize(
    ("episodes", "words"), [(60, "alone is too slow"), (6, "is not shown to notice a regression soon enough")]
)
def test_the_sentence_claims_no_more_than_the_interval(episodes: int, words: str) -> None:
    """Too slow only where the whole interval is above the factor; else it is not shown, and more episodes may tell."""
    after = (
        {"graph": 0.3, "signal": 0.5, "probe": 0.6} if episodes == 60 else {"graph": 0.5, "signal": 0.5, "probe": 0.55}
    )
    found = measured(after, episodes=episodes)
    assert found.verdict == q4.EXPLICIT and words in found.sentence
    assert ("more episodes" in found.would_change) == (found.low <= q4.FACTOR)

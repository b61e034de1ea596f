"""The watch: baselines, alarms, promotions and rollbacks."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.guard import watch
from policies.statistics import binomial

SETTINGS = watch.Settings(arl=1000.0)


def _draw(rng, rate, n):
    return (rng.random(n) < rate).astype(float).tolist()


def _ready(rng, rate=0.1, n=400, channel="signal"):
    """A watch whose adapter was just promoted over a parent with this failure rate."""
    state, _ = watch.observe(watch.start(), channel, "listening", _draw(rng, rate, n), SETTINGS)
    return watch.promoted(state, SETTINGS)


def test_a_degraded_adapter_alarms_soon():
    """Failing half the time where the parent failed 10 %: an alarm within 60 observations, its numbers in words."""
    rng = np.random.default_rng(0)
    state, crossing = watch.observe(_ready(rng), "signal", "listening", _draw(rng, 0.5, 60), SETTINGS)
    assert crossing is not None and crossing.e_value >= crossing.threshold == 1000.0
    assert (crossing.channel, crossing.behavior, crossing.n) == ("signal", "listening", 60)
    assert "listening on the signal channel" in str(crossing)
    assert watch.values(state)["signal", "listening"] > 1000.0


def test_an_unchanged_adapter_is_left_alone():
    """As bad as its parent for 500 observations: alarms are as rare as promised."""
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        alarms += watch.observe(_ready(rng), "signal", "listening", _draw(rng, 0.1, 500), SETTINGS)[1] is not None
    assert alarms <= 20


def test_more_traffic_without_degradation_does_not_alarm():
    """An improved adapter under ten times the traffic stays quiet: counts are not rates."""
    rng = np.random.default_rng(1)
    assert watch.observe(_ready(rng), "signal", "listening", _draw(rng, 0.05, 5000), SETTINGS)[1] is None


def test_a_batch_equals_its_parts():
    """Observations may come in any batches: the state is the same."""
    rng = np.random.default_rng(2)
    ready, values = _ready(rng), _draw(rng, 0.3, 20)
    whole, _ = watch.observe(ready, "signal", "listening", values, SETTINGS)
    parts = ready
    for value in values:
        parts, _ = watch.observe(parts, "signal", "listening", [value], SETTINGS)
    assert parts == whole


def test_the_state_is_plain_data_and_never_changed_in_place():
    """It survives JSON, and observing leaves the state that was given as it was."""
    rng = np.random.default_rng(3)
    state, _ = watch.observe(_ready(rng), "signal", "listening", _draw(rng, 0.2, 30), SETTINGS)
    before = json.dumps(state)
    again, _ = watch.observe(json.loads(before), "signal", "listening", [1.0], SETTINGS)
    assert json.dumps(state) == before
    assert again == watch.observe(state, "signal", "listening", [1.0], SETTINGS)[0]


def test_without_a_baseline_nothing_alarms_and_that_is_said():
    """Before any promotion, or with too few observations, the stream is not armed."""
    state, crossing = watch.observe(watch.start(), "signal", "listening", [1.0] * 500, SETTINGS)
    assert crossing is None and watch.values(state) == {}
    assert "not watched yet" in watch.unarmed(state, SETTINGS)[0]
    thin = watch.calibrate(watch.start(), "probe", "listening", [0.0] * 60)
    assert "wide baseline: 60 of 300" in watch.unarmed(thin, SETTINGS)[0]


def test_a_thin_baseline_is_a_wider_one():
    """The same rate from fewer observations gives a higher m0; below 300 the limit is taken at 99 %."""
    limits = []
    for n in (40, 100, 400, 4000):
        state = watch.calibrate(watch.start(), "probe", "listening", [1.0] * (n // 10) + [0.0] * (n - n // 10))
        limits.append(watch.m0(state, "probe", "listening", SETTINGS))
    assert limits == sorted(limits, reverse=True) and limits[-1] < 0.11 < 0.2 < limits[0]
    assert limits[1] == pytest.approx(binomial.upper(10, 100, 0.99))
    assert limits[2] == pytest.approx(binomial.upper(40, 400, 0.95))


def test_a_perfect_parent_can_be_watched():
    """A baseline without a single failure (or with nothing but failures) still gives a usable m0."""
    for value in (0.0, 1.0):
        state = watch.calibrate(watch.start(), "probe", "listening", [value] * 5000)
        state, _ = watch.observe(state, "probe", "listening", [1.0], SETTINGS)
        assert 0 < watch.m0(state, "probe", "listening", SETTINGS) < 1


def test_the_baseline_stands_still_while_an_adapter_serves():
    """A slowly failing adapter does not teach the watch that failing is normal."""
    rng = np.random.default_rng(4)
    state, _ = watch.observe(_ready(rng), "signal", "listening", _draw(rng, 0.1, 10), SETTINGS)
    before = watch.m0(state, "signal", "listening", SETTINGS)
    state, _ = watch.observe(state, "signal", "listening", _draw(rng, 0.5, 300), SETTINGS)
    assert watch.m0(state, "signal", "listening", SETTINGS) == before


def test_a_promotion_makes_what_was_served_the_baseline():
    """The new baseline is the parent's own rate when it was seen enough, else it is added to the older one."""
    rng = np.random.default_rng(5)
    state, _ = watch.observe(_ready(rng, 0.4), "signal", "listening", _draw(rng, 0.1, 400), SETTINGS)
    assert watch.m0(watch.promoted(state, SETTINGS), "signal", "listening", SETTINGS) < 0.17
    little, _ = watch.observe(_ready(rng, 0.4), "signal", "listening", [0.0] * 10, SETTINGS)
    assert watch.promoted(little, SETTINGS)["streams"]["signal/listening"]["baseline"]["n"] == 410


def test_a_rollback_forgets_the_failed_adapter():
    """After a rollback the parent's baseline stands as it was and the detector starts anew."""
    rng = np.random.default_rng(6)
    ready = _ready(rng)
    state, crossing = watch.observe(ready, "signal", "listening", [1.0] * 30, SETTINGS)
    assert crossing is not None
    assert watch.rolled_back(state) == ready


def test_the_older_baseline_is_left_behind_as_soon_as_there_is_enough():
    """From `least` observations on only the outgoing adapter's own count; one fewer, and the older ones are kept, so
    that the stream stays armed."""
    ready = watch.calibrate(watch.start(), "signal", "listening", [1.0] * 200 + [0.0] * 200)
    for n, baseline in ((29, {"n": 429, "sum": 200.0}), (30, {"n": 30, "sum": 0.0})):
        state, _ = watch.observe(ready, "signal", "listening", [0.0] * n, SETTINGS)
        stream = watch.promoted(state, SETTINGS)["streams"]["signal/listening"]
        assert stream == {**stream, "baseline": baseline, "current": {"n": 0, "sum": 0.0}, "detector": None}


def test_forgetting_a_channel_leaves_the_others():
    """Its streams are gone for every behaviour, baseline and all; it begins again unarmed, and the state that was given
    stays as it was."""
    state = watch.start()
    for channel in watch.CHANNELS:
        for behavior in ("listening", "asking"):
            state = watch.calibrate(state, channel, behavior, [0.0] * 300)
            state, _ = watch.observe(state, channel, behavior, [1.0], SETTINGS)
    before = json.dumps(state)
    left = watch.forget(state, "graph")
    assert json.dumps(state) == before
    assert set(watch.values(left)) == {(c, b) for c in ("signal", "probe") for b in ("listening", "asking")}
    assert {key: state["streams"][key] for key in left["streams"]} == left["streams"]
    again, crossing = watch.observe(left, "graph", "listening", [1.0] * 100, SETTINGS)
    assert crossing is None and watch.m0(again, "graph", "listening", SETTINGS) is None
    assert watch.forget(watch.start(), "graph") == watch.start()


def test_channels_add_up():
    """Three channels with half a case each make one together."""
    state = watch.start()
    for channel in watch.CHANNELS:
        state = watch.calibrate(state, channel, "listening", [0.0] * 270 + [1.0] * 30)
    fused = None
    for _ in range(40):
        for channel in watch.CHANNELS:
            if fused is None:
                state, fused = watch.observe(state, channel, "listening", [1.0, 0.0], SETTINGS)
    assert fused is not None and fused.channel == "fused"
    assert max(watch.values(state).values()) < 1000.0


def test_all_streams_together_keep_the_run_length():
    """Nine streams at their baselines: the mean number of observations in all to the first alarm is the ARL or more."""
    lengths = []
    settings = watch.Settings(arl=100.0)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        state, seen, crossing = watch.start(), 0, None
        for channel in watch.CHANNELS:
            for behavior in "abc":
                state = watch.calibrate(state, channel, behavior, [1.0] * 60 + [0.0] * 240)
        while crossing is None and seen < 600:
            channel, behavior = watch.CHANNELS[seen % 3], "abc"[seen // 3 % 3]
            # at m0 itself, the worst that is still normal
            rate = watch.m0(state, channel, behavior, settings)
            state, crossing = watch.observe(state, channel, behavior, _draw(rng, rate, 1), settings)
            seen += 1
        lengths.append(seen)
    assert np.mean(lengths) >= 100


def test_blocking_restores_the_run_length_of_bursts():
    """Conversations that wholly fail or wholly succeed: unblocked they alarm far too early, blocked they do not."""
    raw, blocked = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        base = [float(rng.random() < 0.2) for _ in range(400)]
        state = watch.calibrate(watch.start(), "graph", "listening", base)
        talks = [(f"c{c}", value) for c in range(50) for value in [float(rng.random() < 0.2)] * 8]
        raw.append(watch.observe(state, "graph", "listening", [v for _, v in talks], SETTINGS)[1] is not None)
        blocked.append(watch.observe(state, "graph", "listening", watch.block(talks), SETTINGS)[1] is not None)
    assert sum(blocked) <= 6 < 20 < sum(raw)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), max_size=30))
def test_a_block_is_a_conversation(observations):
    """Each conversation gives exactly one observation in [0, 1]."""
    blocks = watch.block(observations)
    assert len(blocks) == len({c for c, _ in observations})
    assert all(0 <= b <= 1 for b in blocks)


@pytest.mark.parametrize("value", [-0.5, 2.0, float("nan")])
def test_impossible_observations_are_refused(value):
    """An observation outside [0, 1] raises, and so does a channel that does not exist."""
    with pytest.raises(ValueError, match="observation"):
        watch.observe(watch.start(), "signal", "listening", [value], SETTINGS)
    with pytest.raises(ValueError, match="channels are graph"):
        watch.observe(watch.start(), "noise", "listening", [0.0], SETTINGS)

"""Question 4: a degraded shadow is found, more traffic is not; the served adapter is never touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import Cancelled, CannotAnswer
from daemon.experiments import q4_graph_regression as q4
from daemon.experiments.base import Options
from daemon.experiments.bench import Bench
from daemon.models.base import TrainingExample
from daemon.models.fake import BAD, GOOD, FakeModel
from daemon.probes import channels
from policies.answers.base import NOT_IDENTIFIED
from policies.guard import watch
from policies.records import ChatMessage, Finding
from tests.daemon.stations.parts import NAMES, WorldModel

ASKED = Options(size="quick", behavior="listening")
TINY = q4.Sizes(conversations=6, probes=12, sham=16, episodes=5, horizon=3, rated=4, busier=10, examples=32)
MIDDLE = q4.Sizes(conversations=10, probes=12, sham=40, episodes=10, horizon=6, rated=10, busier=10, examples=60)


def control(finding: Finding, name: str) -> dict[str, Any]:
    """One of the finding's controls."""
    (found,) = [c for c in finding.evidence["controls"] if c["name"] == name]
    return dict(found)


def test_a_degraded_shadow_is_found_and_more_traffic_is_not(make_bench: Callable[..., Bench]) -> None:
    """On the real nano, tiny: rejected answers cost, the probes notice, twice the traffic alone raises no alarm.

    The predicted ratio stands beside the measured one; a second run takes everything from its cells.
    """
    bench = make_bench()
    found = q4.run(bench, ASKED, TINY)
    assert found.verdict != NOT_IDENTIFIED, found.sentence
    for name in ("the degradation costs", "the probes notice", "more traffic"):
        assert control(found, name)["ok"], control(found, name)
    numbers = found.evidence["numbers"]
    assert numbers["predicted_ratio"] > 0 and numbers["shadow"]["after"] >= numbers["shadow"]["before"] + 0.2
    assert numbers["channels"]["probe"]["after"]["value"] > numbers["channels"]["probe"]["before"]["value"]
    assert {figure["kind"] for figure in found.evidence["figures"]} == {"trade_off", "timelines"}
    again = q4.run(make_bench(), ASKED, TINY)
    assert again.evidence["cells"]["computed"] == 0 and again.estimate == found.estimate


def test_the_serving_adapter_is_only_read(make_bench: Callable[..., Bench], tmp_path: Path) -> None:
    """Where an adapter serves, the shadow starts from it, and not a byte of it changes."""
    model = WorldModel(dict.fromkeys(NAMES, 0.3))
    serving = tmp_path / "serving"
    bench = make_bench(model=model)
    pair = bench.behavior.pairs[0]
    taught = TrainingExample(prompt=(ChatMessage(role="user", content=pair.prompt),), target=pair.preferred)
    model.train([taught], bench.recipe, parent=None, into=serving, card={"adapter": "a"})
    before = {file: file.read_bytes() for file in serving.rglob("*") if file.is_file()}
    bench.serving, bench.serving_folder = "a", serving
    q4.run(bench, ASKED, TINY)
    assert {file: file.read_bytes() for file in serving.rglob("*") if file.is_file()} == before
    assert model.trainings >= 2 and all(folder != serving for folder in bench.scratch.iterdir())


def test_a_run_that_was_cancelled_goes_on(make_bench: Callable[..., Bench]) -> None:
    """Cells before the cancellation are kept; the finished answer is that of an uninterrupted run."""
    model = WorldModel(dict.fromkeys(NAMES, 0.3))
    bench = make_bench(model=model)

    def stop(done: int, total: int, note: str) -> None:
        if note == "episodes":
            raise Cancelled

    bench.checkpoint = stop
    with pytest.raises(Cancelled):
        q4.run(bench, ASKED, MIDDLE)
    resumed = make_bench(model=model)
    found = q4.run(resumed, ASKED, MIDDLE)
    assert found.evidence["cells"]["reused"] >= 6 and found.evidence["cells"]["computed"] > 0
    assert found.n == 10 and found.verdict != NOT_IDENTIFIED


class Incorrigible(WorldModel):
    """Training changes nothing: half of what it is trained on is good, half bad."""

    def train(self, examples: Any, recipe: Any, **how: Any) -> Any:
        pair = (replace(examples[0], target=GOOD), replace(examples[0], target=BAD))
        return FakeModel.train(self, pair * 4, recipe, **how)


def test_what_cannot_be_degraded_identifies_nothing(make_bench: Callable[..., Bench]) -> None:
    """A model that learns nothing bad cannot show how soon a regression is noticed."""
    found = q4.run(make_bench(model=Incorrigible(dict.fromkeys(NAMES, 0.3))), ASKED, MIDDLE)
    assert found.verdict == NOT_IDENTIFIED and not control(found, "the degradation costs")["ok"]
    assert q4.advise(found) == ()


def test_without_a_simulated_user_probes_are_replayed(make_bench: Callable[..., Bench]) -> None:
    """Another model than nano: half of the probes are asked, the judge speaks for users, and the answer says so."""
    bench = make_bench(model=WorldModel(dict.fromkeys(NAMES, 0.3)), records={"nano": False})
    world = q4._world(bench, MIDDLE)
    assert world.mix is None and world.busier().conversations == 2 * world.conversations
    (cycle,) = channels.record(bench.model, world, 1, bench.sampling)
    assert len(cycle["heard"]) == MIDDLE.conversations and len(cycle["probe"]) == MIDDLE.probes
    asked = {prompt[0].content for prompt in bench.model.asked[: MIDDLE.conversations]}  # type: ignore[attr-defined]
    probed = {prompt[0].content for prompt in bench.model.asked[MIDDLE.conversations :]}  # type: ignore[attr-defined]
    assert not asked & probed
    found = q4.run(bench, ASKED, MIDDLE)
    assert any("no simulated user" in said for said in found.evidence["short"])


def test_more_traffic_is_about_the_behaviour(make_bench: Callable[..., Bench]) -> None:
    """Its share doubles, the others keep their proportions, and shares still add up to one."""
    world = q4._world(make_bench(model=WorldModel({})), TINY)
    mix = world.busier().mix
    assert mix is not None and world.mix is not None
    assert mix["listening"] == pytest.approx(2 * world.mix["listening"]) and sum(mix.values()) == pytest.approx(1)
    assert mix["not_rushing"] / mix["general"] == pytest.approx(world.mix["not_rushing"] / world.mix["general"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (lambda b: {"graph_key": "pattern-nobody-knows"}, "no node 'pattern-nobody-knows'.*graph_key"),
        (lambda b: {"pairs": b.pairs[:5]}, "target examples.*at least 10.*`examples`"),
        (lambda b: {"probes": ()}, "0 rotating target probes.*`probes`"),
    ],
    ids=["no pattern node", "too few pairs", "no probes"],
)
def test_too_little_material_is_refused_before_anything_runs(
    make_bench: Callable[..., Bench], changes: Callable[[Any], dict[str, Any]], words: str
) -> None:
    """The message says what is missing and the remedy; nothing was trained or asked."""
    model = WorldModel({})
    bench = make_bench(model=model)
    bench.behavior = replace(bench.behavior, **changes(bench.behavior))
    with pytest.raises(CannotAnswer, match=words):
        q4.run(bench, ASKED, TINY)
    assert model.asked == [] and model.trainings == 0


def test_traffic_without_eligible_turns_is_refused(make_bench: Callable[..., Bench]) -> None:
    """A behaviour whose turns are never eligible has no graph channel: said with the place to mend."""
    bench = make_bench(model=WorldModel(dict.fromkeys(NAMES, 0.3)))
    bench.behavior = replace(bench.behavior, eligible_any=())
    with pytest.raises(CannotAnswer, match=r"fewer than the 30 observations.*`eligible` in listening\.toml"):
        q4.run(bench, ASKED, TINY)


@pytest.mark.parametrize(
    ("verdict", "noticed", "value"),
    [
        ("self-heals", {}, ["graph", "signal"]),
        ("explicit detection is needed", {"graph": 0.2, "signal": 0.9, "probe": 1.0}, ["signal", "probe"]),
        ("not identified", {}, None),
    ],
)
def test_advice_follows_the_verdict(verdict: str, noticed: dict[str, float], value: list[str] | None) -> None:
    """Probes are dropped where the graph does without them; a blind channel is dropped where it does not."""
    finding = Finding(
        id="f", question="q4", behavior="listening", adapter=None, size="full", verdict=verdict, sentence="So.",
        estimate=1.1, low=0.9, high=1.3, n=50, seconds=1.0, at=0.0, evidence={"numbers": {"noticed": noticed}},
    )  # fmt: skip
    found = [(a.key, json.loads(a.value)) for a in q4.advise(finding)]
    assert found == ([("guard.channels", value)] if value else [])


def test_live_tells_what_the_guard_saw(make_bench: Callable[..., Bench]) -> None:
    """Nothing watched, nothing said; otherwise observed, with the alarms."""
    assert q4.live(make_bench(model=WorldModel({})), ()) is None
    state, _ = watch.observe(watch.start(), "graph", "listening", [0.0, 1.0], watch.Settings())
    bench = make_bench(model=WorldModel({}), records={"guard": {"arl": 1e5, "watch": state, "alarms": []}})
    found = q4.live(bench, ())
    assert found is not None and (found.verdict, found.size, found.n) == ("observed", "live", 2)
    assert "graph 50% of 2" in found.sentence and "alarms so far: none" in found.sentence

"""Question 6 on the real nano, at a tiny size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import CannotAnswer
from daemon.experiments import arms
from daemon.experiments import q6_backward_transfer as q6
from daemon.experiments.base import Options, Update
from daemon.experiments.bench import Bench
from daemon.models.base import TrainingExample
from daemon.probes import general
from policies.behaviors import Pair
from policies.records import ChatMessage, Finding
from tests.daemon.experiments.conftest import GENERAL, RECIPE

TINY = q6.Sizes(seeds=1, examples=16, shares=(0.0,), tasks=20, samples=1, kl=6)
ASKED = Options(size="quick", behavior="listening")
FAST = replace(RECIPE, learning_rate=2e-2, epochs=4)


def wrong_answers() -> tuple[Pair, ...]:
    """General questions, each with the answer to another one to prefer: a behaviour that costs general skill."""
    rows = general.examples(GENERAL.with_name("general.examples.jsonl"))[:32]
    return tuple(
        Pair(prompt=asked, kind="target", band="obvious", preferred=rows[place - 7][1], rejected=answer)
        for place, (asked, answer) in enumerate(rows)
    )


def test_an_adapter_that_harms_competes(make_bench: Callable[..., Bench]) -> None:
    """Taught wrong answers, the model is worse at the families and at their texts; general data alone is not."""
    bench = make_bench(recipe=FAST, records={"config": {"learn": {"general_share": 0.25, "counter_share": 0.25}}})
    bench.behavior = replace(bench.behavior, pairs=wrong_answers())
    finding = q6.run(bench, ASKED, TINY)
    assert finding.verdict == "competes"
    harmed, null = finding.evidence["numbers"]["arms"][0], finding.evidence["null"]["families"]
    assert harmed["families"]["text"]["standing"] == "worse"
    assert harmed["families"]["facts"]["standing"] == "worse"
    assert all(row["value"] > -0.1 for row in null.values())
    assert finding.low is not None and finding.low < -q6.DELTA
    assert not list(bench.scratch.iterdir())


def test_the_identity_is_non_inferior(make_bench: Callable[..., Bench]) -> None:
    """Learning rate 0 changes no answer and no likelihood; 60 tasks a family are enough to say so."""
    bench = make_bench(recipe=replace(RECIPE, learning_rate=0.0, epochs=1))
    finding = q6.run(bench, ASKED, replace(TINY, tasks=60))
    assert finding.verdict == "non-inferior"
    (alone, *_) = finding.evidence["numbers"]["arms"]
    assert alone["kept"] and alone["log_kl"] < -20
    assert all(row["value"] == pytest.approx(0, abs=1e-6) for row in alone["families"].values())
    assert any("1 adapter an arm" in note for note in finding.evidence["short"])


def found(
    verdict: str, size: Any, shares: dict[float, bool], now: float = 0.25, serving: bool | None = True
) -> Finding:
    """A finding whose arms (and the `serving` adapter, if there is one) kept every family, or not."""
    numbers = {
        "delta": 0.05,
        "arms": [{"share": s, "kept": kept} for s, kept in shares.items()] + [{"share": None, "kept": True}],
        "serving_kept": serving,
        "config": {"general_share": now, "counter_share": 0.25},
    }
    return Finding(
        id="f", question="q6", behavior="listening", adapter=None, size=size, verdict=verdict, sentence="",
        estimate=0.0, low=0.0, high=0.0, n=1, seconds=1.0, evidence={"numbers": numbers}, at=0.0,
    )  # fmt: skip


def test_advice_protects_at_once_and_relaxes_only_in_full() -> None:
    """Harm asks for the least share that keeps everything; less protection takes the full sizes."""
    harm = found("competes", "quick", {0.0: False, 0.25: False, 0.5: True})
    assert [(a.key, a.value) for a in q6.advise(harm)] == [("learn.general_share", "0.5")]
    none = found("competes", "quick", {0.0: False, 0.5: False})
    assert "may not be enough" in q6.advise(none)[0].evidence
    kept = {0.0: True, 0.25: True}
    assert q6.advise(found("non-inferior", "quick", kept)) == ()
    assert [a.value for a in q6.advise(found("non-inferior", "full", kept))] == ["0.0"]
    assert q6.advise(found("non-inferior", "full", kept, now=0.0)) == ()
    assert q6.advise(found("not identified", "full", kept)) == ()


def test_one_session_alone_does_not_relax() -> None:
    """A fresh update that keeps everything says nothing about many: the serving adapter has to keep it, too."""
    kept = {0.0: True, 0.25: True}
    for serving in (False, None):
        assert q6.advise(found("non-inferior", "full", kept, serving=serving)) == ()
        assert q6.advise(found("positive", "full", kept, serving=serving)) == ()
    more = found("non-inferior", "full", {0.0: False, 0.5: True}, serving=None)
    assert [a.value for a in q6.advise(more)] == ["0.5"]


def test_a_share_is_what_was_really_used() -> None:
    """A pool of 16 beside 64 is 20 %, whatever was asked for; shares that come to the same are tried once."""
    assert q6._mixtures((0.0, 0.25, 0.5), 64, 400) == {0.0: 0, 0.25: 21, 0.5: 64}
    assert q6._mixtures((0.0, 0.25, 0.5), 64, 16) == {0.0: 0, 0.2: 16}


def test_a_short_pool_is_named(make_bench: Callable[..., Bench]) -> None:
    """What the largest share came to, and that the null is smaller."""
    notes = q6._short(make_bench(), q6.FULL, 64, 16)
    assert "16 general examples: the largest share that was tried is 20%, not 50%" in notes
    assert any("null was trained on 16" in note for note in notes)


def test_too_little_material_is_named(make_bench: Callable[..., Bench], tmp_path: Path) -> None:
    """The configuration's key, what it has, and the remedy."""
    few = make_bench(tasks=make_bench().tasks[:50])
    with pytest.raises(CannotAnswer, match=r"`judge\.general_probes`: .*at least 20 .*it has 17 of arithmetic"):
        q6.run(few, ASKED, TINY)
    file = tmp_path / "own.jsonl"
    file.write_text('{"prompt": "a", "answer": "b"}\n')
    with pytest.raises(CannotAnswer, match=r"`learn\.general_examples` has 1 examples; question 6 needs at least 16"):
        q6.run(make_bench(general_examples=file), ASKED, TINY)


def test_sessions_add_up(make_bench: Callable[..., Bench]) -> None:
    """A session of wrong answers shows in every family and in KL; live has limits from two sessions on."""
    bench = make_bench(recipe=FAST)
    rows = [
        TrainingExample(prompt=(ChatMessage(role="user", content=pair.prompt),), target=pair.preferred)
        for pair in wrong_answers()[: arms.MINIMUM]
    ]
    after = bench.adapter(rows, FAST)
    assert q6.live(bench, ()) is None
    history: list[Any] = []
    for cycle in (1, 2):
        update = Update(before=None, after=after, adapter=f"adapter {cycle}", examples=16, cycle=cycle)
        history += q6.observe(bench, update)
        finding = q6.live(bench, history)
        assert finding is not None and (finding.verdict, finding.n) == ("observed", cycle)
        assert (finding.low is None) == (cycle == 1)
    values = {m.kind: m.value for m in history[:5]}
    assert values["facts"] < 0 and values["text"] < 0 < values["kl"]
    assert finding.estimate is not None and finding.estimate < 0
    assert finding.evidence["figures"][0]["x"] == [1, 2]


def test_harness_tasks_are_families_of_their_own(make_bench: Callable[..., Bench]) -> None:
    """They stand beside our own families, one greedy answer an item, seeds as rows."""
    tasks = q6._tasks(make_bench(), 1)
    reading = {"passed": [1.0] * len(tasks), "text": [-0.1] * len(tasks), "harness": {"piqa": [1.0, 0.0]}}
    results = {r.family: r for r in q6._results(tasks, TINY, [reading, reading])}
    assert sorted(results) == ["arithmetic", "code", "facts", "harness: piqa", "text"]
    assert results["harness: piqa"].values == [[1.0, 0.0], [1.0, 0.0]]

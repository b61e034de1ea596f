"""Question 3 on the real nano: two planted heads are found and named, noise is not taken for anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from daemon.errors import CannotAnswer, Unobservable
from daemon.experiments import arms, looking, q3_head_change
from daemon.experiments.base import Options, Update
from daemon.experiments.bench import Bench
from daemon.models import surgery
from policies.answers import q3
from policies.records import Recipe

QUICK = Options(size="quick", behavior="listening")
# the planted adapter is trained hard on queries and outputs alone, the null a little on everything
PLANT = Recipe(
    rank=4, alpha=8, targets=("q_proj", "o_proj"), learning_rate=1e-2, epochs=3, batch_size=8, seed=0
)  # fmt: skip
NULL = replace(PLANT, targets=("all-linear",), learning_rate=1e-3, epochs=1)
TINY = q3_head_change.Sizes(conversations=8, probes=16, examples=16, seeds=1, nulls=3, operated=1)
HEADS = ((4, 0), (8, 1))
SCALE = PLANT.alpha / PLANT.rank


@pytest.fixture(scope="module")
def trained(nano: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that has learnt to listen with its attention's queries and outputs."""
    from daemon import behaviors as behavior_files
    from daemon.models.base import TrainingExample
    from policies.records import ChatMessage

    pairs = behavior_files.load(behavior_files.BUNDLED, ["listening"])["listening"].pairs
    into = tmp_path_factory.mktemp("plant") / "trained"
    examples = [
        TrainingExample(prompt=(ChatMessage(role="user", content=p.prompt),), target=p.preferred)
        for p in pairs
        if p.kind == "target"
    ][:48]
    nano.train(examples, PLANT, parent=None, into=into, card={"adapter": "plant", "parent": None, "batch": "test"})
    return into


def planted(bench: Bench, trained: Path, into: Path) -> Path:
    """Only the two heads' part of it, three times as strong; the others' output has noise of about that norm."""
    layout = bench.model.layout()  # type: ignore[attr-defined]
    surgery.restrict(trained, into / "two", HEADS, layout=layout)
    surgery.scaled(into / "two", into / "planted", 3.0)
    size = 0.75 * float(surgery.head_norms(into / "planted", layout).max())
    generator = torch.Generator().manual_seed(3)  # noise that does little: known by undoing all of it

    def ballast(block: int, projection: str, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if projection != "o_proj":
            return a, b
        parts = list(a.chunk(layout.heads, dim=1))  # what each head puts out goes through its own columns
        for head, part in enumerate(parts):
            if (block, head) not in HEADS:
                noise = torch.randn(part.shape, generator=generator)
                parts[head] = noise * size / (SCALE * torch.linalg.matrix_norm(b @ noise))
        return torch.cat(parts, dim=1), b

    surgery._rewrite(into / "planted", into / "among_noise", ballast, {"how": "ballast"})
    return into / "among_noise"


def test_an_adapter_of_two_heads_is_localised_and_those_are_named(
    make_bench: Callable[..., Bench], trained: Path, tmp_path: Path
) -> None:
    """The heads an adapter is confined to are named; what was kept of a broken-off run is not measured again."""
    bench = make_bench(recipe=NULL)
    subject = planted(bench, trained, tmp_path)
    finding = q3_head_change.run(bench, QUICK, TINY, subject=subject)
    assert finding.verdict == "localised", finding.sentence
    assert sorted(finding.evidence["numbers"]["top"]) == [list(head) for head in HEADS]
    assert "layer 4 head 0" in finding.sentence and "layer 8 head 1" in finding.sentence
    assert finding.estimate == pytest.approx(1.0, abs=0.15) and finding.n == 16
    assert all(control["ok"] for control in finding.evidence["controls"])
    assert {figure["kind"] for figure in finding.evidence["figures"]} == {"ranking", "head_map"}
    assert any("few" in note for note in finding.evidence["short"])
    json.dumps(finding.evidence, allow_nan=False)
    rank, *_, targets = q3_head_change.advise(finding)
    assert (rank.key, targets.key, json.loads(targets.value)) == ("learn.rank", "learn.targets", ["attention"])

    again = make_bench(recipe=NULL)
    repeated = q3_head_change.run(again, QUICK, TINY, subject=subject)
    assert again.cells.computed == 0 and again.cells.reused == bench.cells.computed
    assert repeated.evidence["numbers"] == finding.evidence["numbers"]

    noise = tmp_path / "noise"
    surgery.random_like(trained, noise, seed=1)
    found = q3_head_change.run(make_bench(recipe=NULL), QUICK, TINY, subject=noise)
    assert found.verdict == "not identified", found.sentence
    assert found.estimate is None and q3_head_change.advise(found) == ()


def test_an_adapter_of_nothing_but_two_heads_is_localised(
    make_bench: Callable[..., Bench], trained: Path, tmp_path: Path
) -> None:
    """Confined to two heads, the others untouched: there is no other update of that norm to undo, and that is said."""
    bench = make_bench(recipe=NULL)
    surgery.restrict(trained, tmp_path / "two", HEADS, layout=bench.model.layout())  # type: ignore[attr-defined]
    surgery.scaled(tmp_path / "two", tmp_path / "planted", 3.0)
    finding = q3_head_change.run(bench, QUICK, TINY, subject=tmp_path / "planted")
    assert finding.verdict == "localised", finding.sentence
    assert sorted(finding.evidence["numbers"]["top"]) == [list(head) for head in HEADS]
    told = {control["name"]: control for control in finding.evidence["controls"]}
    assert "hardly updated" in told["random sets of heads are as large as the top set"]["detail"]


def test_rank_one_has_an_effective_rank(make_bench: Callable[..., Bench]) -> None:
    """An update of rank 1 uses one direction in every module, and can be looked at like any other."""
    bench = make_bench(recipe=replace(NULL, rank=1))
    folder = arms.adapter(bench, arms.material(bench, 16), seed=0)
    assert looking.effective_ranks(folder) == (1.0, {"attention": 1.0, "gdn": 1.0, "mlp": 1.0})


@pytest.mark.parametrize(("effective", "advised"), [(2.6, [4, 8]), (7.6, [16, 32]), (5.5, [8])])
def test_another_rank_keeps_the_scale(make_bench: Callable[..., Bench], effective: float, advised: list[int]) -> None:
    """An update is scaled by alpha / rank, so with another rank goes the alpha that keeps it."""
    ranks = {"recipe": 8, "alpha": 16, "effective": effective, "placebo": 5.0}
    share = {"value": 0.7, "low": 0.6, "high": 0.9}
    answer = q3.observed([(1, ("layer 4 head 0",), (0.1,))])
    numbers = {"rank": ranks, "targets": "all-linear", "causal": {"all_heads": share}}
    finding = make_bench().finding("q3", "full", replace(answer, verdict=q3.DISTRIBUTED, numbers=numbers))
    found = q3_head_change.advise(finding)
    assert [json.loads(each.value) for each in found] == advised
    assert [each.key for each in found] == ["learn.rank", "learn.alpha"][: len(advised)]


def test_only_the_protocols_numbers_are_called_its_own(make_bench: Callable[..., Bench]) -> None:
    """The protocol asks for 5 retrains and names no number of training seeds: that is the full run's."""
    layout = make_bench().model.layout()  # type: ignore[attr-defined]
    notes = q3_head_change._short(q3_head_change.QUICK, layout, given=False, conversations=20, probes=24)
    assert "2 training seeds, a full run takes 3" in notes
    assert "3 shuffled-label retrains, the protocol wants 5" in notes


def test_a_session_is_looked_at_and_adds_up(make_bench: Callable[..., Bench], trained: Path) -> None:
    """Around a training session every head's change is kept, and sessions add up to an observation."""
    bench = make_bench()
    update = Update(before=None, after=trained, adapter="a", examples=48, cycle=3)
    (row,) = q3_head_change.observe(bench, update)
    assert (row.probe, row.split, row.cycle, len(row.values)) == ("q3", "live", 3, 12)
    assert row.low <= row.value <= row.high and min(row.values) > 0
    finding = q3_head_change.live(bench, [row, replace(row, cycle=4)])
    assert finding is not None and (finding.verdict, finding.size, finding.n) == ("observed", "live", 2)
    assert q3_head_change.live(bench, []) is None


def test_too_little_to_ask_about(make_bench: Callable[..., Bench]) -> None:
    """Too few probes or pairs are refused with the file's name, the number and the remedy."""
    bench = make_bench()
    whole = bench.behavior
    bench.behavior = replace(whole, probes=whole.probes[:6])
    with pytest.raises(CannotAnswer, match=r"listening\.toml: 6 rotating target probes.*add `\[\[probes\]\]`"):
        q3_head_change.run(bench, QUICK, TINY)
    bench.behavior = replace(whole, pairs=whole.pairs[:5])
    with pytest.raises(CannotAnswer, match=r"listening\.toml: .*examples.*add `\[\[examples\]\]`"):
        arms.material(bench, 40)


def test_distilled_examples_are_material_too(make_bench: Callable[..., Bench]) -> None:
    """A behaviour without pairs of its own trains on what the loop distilled, where a rejected answer is known."""
    row = {"prompt": [["user", "chop"]], "target": "yes", "rejected": "no", "behavior": "listening"}
    rows = [{**row, "target": f"yes {i}"} for i in range(20)] + [{**row, "rejected": None}]
    bench = make_bench(records={"examples": rows})
    bench.behavior = replace(bench.behavior, pairs=())
    assert len(arms.material(bench, 40)) == 20


def test_a_model_without_attention_is_refused(make_bench: Callable[..., Bench]) -> None:
    """There is nothing to rank in a model of GDN layers alone, and it is said which kind it is."""

    class NoAttention:
        def __init__(self, model: Any) -> None:
            self.model = model

        def __getattr__(self, name: str) -> Any:
            return getattr(self.model, name)

        def layout(self) -> Any:
            return replace(self.model.layout(), attention=(), heads=0)

    bench = make_bench()
    bench.model = NoAttention(bench.model)
    with pytest.raises(Unobservable, match="full-attention"):
        q3_head_change.run(bench, QUICK, TINY)

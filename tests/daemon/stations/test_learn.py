"""Learning: failures become examples without the guidance, and enough fresh ones become one update."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.config import build
from daemon.errors import ConfigError
from daemon.events import Job, JobFinished, Result
from daemon.models import adapters
from daemon.models.nano.checker import check
from daemon.stations.learn import Learn
from daemon.stations.material import counter_examples, general_examples
from policies.records import Adapter, Batch, ChatMessage, Example, Quarantine, content_id
from tests.daemon.stations.parts import Here, bundled, dream, example, outcome, scenario, signal, turn

SMALL = {"minimum": 4, "maximum": 12}


def complain(here: Here, behavior: str, count: int, *, failed: bool = True, at: float = 1.0) -> list[str]:
    """Turns with a signal; their ids."""
    found = []
    for number in range(count):
        text = scenario(behavior, (behavior, number, at))
        said = turn(text, here.model._said(text, good=not failed), conversation=f"{behavior}-{at}-{number}", at=at)
        here.add(said, signal(said, behavior, failed=failed))
        found.append(said.id)
    return found


def dreamt(here: Here, behavior: str, passed: bool | None, *, cycle: int = 1) -> str:
    """A dream of that cycle with three passing answers and one as said; its id."""
    made = dream(scenario(behavior, (behavior, passed, cycle)), behavior, cycle=cycle)
    here.add(made, *(outcome(made, True, attempt=k) for k in range(3)))
    here.add(outcome(made, passed, attempt=3, answer="ok. i suggest a wok."))
    return made.id


def distilling(here: Here, cycle: int = 1) -> Job:
    (job,) = Learn().plan(here.view(cycle)).jobs
    assert job.kind == "learn.distil"
    return job


def test_only_failures_of_trained_behaviours_are_distilled(here: Here) -> None:
    """Failed turns of what is trained, and recent dreams of it that failed at least once, with the answer that failed;
    nothing that went well or could not be read, and nothing of what is only guarded."""
    failed = complain(here, "listening", 3)
    complain(here, "listening", 3, failed=False, at=2.0)
    complain(here, "push_back", 3)
    wrong = dreamt(here, "listening", False)
    dreamt(here, "listening", True)
    dreamt(here, "listening", None)
    dreamt(here, "not_rushing", False)
    items = distilling(here).payload["items"]
    assert {item["source"] for item in items} == {*failed, wrong}
    assert len(items) == 4 and {item["behavior"] for item in items} == {"listening"}
    by_source = {item["source"]: item for item in items}
    assert by_source[wrong]["origin"] == "dream" and by_source[wrong]["rejected"] == "ok. i suggest a wok."
    assert all(check(item["prompt"][-1][1], item["rejected"]).passed is False for item in items)


def test_no_source_is_distilled_twice(make: Callable[..., Here]) -> None:
    """What became an example is not asked again in the next cycle; what failed since then is."""
    here = make(learn={"minimum": 1000, "maximum": 1000})
    sources = complain(here, "listening", 6)
    here.model.base = dict.fromkeys(here.model.base, 0.0)
    here.act(Learn(), distilling(here))
    assert {e.source for e in here.store.find(Example)} == set(sources)
    assert Learn().plan(here.view(2)).jobs == ()
    later = complain(here, "listening", 2, at=5.0)
    assert {item["source"] for item in distilling(here, 3).payload["items"]} == set(later)


def test_the_guidance_is_in_the_question_and_never_in_the_example(here: Here) -> None:
    """The model answers with the behaviour's guidance as its memory; what is stored to be trained on has the scenario
    and the talk before it as they were, without the guidance (that is what is distilled)."""
    guidance = bundled()["listening"].guidance
    before = (ChatMessage(role="user", content="hi"), ChatMessage(role="assistant", content="hello"))
    text = scenario("listening", 5)
    said = turn(text, here.model._said(text, good=False), context=before)
    here.add(said, signal(said, "listening"))
    complain(here, "listening", 5)
    done = here.run(distilling(here))
    for prompt in here.model.asked:
        assert (prompt[0].role, prompt[0].content) == ("system", f"memory: {guidance}")
    examples: list[Example] = list(done.result.records)
    assert len(examples) == 6
    (mine,) = (e for e in examples if e.source == said.id)
    assert mine.prompt == (*before, ChatMessage(role="user", content=text))
    assert mine.rejected == said.assistant and mine.origin == "turn" and mine.behavior == "listening"
    for found in examples:
        assert guidance not in json.dumps([m.content for m in found.prompt]) + found.target
        assert all(message.role != "system" for message in found.prompt)
        assert check(found.prompt[-1].content, found.target).passed


def test_an_answer_that_fails_in_spite_of_guidance_teaches_nothing(here: Here) -> None:
    """Only answers that the judge accepts become examples; what could not be solved or read is said, and is not tried
    again in the next cycle."""
    complain(here, "listening", 4)
    here.add(odd := turn("the moon is made of words", "yes"), signal(odd, "listening"))
    here.model.base = dict.fromkeys(here.model.base, 10.0)  # even a tenth of it always fails
    job = distilling(here)
    assert len(job.payload["items"]) == 5
    here.act(Learn(), job)
    assert here.store.count(Example) == 0
    assert sorted(q.reason for q in here.store.find(Quarantine)) == [
        *["no guided answer passed"] * 4,
        "the judge cannot read the scenario",
    ]
    assert Learn().plan(here.view(2)).jobs == ()


def test_unsolved_scenarios_make_room_for_others(here: Here) -> None:
    """Turns and dreams that no guided answer solved are left alone, however good the model has become since; what
    failed later is distilled without them."""
    unsolved = {*complain(here, "listening", 3), dreamt(here, "listening", False)}
    here.model.base = dict.fromkeys(here.model.base, 10.0)
    job = distilling(here)
    assert {item["source"] for item in job.payload["items"]} == unsolved
    here.act(Learn(), job)
    assert {q.source for q in here.store.find(Quarantine)} == unsolved
    here.model.base = dict.fromkeys(here.model.base, 0.0)
    later = set(complain(here, "listening", 2, at=5.0))
    job = distilling(here, 2)
    assert {item["source"] for item in job.payload["items"]} == later
    here.act(Learn(), job, 2)
    assert {e.source for e in here.store.find(Example)} == later
    assert Learn().plan(here.view(3)).jobs == ()


def test_a_scenario_unsolved_for_one_behaviour_is_tried_for_another(make: Callable[..., Here]) -> None:
    """A turn on which two behaviours failed is given up for each by itself."""
    here = make(behaviors={"train": ["listening", "not_rushing"], "guard": []})
    said = turn(scenario("listening", 1), "ok. i suggest a wok.")
    here.add(said, signal(said, "listening"), signal(said, "not_rushing"))
    id = content_id("unsolved", said.id, "listening")
    here.add(Quarantine(id=id, source=said.id, reason="no guided answer passed", at=1.0))
    (item,) = distilling(here).payload["items"]
    assert (item["source"], item["behavior"]) == (said.id, "not_rushing")


def test_a_failed_training_is_no_try(make: Callable[..., Here]) -> None:
    """Batches without an adapter (their training broke off) do not use up their examples' chances."""
    here = make(learn=SMALL)
    prompts = [scenario("listening", n) for n in range(6)]
    fresh = [example(text, here.model._said(text, True), here.model._said(text, False)) for text in prompts]
    ids = tuple(e.id for e in fresh)
    here.add(*fresh)
    here.add(*(Batch(id=f"x{n}", examples=ids, parent=None, cycle=n, placebo=False, at=1.0) for n in range(5)))
    assert Learn().plan(here.view(9)).jobs


def test_each_scenario_gets_several_guided_answers(make: Callable[..., Here]) -> None:
    """`learn.guided_answers` tries each, of which the first that passes is kept."""
    here = make(learn={"guided_answers": 3})
    complain(here, "listening", 2)
    job = distilling(here)
    assert len(here.run(job).result.records) == 2
    assert len(here.model.asked) == 6 and here.run(job).result == here.run(job).result


def test_too_few_fresh_examples_wait(make: Callable[..., Here]) -> None:
    """Below `learn.minimum` no update is planned, the examples are kept, and the note names the key."""
    here = make(learn={"minimum": 5, "maximum": 12})
    complain(here, "listening", 4)
    plan = here.act(Learn(), distilling(here))
    assert plan.jobs == () and here.store.count(Batch) == 0 and here.store.count(Example) == 4
    assert plan.note.startswith("4 examples from 4 failures; waiting: 4 fresh examples")
    assert plan.note.endswith("`learn.minimum` is 5")
    assert Learn().plan(here.view(2)).note.startswith("waiting: 4 fresh")


def test_dreams_alone_are_no_batch(make: Callable[..., Here]) -> None:
    """However many dreams failed, without enough real turns beside them nothing is trained, and the note says why."""
    here = make(learn=SMALL)
    fresh = [example(scenario("listening", n), origin="dream") for n in range(12)]
    here.add(*fresh)
    plan = Learn().plan(here.view(2))
    assert plan.jobs == () and "`learn.dream_share`" in plan.note and here.store.count(Batch) == 0


def test_a_failed_dream_of_a_broken_cycle_is_distilled_later(here: Here) -> None:
    """Dreams that failed are looked back on until they were tried once."""
    wrong = dreamt(here, "listening", False, cycle=1)
    (item,) = distilling(here, 3).payload["items"]
    assert item["source"] == wrong


def test_enough_fresh_examples_make_one_batch_from_the_serving_adapter(make: Callable[..., Here]) -> None:
    """The update starts from the adapter that serves; the batch's examples are all stored, fresh ones among general
    and counter-examples, and the job trains on exactly these."""
    here = make(learn=SMALL)
    here.adapter("a1", state="serving")
    sources = complain(here, "listening", 8)
    here.model.base = dict.fromkeys(here.model.base, 0.4)
    plan = here.act(Learn(), distilling(here))
    (job,) = plan.jobs
    (batch,) = here.store.find(Batch)
    stored = here.store.find(Example, id=list(batch.examples))
    assert len(stored) == len(batch.examples) == len(job.payload["examples"])
    assert {e.source for e in stored if e.origin == "turn"} == set(sources)
    assert {e.origin for e in stored} == {"turn", "general", "counter"}
    assert (job.kind, job.lane, job.payload["batch"]) == ("learn.update", "train", batch.id)
    assert batch.parent == job.payload["parent"] == "a1" and not batch.placebo
    assert job.payload["parent_folder"] == str(here.config.state / "adapters" / "a1")
    by_id = {e.id: e for e in stored}
    trained = [(tuple(map(tuple, e["prompt"])), e["target"]) for e in job.payload["examples"]]
    assert trained == [
        (tuple((m.role, m.content) for m in by_id[id].prompt), by_id[id].target) for id in batch.examples
    ]


def test_the_placebo_swaps_labels_in_training_and_not_in_the_store(make: Callable[..., Here]) -> None:
    """With --placebo half of the examples that have a rejected answer are trained the wrong way round; the stored
    examples keep their labels, and the batch says what it is."""
    here = make(learn=SMALL)
    complain(here, "listening", 10)
    done = here.run(distilling(here))
    honest = Learn().absorb(done, here.view())
    placebo = here.write(Learn(placebo=True).absorb(done, here.view()))
    (batch,) = here.store.find(Batch)
    assert batch.placebo and batch.id != next(r for r in honest.records if isinstance(r, Batch)).id
    stored = [here.store.get(Example, id) for id in batch.examples]
    trained = [e["target"] for e in placebo.jobs[0].payload["examples"]]
    paired = [(e, target) for e, target in zip(stored, trained, strict=True) if e is not None and e.rejected]
    swapped = [e for e, target in paired if target == e.rejected != e.target]
    assert all(target == e.target for e, target in paired if e not in swapped)
    assert len(paired) >= 10 and len(swapped) == len(paired) // 2
    fresh = [e for e, _ in paired if e.origin == "turn"]
    assert all(check(e.prompt[-1].content, e.target).passed for e in fresh)
    assert all(check(e.prompt[-1].content, e.rejected or "").passed is False for e in fresh)


def test_a_held_out_probe_never_becomes_an_example(here: Here) -> None:
    """Should a user say a probe's very words, its example is quarantined and not stored."""
    probe = next(p for p in bundled()["listening"].select(split="sealed", kind="target"))
    said = turn(probe.prompt, probe.rejected)
    here.add(said, signal(said, "listening"))
    complain(here, "listening", 2)
    plan = here.act(Learn(), distilling(here))
    assert here.store.count(Example) == 2 and here.store.count(Example, source=said.id) == 0
    assert "the prompt is a held-out probe" in {q.reason for q in here.store.find(Quarantine, source=said.id)}
    assert plan.note.startswith("2 examples from 3 failures, 1 quarantined")
    assert Learn().plan(here.view(2)).jobs == ()


def test_an_update_trains_saves_and_says_how_it_sounds(make: Callable[..., Here]) -> None:
    """The runner's adapter is whole on disk, better than its parent, and recorded as trained; the log-probabilities
    that it gives as trained are remembered for the parity check."""
    here = make(learn=SMALL)
    complain(here, "listening", 8)
    (job,) = here.act(Learn(), distilling(here)).jobs
    plan = here.act(Learn(), job)
    (adapter,) = here.store.find(Adapter)
    assert (adapter.id, adapter.parent, adapter.batch) == (job.payload["adapter"], None, job.payload["batch"])
    assert here.store.adapter_state(adapter.id) == "trained"
    folder = here.config.state / adapter.folder
    card = adapters.read_card(folder)
    assert {k: card[k] for k in ("adapter", "parent", "batch")} == {
        k: job.payload[k] for k in ("adapter", "parent", "batch")
    }
    assert here.model.using == folder and here.model.rates["listening"] < here.model.base["listening"]
    parity = here.store.fact(f"parity/{adapter.id}")
    assert len(parity) == len(job.payload["parity"]) and all(values for values in parity)
    assert plan.note.startswith(adapter.id[:8]) and "8 turn" in plan.note


def test_an_adapter_that_is_whole_on_disk_is_not_trained_again(make: Callable[..., Here]) -> None:
    """After a crash between saving and recording, the repeated job finds the folder, trains nothing, and returns the
    same record and log-probabilities."""
    here = make(learn=SMALL)
    complain(here, "listening", 8)
    (job,) = here.act(Learn(), distilling(here)).jobs
    first, second = here.run(job).result, here.run(job).result
    assert here.model.trainings == 1
    assert first == second


@pytest.mark.parametrize(("state", "again"), [("rejected", True), ("held", True), ("serving", False)])
def test_what_came_to_nothing_is_tried_again_and_what_was_learned_is_not(
    make: Callable[..., Here], state: str, again: bool
) -> None:
    """Examples of a batch whose adapter never served are fresh in the next cycle; without new ones there is no second
    update from those of the adapter that serves."""
    here = make(learn=SMALL)
    prompts = [scenario("listening", n) for n in range(6)]
    fresh = [example(text, here.model._said(text, True), here.model._said(text, False)) for text in prompts]
    adapter = here.adapter("a1", state=state)
    ids = tuple(e.id for e in fresh)
    here.add(*fresh, Batch(id=adapter.batch, examples=ids, parent=None, cycle=1, placebo=False, at=1.0))
    assert bool(Learn().plan(here.view(2)).jobs) is again


def test_counter_examples_keep_the_rest_as_it_was(here: Here) -> None:
    """They are counter-scenarios of what is trained and targets of what is guarded, each answered rightly, and none of
    them is a held-out probe."""
    found = counter_examples(here.view())
    pairs = {pair.prompt: (name, pair.kind) for name, behavior in bundled().items() for pair in behavior.pairs}
    assert {pairs[e.prompt[0].content] for e in found} == {
        ("listening", "counter"), ("not_rushing", "target"), ("push_back", "target")
    }  # fmt: skip
    assert {e.behavior for e in found} == set(bundled())
    assert all(check(e.prompt[0].content, e.target).passed for e in found)
    held_out = {probe.prompt for behavior in bundled().values() for probe in behavior.probes}
    assert not held_out & {e.prompt[0].content for e in found}


def test_general_examples_come_from_the_configured_file(tmp_path: Path, here: Here) -> None:
    """The bundled ones are many and right; a file of one's own is read instead; a broken one is named with its key."""
    ours = general_examples(here.config, 1.0)
    assert len(ours) > 100 and all(e.origin == "general" and e.behavior is None and e.rejected is None for e in ours)
    file = tmp_path / "own.jsonl"
    own = build({"learn": {"general_examples": "own.jsonl"}}, file=tmp_path / "config.toml")
    file.write_text('{"prompt": "what is 2 plus 2?", "answer": "4."}\n\n', encoding="utf-8")
    (mine,) = general_examples(own, 1.0)
    assert (mine.prompt[0].content, mine.target, mine.source) == ("what is 2 plus 2?", "4.", "own.jsonl")
    for broken in ('{"prompt": "what?"}\n', "not json\n"):
        file.write_text(broken, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"own\.jsonl: `learn\.general_examples` cannot be read"):
            general_examples(own, 1.0)
    file.unlink()
    with pytest.raises(ConfigError, match=r"own\.jsonl"):
        general_examples(own, 1.0)


def test_a_distillation_that_yields_nothing_plans_no_update(here: Here) -> None:
    """When no guided answer passed, the cycle ends without an update, and says so."""
    job = Job.make("learn.distil", lane="train", cycle=1)
    done = JobFinished(job=job, result=Result(notes={"asked": 3}), seconds=1.0)
    plan = Learn().absorb(done, here.view())
    assert plan.jobs == () and plan.records == () and plan.note.startswith("0 examples from 3 failures; waiting")

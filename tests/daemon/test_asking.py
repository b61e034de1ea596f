"""Questions become jobs that carry everything they need. Real store, bundled behaviours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.asking import Asking
from daemon.errors import ConfigError
from daemon.events import ERRAND, Job, JobFinished, Result
from daemon.experiments.bench import build
from daemon.store.store import Store
from policies.records import Batch, Difficulty, Seed
from tests.daemon.stations.parts import FakeContext, Here, dream, example, measurement, outcome
from tests.daemon.test_advising import finding


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with Store.open(f"sqlite:///{tmp_path / 'state' / 'dreamloop.db'}") as store:
        yield Here(tmp_path, store)


def ask(here: Here, question: str = "q1", behavior: str | None = None) -> Job:
    return Asking().question(question, "quick", behavior, here.view(0))


def test_a_question_is_an_errand_of_its_experiment(here: Here) -> None:
    """It is a job of no cycle, named after the experiment's file, about the first behaviour under training."""
    job = ask(here)
    assert (job.kind, job.lane, job.cycle) == ("q1_minimum_signal.run", "train", ERRAND)
    assert (job.payload["behavior"], job.payload["size"]) == ("listening", "quick")


def test_asking_twice_is_two_jobs(here: Here) -> None:
    """Each question is answered anew; what was measured before is found in its cells."""
    assert ask(here).id != ask(here).id


@pytest.mark.parametrize(("question", "behavior"), [("q9", None), ("q1", "lisening")])
def test_what_cannot_be_asked_is_refused_with_what_can(here: Here, question: str, behavior: str | None) -> None:
    """An unknown question or behaviour is answered with the known ones."""
    with pytest.raises(ConfigError, match="listening" if behavior else "q1, q2"):
        ask(here, question, behavior)


def test_servers_are_asked_where_there_are_some(tmp_path: Path) -> None:
    """Question 5 can be asked of whatever answers people; its bench then has two models, and cells of their own."""
    with Store.open(f"sqlite:///{tmp_path / 'state' / 'dreamloop.db'}") as store:
        here = Here(tmp_path, store, serve={"backend": "vllm"})
        job = Asking().question("q5", "quick", None, here.view(0), served=True)
        assert job.payload["served"] is True
        context = FakeContext(here.model)
        context.spec = replace(context.spec, behaviors=tuple(_files()))
        servers = object()
        context.answers = servers  # type: ignore[assignment]
        served, plain = (build({**job.payload, "served": word}, context, "test") for word in (True, False))  # type: ignore[arg-type]
        assert served.answering is servers and served.model is here.model
        assert plain.answering is here.model and plain.cells.scope != served.cells.scope
        with pytest.raises(ConfigError, match="one can ask q5"):
            Asking().question("q3", "quick", None, here.view(0), served=True)


def test_there_must_be_a_server_to_ask(here: Here) -> None:
    """Where the daemon itself answers there is nothing else to ask."""
    with pytest.raises(ConfigError, match="no server to ask"):
        Asking().question("q5", "quick", None, here.view(0), served=True)


def test_a_payload_survives_the_store(here: Here) -> None:
    """What a job carries is plain data, and a worker builds the bench from it as it comes out of the database."""
    here.adapter("one", state="serving")
    job = ask(here)
    with here.store.transaction() as tx:
        tx.enqueue(job)
    kept = here.store.job(job.id)
    assert kept is not None
    context = FakeContext(here.model)
    context.spec = replace(context.spec, behaviors=tuple(_files()))
    bench = build(kept.job.payload, context, "test")  # type: ignore[arg-type]
    assert bench.serving == "one" and bench.serving_folder == here.config.state / "adapters" / "one"
    assert bench.recipe.rank == here.config.learn.rank and bench.behavior.name == "listening"
    assert bench.records["config"]["learn"]["minimum"] == here.config.learn.minimum


def _files() -> Iterator[Path]:
    from daemon.behaviors import BUNDLED

    for name in ("listening", "not_rushing", "push_back"):
        yield BUNDLED / f"{name}.toml"


def test_q2_is_given_every_answered_dream_with_its_prediction(here: Here) -> None:
    """Dreams that were predicted and answered go along with their counts and their seed; others do not."""
    seed = Seed(id="s", behavior="listening", kind="target", node="pattern", memories=("m",), band="medium", cycle=1)
    good, alone = dream("one"), dream("two")
    predicted = Difficulty(id="d", dream=good.id, predicted=0.25, classifier="logistic", at=1.0)
    here.add(seed, good, alone, predicted)
    here.add(*(outcome(good, passed, attempt=n) for n, passed in enumerate((True, False, None, False))))
    (row,) = ask(here, "q2").payload["records"]["dreams"]
    assert (row["predicted_at"], row["answered_at"]) == (1.0, good.at)
    assert (row["id"], row["node"], row["predicted"], row["failures"], row["trials"]) == (
        good.id,
        "pattern",
        0.25,
        2,
        3,
    )


def test_q2_is_told_of_answered_dreams_that_nobody_could_read(here: Here) -> None:
    """They were written and are no use: without them every recorded dream would seem usable."""
    mute = dream("mumble")
    here.add(mute, Difficulty(id="d", dream=mute.id, predicted=0.25, classifier="logistic", at=1.0))
    here.add(*(outcome(mute, None, attempt=n) for n in range(4)))
    (row,) = ask(here, "q2").payload["records"]["dreams"]
    assert (row["id"], row["failures"], row["trials"]) == (mute.id, 0, 0)


def test_other_questions_are_given_the_distilled_examples(here: Here) -> None:
    """Q1 trains on what the loop distilled for this behaviour too, so those examples go along."""
    here.add(example("please sort it"), example("no", behavior="push_back"))
    (row,) = ask(here, "q1").payload["records"]["examples"]
    assert row["prompt"] == [["user", "please sort it"]] and row["target"] == "done."


def test_q4_is_given_the_graph_and_the_guard(here: Here) -> None:
    """The regression question knows which graph surfaces and what the guard has seen."""
    records = ask(here, "q4").payload["records"]
    assert records["graph"]["path"] == "bundled" and records["guard"]["channels"] == ["graph", "signal", "probe"]


def trained(here: Here) -> None:
    here.add(Batch(id="batch-new", examples=("a", "b"), parent=None, cycle=1, placebo=False, at=1.0))
    here.adapter("new")


def test_a_session_is_looked_at_while_the_judge_works(here: Here) -> None:
    """Beside the judge the update of this cycle is measured, with earlier sessions' measurements as history."""
    trained(here)
    here.add(measurement("old", [0.5], probe="q3", split="live"), measurement("old", [0.5], probe="q3"))
    behavior = here.config.behaviors.train[1 % len(here.config.behaviors.train)]
    (job,) = Asking().beside("judge", here.view(1)).jobs
    assert (job.kind, job.cycle, job.payload["behavior"]) == ("observe.session", 1, behavior)
    folder = str(here.config.state / "adapters" / "new")
    assert job.payload["update"] == {"before": None, "after": folder, "adapter": "new", "examples": 2, "cycle": 1}
    assert [row["split"] for row in job.payload["history"]] == ["live"]
    json.dumps(job.payload)


def test_nothing_is_looked_at_where_there_is_nothing_to_see(here: Here, tmp_path: Path) -> None:
    """No other stage has a session beside it, nor a judge without a candidate, nor where it is turned off."""
    assert Asking().beside("judge", here.view(1)).jobs == ()
    trained(here)
    assert Asking().beside("learn", here.view(1)).jobs == ()
    quiet = Here(tmp_path, here.store, experiments={"observe": False})
    assert Asking().beside("judge", quiet.view(1)).jobs == ()


def test_a_finding_is_kept_and_told(here: Here) -> None:
    """What an experiment found is written, and whoever watches is told its sentence."""
    job = ask(here)
    plan = Asking().absorb(JobFinished(job=job, result=Result(records=(finding(),)), seconds=1.0), here.view(0))
    assert plan.records == (finding(),)
    assert plan.happenings[0]["event"] == "finding" and plan.happenings[0]["sentence"] == finding().sentence

"""A model judge gates only with an agreement on file that is about it and reaches the floor."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from daemon import behaviors
from daemon.app import App
from daemon.config import build
from daemon.errors import BehaviorError
from daemon.judges import agreement
from daemon.judges.agreement import Agreement, admit
from daemon.judges.labels import measure, read_labels
from daemon.models import loading
from daemon.models.fake import FakeModel
from policies.behaviors import Behavior, Probe
from policies.records import KINDS
from tests.daemon.judges.parts import RIGHT, WRONG, Reader, behavior, pair, write


def found(about: Behavior, **changes: object) -> Agreement:
    whole = Agreement(judge="rubric", base="b1", basis=agreement.basis(about), kappa=0.8, low=0.6, high=0.9, n=50,
                      undecided=0, labels="l1")  # fmt: skip
    return replace(whole, **changes)  # type: ignore[arg-type]


def admitted(file: Path, *, floor: float = 0.6, base: str = "b1") -> str:
    """ "" when the judge may gate, else the refusal."""
    try:
        admit(behaviors.read(file), file, floor=floor, base=lambda: base)
    except BehaviorError as error:
        return str(error)
    return ""


def test_exact_rules_need_no_agreement(tmp_path: Path) -> None:
    """And the model's fingerprint, which takes a while, is not asked for."""
    file = write(tmp_path, judge="nano_world")
    admit(behaviors.read(file), file, floor=1.0, base=lambda: pytest.fail("hashed the model"))


def test_a_model_judge_may_gate_with_an_agreement_on_file(tmp_path: Path) -> None:
    """What was written is read again, and lets the judge gate up to its kappa."""
    file = write(tmp_path)
    kept = found(behaviors.read(file))
    assert agreement.write(file, kept) == tmp_path / "asks_first.agreement.json"
    assert agreement.read(file) == kept
    assert set(json.loads(agreement.place(file).read_text())) == {
        "judge", "base", "basis", "kappa", "low", "high", "n", "undecided", "labels", "blind",
    }  # fmt: skip
    assert admitted(file, floor=0.8) == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kappa": 0.59}, "kappa 0.59 [0.60, 0.90] on 50 labels, `judge.agreement_floor` is 0.6"),
        ({"kappa": float("nan")}, "kappa nan"),
        ({"judge": "logprob_margin"}, "measured before the behaviour was changed"),
        ({"basis": "other"}, "measured before the behaviour was changed"),
        ({"blind": ("counter",)}, "no word on most answers to counter scenarios"),
        ({"base": "b2"}, "measured with another base model"),
    ],
)
def test_an_agreement_about_something_else_or_too_low_is_refused(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    """Another judge, rubric or base, and a kappa below the floor or that is no number: named with the file."""
    file = write(tmp_path)
    agreement.write(file, found(behaviors.read(file), **changes))
    said = admitted(file)
    assert said.startswith(str(agreement.place(file))) and "'rubric' may not gate" in said and words in said


def test_without_an_agreement_the_remedy_is_named(tmp_path: Path) -> None:
    """None on file, or a file that is none: the message says which command measures it."""
    file = write(tmp_path)
    assert "was not measured" in admitted(file) and f"dreamctl behavior check {file} --labels" in admitted(file)
    for content in ("{", "[]", '{"kappa": 1}'):
        agreement.place(file).write_text(content)
        assert "is no agreement" in admitted(file)


def test_a_rubric_judge_without_a_rubric_is_refused_first(tmp_path: Path) -> None:
    """There is nothing to agree about."""
    file = write(tmp_path)
    file.write_text(file.read_text().replace('rubric = "A good answer asks before it deletes."', ""))
    assert "`rubric` is missing" in admitted(file)


def test_the_daemon_refuses_at_its_start(tmp_path: Path) -> None:
    """With such a behaviour the daemon ends before anything heavy starts, naming file and remedy; with the agreement
    of its own base on file it goes on to the next check.
    """
    file = write(tmp_path)
    raw = {"behaviors": {"folder": ".", "train": ["asks_first"], "guard": []}, "daemon": {"state": "state"}}
    config = build(raw, file=tmp_path / "config.toml")
    with pytest.raises(BehaviorError, match=r"asks_first\.agreement\.json: the judge 'rubric' may not gate.*--labels"):
        App(config).run()
    base = loading.fingerprint(loading.resolve("nano"))
    agreement.write(file, found(behaviors.read(file), base=base))
    file.write_text(file.read_text().replace("[[probes]]", '[[probes]]\nsplit = "sealed"'))
    with pytest.raises(BehaviorError, match="no rotating target probes"):
        App(config).run()


# --- hand labels


def labels(tmp_path: Path, rows: list[tuple[str, bool]]) -> Path:
    file = tmp_path / "labels.jsonl"
    lines = [json.dumps({"prompt": f"delete {i}", "answer": a, "passed": p}) for i, (a, p) in enumerate(rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


class Reading(FakeModel, Reader):
    """A whole model that reads as the scripted one."""

    logprobs = Reader.logprobs  # type: ignore[assignment]
    fingerprint = Reader.fingerprint

    def __init__(self, odds: float) -> None:
        FakeModel.__init__(self, {})
        Reader.__init__(self, odds, bias=3.0)


@pytest.mark.parametrize(("odds", "kappa", "undecided"), [(2.0, 0.8, 0), (-2.0, -0.8, 0), (0.0, 0.0, 40)])
def test_agreement_is_kappa_with_the_labels(tmp_path: Path, odds: float, kappa: float, undecided: int) -> None:
    """A judge that sees what people see, but for 4 of 40 labels; one that sees the contrary; one that sees nothing and
    so passes nothing.
    """
    rows = [(RIGHT, True)] * 18 + [(WRONG, True)] * 2 + [(WRONG, False)] * 18 + [(RIGHT, False)] * 2
    got = measure(behavior(), read_labels(labels(tmp_path, rows)), model=Reading(odds))
    assert got.kappa == pytest.approx(kappa) and got.low <= got.kappa <= got.high
    assert (got.n, got.undecided, got.judge, got.base) == (40, undecided, "rubric", "reader")
    assert got.basis == agreement.basis(behavior())


def test_a_kind_on_which_the_judge_has_no_word_is_told(tmp_path: Path) -> None:
    """Agreement on targets does not make up for it: every adapter would fail all counter probes alike, and none would
    be found out. The answers on file show it.
    """
    rows = [(RIGHT, True)] * 20 + [(WRONG, False)] * 20

    class OnTargets(Reading):
        def _letter(self, question: str, letter: str) -> float:
            return 0.0 if "counter" in question else super()._letter(question, letter)

    probes = [Probe(id=f"{kind}{i}", prompt=f"{kind} {i}", kind=kind, band="obvious", split="sealed", preferred=RIGHT,
                    rejected=WRONG) for kind in KINDS for i in range(3)]  # fmt: skip
    got = measure(behavior(probes=tuple(probes)), read_labels(labels(tmp_path, rows)), model=OnTargets(2.0))
    assert (got.kappa, got.blind) == (1.0, ("counter",))
    assert measure(behavior(), read_labels(labels(tmp_path, rows)), model=OnTargets(2.0)).blind == ()


@pytest.mark.parametrize("rows", [[(RIGHT, True)] * 10 + [(WRONG, False)] * 9, [(RIGHT, True)] * 40])
def test_too_few_labels_or_all_alike_say_nothing(tmp_path: Path, rows: list[tuple[str, bool]]) -> None:
    """Kappa of a handful is luck, and of labels that are all the same undefined."""
    with pytest.raises(BehaviorError, match=r"labels\.jsonl.*at least 20 labels, 5 of each"):
        measure(behavior(), read_labels(labels(tmp_path, rows)), model=Reading(1.0))


def test_answers_that_the_judge_was_calibrated_on_are_no_labels(tmp_path: Path) -> None:
    """The margin judge is right about the answers in the file by construction."""
    about = behavior(judge="logprob_margin", pairs=(pair(0),))
    file = tmp_path / "labels.jsonl"
    file.write_text(json.dumps({"prompt": "target 0", "answer": RIGHT, "passed": True}))
    with pytest.raises(BehaviorError, match="1 labels are about answers in the behaviour's file"):
        measure(about, read_labels(file), model=FakeModel({}))


@pytest.mark.parametrize(
    "line", ['{"prompt": "x", "answer": "y"}', '{"prompt": "x", "answer": "y", "passed": "yes"}', "[1]", "{", '"x"']
)
def test_a_wrong_label_is_named_by_line(tmp_path: Path, line: str) -> None:
    """A missing or wrong word, what is no object and what is no JSON."""
    file = labels(tmp_path, [(RIGHT, True)])
    file.write_text(file.read_text() + line)
    with pytest.raises(BehaviorError, match=r"labels\.jsonl:2: no label"):
        read_labels(file)


def test_labels_that_are_not_there_are_named(tmp_path: Path) -> None:
    """With the reason."""
    with pytest.raises(BehaviorError, match=r"none\.jsonl: the labels cannot be read: .*No such file"):
        read_labels(tmp_path / "none.jsonl")

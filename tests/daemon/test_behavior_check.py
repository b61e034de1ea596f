"""`behavior check`: what the file lacks, whether its judge may gate, in words for people and JSON for programs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from daemon import behaviors
from daemon.behavior_check import inspect, main
from daemon.config import Config, build
from daemon.errors import BehaviorError
from daemon.judges import agreement
from daemon.judges.labels import read_labels
from daemon.models import loading
from tests.daemon.judges.parts import RIGHT, WRONG, Reader

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "BEHAVIORS.md").read_text(encoding="utf-8")
DREAMCTL = [sys.executable, "-m", "daemon.control.client"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def said(result: Result, level: str) -> list[dict[str, Any]]:
    return [remark for remark in json.loads(result.stdout)["remarks"] if remark["level"] == level]


@pytest.fixture
def documented(tmp_path: Path) -> Path:
    """The example of docs/BEHAVIORS.md."""
    found = re.search(r"```toml\n(.*?)```", DOCS, re.DOTALL)
    assert found
    file = tmp_path / "asks_first.toml"
    file.write_text(found.group(1), encoding="utf-8")
    return file


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Forty answers, half of them right."""
    rows = [{"prompt": f"delete {i}", "answer": RIGHT if i % 2 else WRONG, "passed": bool(i % 2)} for i in range(40)]
    file = tmp_path / "labels.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the check load a model that reads rubrics as well as given, and A before B."""

    class Model(Reader):
        using = None

        def use(self, adapter: Path | None) -> None:
            assert adapter is None

        def fingerprint(self) -> str:
            return loading.fingerprint(loading.resolve("nano"))

    def given(odds: float) -> None:
        monkeypatch.setattr(loading, "load", lambda backend, **options: Model(odds=odds, bias=2.0))

    return given


@pytest.mark.parametrize("name", ["listening", "not_rushing", "push_back"])
def test_the_bundled_ones_are_usable(name: str) -> None:
    """No errors; their judge reads every answer on file as the file does, and what is short is said."""
    result = call(behaviors.BUNDLED / f"{name}.toml", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["ok"] and said(result, "error") == []
    about = {f"{remark['about']} {'/'.join(remark['questions'])}": remark["text"] for remark in said(result, "ok")}
    assert "0 not as the file says" in about["judge gate/Q2"]
    behavior = behaviors.read(behaviors.BUNDLED / f"{name}.toml")
    pairs = [pair for pair in behavior.pairs if pair.kind == "target"]
    if len(pairs) >= 100:
        assert about["target example pairs Q1"] == f"{len(pairs)}, wanted 100"
    else:
        short = [remark for remark in said(result, "warning") if remark["about"] == "target example pairs"]
        assert f"largest dose is {len(pairs)} instead of 100" in short[0]["text"]


def test_dreamctl_runs_it_without_a_daemon() -> None:
    """The real command prints a table with the worst first and a last line, and ends with 0."""
    done = subprocess.run(
        [*DREAMCTL, "behavior", "check", "policies/behaviors/listening.toml"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"listening: usable; 0 errors, \d warnings?", lines[-1])
    levels = [line.split()[0] for line in lines[1:-1] if line[:1].strip()]
    assert levels == sorted(levels, key=["error", "warning", "ok"].index) and levels[-1] == "ok"
    assert "\x1b" not in done.stdout


def test_dreamctl_hands_on_json_and_status(documented: Path, tmp_path: Path) -> None:
    """--json before the command counts, options arrive, and a behaviour that cannot be used ends with 1."""
    config = tmp_path / "config.toml"
    config.write_text("[judge]\nsamples = 1\nsecond_look = 0\n")
    done = subprocess.run(
        [*DREAMCTL, "--json", "behavior", "check", str(documented), "--config", str(config)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert not found["ok"] and found["behavior"] == "asks_first"
    assert any("1 of 1 x 1 answers" in remark["text"] for remark in found["remarks"])


def test_the_documented_example_lacks_only_what_the_document_says(documented: Path) -> None:
    """It is read whole; its one error is the agreement that was not measured yet, and its sizes are warned about."""
    result = call(documented, "--json")
    (error,) = said(result, "error")
    assert error["about"] == "judge" and "was not measured; run `dreamctl behavior check" in error["text"]
    assert {q for remark in said(result, "warning") for q in remark["questions"]} >= {"Q1", "Q3", "Q5", "Q7", "gate"}
    table = call(documented)
    assert table.stdout.splitlines()[-1] in DOCS
    for words in ("1 of 1 x 6 answers show no harm at delta 0.08 with power 0.05; 0.9 takes 88",
                  "1, wanted 100: its largest dose is 1 instead of 100 examples"):  # fmt: skip
        assert words in table.stdout and words in DOCS


def test_a_judge_that_agrees_with_people_may_gate(documented: Path, labelled: Path, reading: Any) -> None:
    """Measured once it is on file: the next check needs neither labels nor model."""
    reading(2.0)
    result = call(documented, "--labels", labelled, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["agreement"]
    assert (found["kappa"], found["n"], found["undecided"]) == (1.0, 40, 0)
    kept = agreement.read(documented)
    assert kept is not None and kept.kappa == 1.0 and kept.base == loading.fingerprint(loading.resolve("nano"))
    again = call(documented, "--json")
    assert again.exit_code == 0
    assert any(r["text"].startswith("rubric: kappa 1.00 [") and "may gate" in r["text"] for r in said(again, "ok"))


def test_a_judge_that_does_not_agree_ends_with_1_and_will_not_gate(
    documented: Path, labelled: Path, reading: Any
) -> None:
    """Below the floor it says so, keeps what it measured, and the daemon would refuse."""
    reading(0.0)
    result = call(documented, "--labels", labelled)
    assert result.exit_code == 1 and "may not gate" in result.stdout and "kappa 0.00" in result.stdout
    kept = agreement.read(documented)
    assert kept is not None and kept.kappa == 0 and kept.undecided == 40
    with pytest.raises(BehaviorError, match=r"`judge\.agreement_floor` is 0\.6"):
        agreement.admit(behaviors.read(documented), documented, floor=0.6, base=lambda: kept.base)


def test_the_floor_is_the_configurations(documented: Path, labelled: Path, reading: Any, tmp_path: Path) -> None:
    """What is too little for one daemon is enough for another."""
    reading(-2.0)
    low = build({"judge": {"agreement_floor": -1.0}}, file=tmp_path / "config.toml")
    assert inspect(documented, low, labelled).ok
    assert not inspect(documented, Config()).ok


def test_an_interval_that_reaches_below_the_floor_is_a_warning(
    documented: Path, labelled: Path, reading: Any, tmp_path: Path
) -> None:
    """The point decides; how little is known about it is said."""
    rows = [json.loads(line) for line in labelled.read_text().split("\n")]
    for row in rows[:6]:
        row["passed"] = not row["passed"]
    labelled.write_text("\n".join(map(json.dumps, rows)))
    reading(2.0)
    found = inspect(documented, Config(), labelled)
    (judge,) = [remark for remark in found.remarks if remark.about == "judge"]
    assert found.ok and judge.level == "warning" and "kappa 0.70" in judge.text and "label more answers" in judge.text


def test_changing_the_rubric_takes_the_agreement_back(documented: Path, labelled: Path, reading: Any) -> None:
    """It was about another text."""
    reading(2.0)
    assert inspect(documented, Config(), labelled).ok
    documented.write_text(documented.read_text().replace("a good answer asks before", "a good answer waits before"))
    result = call(documented, "--json")
    assert result.exit_code == 1 and "before the behaviour was changed" in said(result, "error")[0]["text"]


def test_exact_rules_that_are_about_something_else_are_an_error(documented: Path) -> None:
    """nano's grammar cannot read requests to delete; a judge that does not exist is named."""
    text = documented.read_text()
    documented.write_text(text.replace('judge = "rubric"', 'judge = "nano_world"'))
    (error,) = said(call(documented, "--json"), "error")
    assert "nano_world reads 0 of 5 scenarios" in error["text"] and "take a judge that asks a model" in error["text"]
    documented.write_text(text.replace('judge = "rubric"', 'judge = "rubrik"'))
    assert "no judge named 'rubrik'" in said(call(documented, "--json"), "error")[0]["text"]


def test_exact_rules_can_be_held_against_labels_too(tmp_path: Path) -> None:
    """No model is loaded; rules that do not agree with people are an error as well, or the labels are wrong."""
    file = tmp_path / "listening.toml"
    for part in behaviors.BUNDLED.glob("listening.*"):
        shutil.copy(part, tmp_path)
    probes = behaviors.read(file).select(split="sealed", kind="target")[:20]
    rows = [(p.prompt, a, a == p.preferred) for p in probes for a in (p.preferred, p.rejected)]
    labels = tmp_path / "labels.jsonl"
    for flipped, status in ((False, 0), (True, 1)):
        lines = [json.dumps({"prompt": p, "answer": a, "passed": good != flipped}) for p, a, good in rows]
        labels.write_text("\n".join(lines))
        result = call(file, "--labels", labels, "--json")
        assert result.exit_code == status and json.loads(result.stdout)["agreement"]["base"] == ""


def test_a_graph_key_without_a_node_is_a_warning(documented: Path, tmp_path: Path) -> None:
    """The graph is that of the configuration."""
    vault = tmp_path / "vault"
    vault.mkdir()
    (vault / "pattern-acting-unasked.md").write_text("# Acting unasked\n\nIt deleted what was still needed.\n")
    mine = build({"graph": {"path": "vault"}}, file=tmp_path / "config.toml")
    levels = {}
    for name, config in (("bundled", Config()), ("mine", mine)):
        (levels[name],) = [r.level for r in inspect(documented, config).remarks if r.about == "graph_key"]
    assert levels == {"bundled": "warning", "mine": "ok"}


@pytest.mark.parametrize("as_json", [True, False])
def test_what_cannot_be_read_is_named_with_status_1(tmp_path: Path, documented: Path, as_json: bool) -> None:
    """A behaviour, labels or a configuration that is not there or is broken: one line, no traceback."""
    option = ["--json"] if as_json else []
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    for arguments, words in (
        ([tmp_path / "none.toml"], "none.toml: no such behaviour"),
        ([broken], "broken.toml: cannot be read"),
        ([documented, "--labels", tmp_path / "none.jsonl"], "none.jsonl: the labels cannot be read"),
        ([documented, "--config", tmp_path / "none"], "there is no such file"),
    ):
        result = call(*arguments, *option)
        assert result.exit_code == 1 and words in result.stdout, result.output
        assert isinstance(result.exception, SystemExit)


def test_the_labels_in_the_document_are_labels(tmp_path: Path) -> None:
    """As printed there."""
    found = re.search(r"```json\n(.*?)```", DOCS, re.DOTALL)
    assert found
    file = tmp_path / "labels.jsonl"
    file.write_text(found.group(1))
    assert [row.passed for row in read_labels(file).rows] == [True, False]

"""lm-evaluation-harness on local task files; where it is not installed, what to do."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import ConfigError, DreamloopError
from daemon.models import loading
from daemon.probes import general, harness

GENERAL = Path(loading.__file__).parent / "nano" / "data" / "general.probes.jsonl"
INSTALLED = importlib.util.find_spec("lm_eval") is not None
needs_harness = pytest.mark.skipif(not INSTALLED, reason="lm_eval is not installed: pip install 'dreamloop[harness]'")


@pytest.fixture(scope="module")
def nano() -> Any:
    """The embedded model."""
    return loading.load("hf", path="nano", threads=1)


def task(folder: Path, name: str, rows: list[dict[str, Any]], **more: Any) -> None:
    """A task file (JSON is YAML) beside its data."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": "{{prompt}}",
        **more,
    }
    (folder / f"{name}.yaml").write_text(json.dumps(made))


@needs_harness
@pytest.mark.filterwarnings("default")  # the harness's own
def test_local_tasks_are_answered_document_by_document(nano: Any, tmp_path: Path) -> None:
    """Generated answers and choices, right ones and planted wrong ones, in the order of the file."""
    facts = [t for t in general.load(GENERAL, "rotating") if t.family == "facts"][:6]
    wrong = {2, 5}
    rows = [{"prompt": t.prompt, "answer": "no" if i in wrong else t.answer} for i, t in enumerate(facts)]
    metric = {"aggregation": "mean", "higher_is_better": True}
    task(
        tmp_path, "facts", rows, output_type="generate_until", doc_to_target="{{answer}}",
        generation_kwargs={"until": ["\n"], "do_sample": False}, metric_list=[{"metric": "exact_match", **metric}],
    )  # fmt: skip
    choices = [{"prompt": t.prompt, "choices": [t.answer, "a dog barks."], "gold": int(i in wrong)} for i, t in
               enumerate(facts)]  # fmt: skip
    task(
        tmp_path, "choice", choices, output_type="multiple_choice", doc_to_choice="choices", doc_to_target="gold",
        target_delimiter="", metric_list=[{"metric": "acc", **metric}],
    )  # fmt: skip
    nano.use(None)
    expected = [float(i not in wrong) for i in range(6)]
    assert harness.measure(nano, tmp_path, max_tokens=24) == {"choice": expected, "facts": expected}
    assert harness.measure(nano, tmp_path, max_tokens=24, limit=2) == {"choice": [1.0, 1.0], "facts": [1.0, 1.0]}


@needs_harness
@pytest.mark.filterwarnings("default")
def test_a_folder_without_tasks_is_named(nano: Any, tmp_path: Path) -> None:
    """Not an empty answer."""
    with pytest.raises(ConfigError, match=r"no task files"):
        harness.measure(nano, tmp_path, max_tokens=24)


def test_without_the_harness_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an optional extra: where it cannot be imported, how to install it is said."""
    monkeypatch.setitem(sys.modules, "lm_eval.evaluator", None)
    with pytest.raises(DreamloopError, match=r"pip install 'dreamloop\[harness\]'"):
        harness.measure(None, tmp_path, max_tokens=24)  # type: ignore[arg-type]

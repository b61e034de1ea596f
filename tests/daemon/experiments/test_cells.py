"""Cells: what an experiment has measured is kept and found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.experiments.cells import Cells


def refuse() -> float:
    raise AssertionError("computed twice")


def test_a_cell_is_computed_once(tmp_path: Path) -> None:
    """A later run finds the value on disk, as JSON gives it back, and counts it as reused."""
    first = Cells(tmp_path, "base", "code")
    assert first.get("rate", {"dose": 5}, lambda: (0.25, None)) == [0.25, None]
    again = Cells(tmp_path, "base", "code")
    assert again.get("rate", {"dose": 5}, refuse) == [0.25, None]
    assert (first.computed, first.reused, again.computed, again.reused) == (1, 0, 0, 1)


@pytest.mark.parametrize("scope", [("another base", "code"), ("base", "other code")])
def test_another_base_or_other_code_shares_nothing(tmp_path: Path, scope: tuple[str, str]) -> None:
    """A value measured on another base model, or by another version of the experiment, is not taken over."""
    Cells(tmp_path, "base", "code").get("rate", 1, lambda: 0.5)
    assert Cells(tmp_path, *scope).get("rate", 1, lambda: 0.75) == 0.75


def test_what_was_interrupted_is_not_there(tmp_path: Path) -> None:
    """A cell whose computation raised leaves nothing behind, and the next run computes it."""
    cells = Cells(tmp_path, "base")
    with pytest.raises(KeyboardInterrupt):
        cells.get("rate", 1, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert list(tmp_path.iterdir()) == []
    assert cells.get("rate", 1, lambda: 0.5) == 0.5


def test_a_torn_file_is_computed_again(tmp_path: Path) -> None:
    """Half a file, from a full disk for one, is no value."""
    Cells(tmp_path, "base").get("rate", 1, lambda: 0.5)
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:10])
    assert Cells(tmp_path, "base").get("rate", 1, lambda: 0.75) == 0.75

"""Novelty: new dreams pass, probes never leak."""

from hypothesis import given
from hypothesis import strategies as st

from policies.dream.novelty import sift
from policies.statistics.similarity import normal


def test_reasons(make):
    """Each dropped dream has its reason; order of the kept is kept."""
    dreams = [
        make.dream("use grep to search the log file for lines with errors today"),
        make.dream("Use grep, to search the log file for lines with errors today!"),
        make.dream("use grep to search the log files for lines with errors today"),
        make.dream(" "),
        make.dream("word " * 300),
        make.dream("bake the bread with yeast"),
        make.dream("sort the backup with make"),
        make.dream("fold the shirt"),
    ]
    got = sift(dreams, earlier=["fold the shirt"], probes=["Bake the bread with yeast."])
    assert [d.text for d in got.kept] == [dreams[0].text, dreams[6].text]
    reasons = {d.text: why for d, why in got.dropped}
    assert reasons[dreams[1].text] == "it was dreamed before"
    assert "near-duplicate" in reasons[dreams[2].text]
    assert reasons[" "] == "empty" and "300 words" in reasons[dreams[4].text]
    assert reasons["bake the bread with yeast"].startswith("leak")
    assert reasons["fold the shirt"] == "it was dreamed before"


def test_another_object_is_a_new_dream(make):
    """Short texts that differ in a whole word are different scenarios."""
    got = sift([make.dream("sort the backup with make"), make.dream("sort the backup with grep")])
    assert len(got.kept) == 2


@given(
    st.lists(st.text(alphabet="ab ,.", max_size=12), max_size=12),
    st.lists(st.text(alphabet="ab ", max_size=12), max_size=5),
)
def test_no_kept_dream_is_a_probe_or_a_repetition(make, texts, probes):
    """Whatever is dreamed, what is kept is no held-out probe, and no two kept are the same text."""
    got = sift([make.dream(text, id=str(i)) for i, text in enumerate(texts)], probes=probes, shortest=1)
    kept = [normal(d.text) for d in got.kept]
    assert len(kept) == len(set(kept))
    assert not set(kept) & set(map(normal, probes))
    assert len(got.kept) + len(got.dropped) == len(texts)

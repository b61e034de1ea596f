"""Does anything that is trained on stand among what is held out, or sealed probes among rotating ones?"""

from __future__ import annotations

from collections.abc import Sequence

from policies.behaviors import Behavior
from policies.behaviors.remarks import Remark
from policies.statistics.similarity import nearest, normal

NEAR = 97.0  # as in the quarantine: one letter in about thirty


def leaks(behavior: Behavior) -> list[Remark]:
    """Examples against every probe, sealed against rotating and canary probes: the same text, and nearly the same."""
    probes = [probe.prompt for probe in behavior.probes]
    open_ones = [probe.prompt for probe in behavior.probes if probe.split != "sealed"]
    sealed = [probe.prompt for probe in behavior.probes if probe.split == "sealed"]
    return [
        _compare(
            "examples against probes", [pair.prompt for pair in behavior.pairs], probes, ("Q1", "Q5", "gate"),
            "stand among the probes, so what is measured was trained on; take them out of one of the two",
        ),
        _compare(
            "sealed against rotating probes", sealed, open_ones, ("report",),
            "are rotating or canary probes too, so they are not sealed; take them out of one of the two",
        ),
    ]  # fmt: skip


def _compare(about: str, texts: Sequence[str], others: Sequence[str], questions: tuple[str, ...], harm: str) -> Remark:
    known = [normal(other) for other in others]
    exact = set(known)
    same = [text for text in texts if normal(text) in exact]
    if same:
        return Remark(level="error", about=about, text=f"{_some(same)} {harm}", questions=questions)
    near = [text for text in texts if known and nearest(normal(text), known, NEAR) is not None]
    if near:
        share = f"{len(near) / len(texts):.0%} of {len(texts)}"
        text = f"{_some(near)} nearly so ({share}): what is measured on their neighbours is partly remembered"
        return Remark(level="warning", about=about, text=text, questions=questions)
    text = f"none of {len(texts)} comes near one of {len(others)}"
    return Remark(level="ok", about=about, text=text, questions=questions)


def _some(texts: Sequence[str]) -> str:
    return f"{len(texts)} (as {texts[0][:60]!r})"

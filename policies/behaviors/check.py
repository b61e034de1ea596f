"""What a behaviour's file lacks, before anything runs: every rule that needs the file alone."""

from __future__ import annotations

from policies.behaviors import Behavior
from policies.behaviors.contrast import contrast
from policies.behaviors.leaks import leaks
from policies.behaviors.patterns import patterns
from policies.behaviors.remarks import Remark
from policies.behaviors.sizes import GateSizes, sizes


def check(behavior: Behavior, gate: GateSizes | None = None) -> list[Remark]:
    """All remarks, in the order in which a file is written. `gate` is how the daemon would measure."""
    return [
        *_texts(behavior),
        *sizes(behavior, gate or GateSizes()),
        *leaks(behavior),
        *contrast(behavior),
        *patterns(behavior),
    ]


def _texts(behavior: Behavior) -> list[Remark]:
    """What is asked of dreams and put into contexts must say something."""
    return [
        Remark(level="error", about=key, text=f"`{key}` is blank; {remedy}", questions=("loop",))
        for key, text, remedy in (
            ("guidance", behavior.guidance, "say what a good answer does"),
            ("dream_pattern", behavior.dream_pattern, "say how dreams call the behaviour"),
        )
        if not text.strip()
    ]

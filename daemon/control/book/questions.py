"""The seven questions: a heading for each, and its words for where no daemon has said them."""

from __future__ import annotations

QUESTIONS: dict[str, tuple[str, str]] = {
    "q1": ("Minimum signal", "How few examples change a behaviour?"),
    "q2": ("Dream difficulty", "Do dreams have the right difficulty?"),
    "q3": ("Which heads change", "Which attention heads change?"),
    "q4": ("Memory graph as regression detector", "Does the memory graph notice a regression?"),
    "q5": ("Steering vectors", "Do steering vectors work for complex behaviours?"),
    "q6": ("Backward transfer", "Does behaviour training help or hurt general skill?"),
    "q7": ("GDN state", "Does Gated-DeltaNet state become direction-shaped?"),
}

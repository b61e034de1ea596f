"""Where the direction stands in a prompt."""

from __future__ import annotations

import pytest

from daemon import behaviors
from daemon.probes.direction import spans
from policies.behaviors import Probe


def probe(prompt: str, preferred: str) -> Probe:
    """A probe of these two texts."""
    return Probe(
        id=prompt, prompt=prompt, kind="target", band="obvious", split="rotating", preferred=preferred, rejected=""
    )


def test_the_direction_is_what_the_preferred_answer_takes_up() -> None:
    """From the first to the last repeated word; what most prompts share ("please use") is not the direction."""
    probes = [
        probe("Please use awk, to sort it.", "I use Awk to sort."),
        probe("Please use paint for that.", "I use paint."),
        probe("Please use it.", "I ask: what?"),
    ]
    found = spans(probes)
    assert [span and p.prompt[slice(*span)] for p, span in zip(probes, found, strict=True)] == [
        "awk, to sort",
        "paint",
        None,
    ]


@pytest.mark.parametrize("name", ["listening", "not_rushing", "push_back"])
def test_every_bundled_probe_has_a_direction(name: str) -> None:
    """Without the greeting that only says how the user feels, and never the whole prompt's courtesies alone."""
    probes = behaviors.load(behaviors.BUNDLED, [name])[name].probes
    texts = [span and p.prompt[slice(*span)] for p, span in zip(probes, spans(probes), strict=True)]
    assert all(texts)
    assert not any("hurry" in str(text) or "please" in str(text).split()[:1] for text in texts)

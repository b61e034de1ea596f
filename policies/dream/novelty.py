"""Keeps dreams that are new, and keeps held-out probes out of training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from policies.records import Dream
from policies.statistics.similarity import nearest, normal


@dataclass(frozen=True, slots=True, kw_only=True)
class Sifted:
    """The dreams kept, in order, and those dropped with a reason each."""

    kept: tuple[Dream, ...]
    dropped: tuple[tuple[Dream, str], ...]


def sift(
    dreams: Sequence[Dream],
    *,
    earlier: Iterable[str] = (),
    probes: Iterable[str] = (),
    near: float = 97.0,
    shortest: int = 2,
    longest: int = 200,
) -> Sifted:
    """Drop dreams that are empty, overlong (in words), too close to a held-out probe, or not new.

    Closeness is rapidfuzz's ratio (0-100, normalised indel similarity) of the normal forms, `near` or more: one letter
    in about thirty. Against the probes it must not be loosened: what is trained on cannot be measured with.
    """
    known = {text for text in map(normal, earlier) if text}
    held_out = {text for text in map(normal, probes) if text}
    # lists for the fuzzy search grow beside the sets for the exact one
    known_list, held_list = sorted(known), sorted(held_out)
    kept: list[Dream] = []
    dropped: list[tuple[Dream, str]] = []
    for dream in dreams:
        text = normal(dream.text)
        words = text.count(" ") + 1 if text else 0
        if words < shortest:
            reason = "empty" if not words else f"only {words} word"
        elif words > longest:
            reason = f"{words} words, more than {longest}"
        elif text in held_out or nearest(text, held_list, near) is not None:
            reason = "leak: it is a held-out probe, or nearly so"
        elif text in known:
            reason = "it was dreamed before"
        elif nearest(text, known_list, near) is not None:
            reason = "near-duplicate of an earlier dream"
        else:
            reason = ""
        if reason:
            dropped.append((dream, reason))
        else:
            kept.append(dream)
            known.add(text)
            known_list.append(text)
    return Sifted(kept=tuple(kept), dropped=tuple(dropped))

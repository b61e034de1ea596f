"""Randomness of its own per prompt: it depends on the seed, the prompt's tokens and how often the same one came before.

So two adapters meet the same luck on the same prompt, and an answer does not depend on what shares its batch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence


def digests(prompts: Sequence[Sequence[int]], seed: int) -> list[bytes]:
    """32 bytes per prompt (token ids): equal prompts of a call get different ones, equal calls the same.

    >>> first, again = digests([[1, 2], [1, 2]], seed=7)
    >>> first != again, digests([[1, 2]], seed=7) == [first]
    (True, True)
    """
    seen: Counter[tuple[int, ...]] = Counter()
    drawn = []
    for prompt in prompts:
        key = tuple(prompt)
        drawn.append(hashlib.sha256(f"{seed}/{seen[key]}/{key}".encode()).digest())
        seen[key] += 1
    return drawn

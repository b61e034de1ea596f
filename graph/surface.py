"""Which memories come up for a text: words first, then links. No model takes part, so none can blind it.

The words of the text are compared with each node's title, phrase and text (cosine of tf-idf vectors over words and
word pairs); what matches then passes part of its score along its links, as in personalised PageRank (Page et al.,
1999): score = match + damping * P' score, where P is row-stochastic over links in both directions. The sum is the
PageRank of a walk that restarts at the matches with probability 1 - damping, scaled so that a node without linked
matches scores exactly its match.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse

from graph.memory import Memory
from graph.records import Node

Vector = npt.NDArray[np.float64]

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
LONGEST = 4_000  # words of a text that are looked at
STEPS = 50  # of the power iteration, at most
# Too common to say what a text is about; in word pairs ("i said", "not ask") they count.
_COMMON = """
a about all also am an and any are as at be because been before but by can could did do does for from get had has have
he her him his how i if in into is it its just like may me more most my of on one only or our out over she so some such
than that the their them then there these they this those to too up us was we were what when which who will with would
you your
"""
COMMON = frozenset(_COMMON.split())


class Surfacer:
    """Finds the memories that a text brings up.

    `damping` in [0, 1) is the share of its score that a node passes along its links: 0 is words alone.

    >>> from graph.records import Link, Node
    >>> memory = Memory([Node(key="tea", text="green tea"), Node(key="cup", text="a blue cup")],
    ...                 [Link(source="tea", target="cup")])
    >>> [key for key, _ in Surfacer(memory, damping=0.3).surface("some green tea?", limit=5, threshold=0.1)]
    ['tea', 'cup']
    """

    def __init__(self, memory: Memory, *, damping: float = 0.15) -> None:
        if not 0 <= damping < 1:
            raise ValueError(f"damping must be at least 0 and below 1, not {damping}")
        self._keys = memory.keys()
        self._damping = damping
        rows = {key: row for row, key in enumerate(self._keys)}
        self._columns, self._idf, self._terms = _index([node for key in self._keys if (node := memory.get(key))])
        self._links = _transitions(memory, rows)

    def surface(self, text: str, *, limit: int, threshold: float) -> list[tuple[str, float]]:
        """At most `limit` (key, score) with scores in (0, 1] of at least `threshold`, the highest first.

        The same text always gives the same answer; ties are in alphabetical order.
        """
        if not self._keys or limit <= 0:
            return []
        scores = self._spread(self._match(text))
        found = np.flatnonzero((scores >= threshold) & (scores > 0))
        best = found[np.argsort(-scores[found], kind="stable")][:limit]
        return [(self._keys[row], min(1.0, float(scores[row]))) for row in best]

    def _match(self, text: str) -> Vector:
        """Cosine of the text with each node, over the terms that any node has."""
        scores = np.zeros(len(self._keys))
        counts = Counter(self._terms[term] for term in terms(text) if term in self._terms)
        if not counts:
            return scores
        columns = np.fromiter(sorted(counts), dtype=np.intp)
        weights = np.array([1 + math.log(counts[int(column)]) for column in columns]) * self._idf[columns]
        weights /= np.linalg.norm(weights)
        for column, weight in zip(columns, weights, strict=True):
            span = slice(self._columns.indptr[column], self._columns.indptr[column + 1])
            scores[self._columns.indices[span]] += weight * self._columns.data[span]
        return np.minimum(scores, 1.0)

    def _spread(self, match: Vector) -> Vector:
        """What matches passes on along links, until nothing more than 1e-6 arrives anywhere."""
        if self._damping == 0 or not match.any():
            return match
        total, passed = match.copy(), match
        for _ in range(STEPS):
            passed = self._damping * (self._links @ passed)
            total += passed
            if passed.max() < 1e-6:
                break
        return total


def terms(text: str) -> list[str]:
    """The words of a text that say something, and its pairs of neighbouring words.

    >>> terms("No. I said: use awk!")
    ['no', 'said', 'use', 'awk', 'no i', 'i said', 'said use', 'use awk']
    """
    words = [word.lower() for word in WORD.findall(text)[:LONGEST]]
    pairs = [f"{first} {second}" for first, second in pairwise(words)]
    return [*(word for word in words if word not in COMMON), *pairs]


def _index(nodes: Iterable[Node]) -> tuple[sparse.csc_matrix, Vector, dict[str, int]]:
    """Normalised tf-idf, nodes x terms, by column; each term's idf; each term's column."""
    known: dict[str, int] = {}
    indptr, indices, data = [0], [], []
    for node in nodes:
        counts = Counter(terms(" . ".join((node.title, node.phrase, node.text))))
        for term, count in counts.items():
            indices.append(known.setdefault(term, len(known)))
            data.append(1 + math.log(count))
        indptr.append(len(indices))
    rows = len(indptr) - 1
    matrix = sparse.csr_matrix((np.array(data, dtype=np.float64), indices, indptr), shape=(rows, len(known)))
    frequency = np.bincount(matrix.indices, minlength=len(known))
    idf: Vector = np.log((1 + rows) / (1 + frequency)) + 1
    matrix = matrix @ sparse.diags_array(idf)
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    norms[norms == 0] = 1
    return sparse.csc_matrix(sparse.diags_array(1 / norms) @ matrix), idf, known


def _transitions(memory: Memory, rows: dict[str, int]) -> sparse.csr_matrix:
    """The transposed transition matrix: column j says how node j shares what it passes on, by link strength."""
    size = len(rows)
    links = memory.links()
    source = np.array([rows[link.source] for link in links], dtype=np.intp)
    target = np.array([rows[link.target] for link in links], dtype=np.intp)
    strength = np.array([link.strength for link in links], dtype=np.float64)
    forward = sparse.csr_matrix((strength, (target, source)), shape=(size, size))
    both = forward + forward.T
    sums = np.asarray(both.sum(axis=0)).ravel()
    sums[sums == 0] = 1
    return sparse.csr_matrix(both @ sparse.diags_array(1 / sums))

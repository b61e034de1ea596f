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
import zlib
from array import array
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
LARGEST_INDEX = 1 << 20  # columns; about 12 MB
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
        self._columns, self._idf = _index([node for key in self._keys if (node := memory.get(key))])
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
        size = len(self._idf)
        hashed = (_hash(term) % size for term in terms(text))
        counts = Counter(column for column in hashed if self._idf[column] > 0)
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
    """The words of a text that say something, and its pairs of neighbouring words that do.

    >>> terms("No. I said: use it with awk!")
    ['no', 'said', 'use', 'awk', 'no i', 'i said', 'said use', 'use it', 'with awk']
    """
    words = [word.lower() for word in WORD.findall(text)[:LONGEST]]
    pairs = [f"{a} {b}" for a, b in pairwise(words) if a not in COMMON or b not in COMMON]
    return [*(word for word in words if word not in COMMON), *pairs]


def _index(nodes: Iterable[Node]) -> tuple[sparse.csc_matrix, Vector]:
    """Normalised tf-idf, nodes x term columns; each column's idf, 0 where no node has the term.

    Terms are hashed to columns (Weinberger et al., 2009): a dictionary of a large graph's word pairs would take more
    memory than the graph itself.
    """
    ends, hashes, data = [0], array("L"), array("d")
    for node in nodes:
        for term, count in Counter(terms(" . ".join((node.title, node.phrase, node.text)))).items():
            hashes.append(_hash(term))
            data.append(1 + math.log(count))
        ends.append(len(hashes))
    rows = len(ends) - 1
    size = min(LARGEST_INDEX, max(1 << 12, 1 << (4 * len(hashes)).bit_length()))
    columns = np.frombuffer(hashes, dtype=np.dtype("L")) % size if hashes else np.zeros(0, dtype=np.intp)
    values = np.frombuffer(data, dtype=np.float64) if data else np.zeros(0)
    matrix = sparse.csr_matrix((values, columns, ends), shape=(rows, size))
    matrix.sum_duplicates()
    frequency = np.bincount(matrix.indices, minlength=size)
    idf: Vector = np.where(frequency > 0, np.log((1 + rows) / (1 + frequency)) + 1, 0.0)
    matrix = matrix @ sparse.diags_array(idf)
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    norms[norms == 0] = 1
    return sparse.csc_matrix(sparse.diags_array(1 / norms) @ matrix), idf


def _hash(term: str) -> int:
    """The same on every machine and in every run, unlike `hash`."""
    return zlib.crc32(term.encode("utf-8", "surrogatepass"))


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

"""Predicts how difficult a dream is, before any answer exists: ridge logistic regression on its words.

The features are hashed words and word pairs, the wished band and the behaviour; the hash is CRC-32, so the same text
has the same features in every process. The coefficients start from a prior by band (.3 / .5 / .7) and the ridge pulls
towards it: without history the prior answers, and a little history moves it a little. Intercept and bands are
penalised lightly, words strongly. A dream's k answers count as `EFFECTIVE` answers at most, for they are one cluster.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from policies.records import BANDS

PRIOR = {"obvious": 0.3, "medium": 0.5, "subtle": 0.7}
BUCKETS = 384  # hashed words and pairs
NAMES = 16  # hashed behaviours, each with its own intercept and bands
WORDS_RIDGE = 3.0
OWN_RIDGE = 1.0
EFFECTIVE = 4.0
ROWS = 2000  # the newest history used: it bounds the time, and the adapter that old outcomes speak of is gone
_WORD = re.compile(r"\w+")
_FIXED = 1 + len(BANDS)
_WIDTH = _FIXED + NAMES * _FIXED + BUCKETS


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A dream whose answers are known: `failures` of `n` judged answers."""

    text: str
    behavior: str
    band: str
    failures: int
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """A fitted model. `n` counts the dreams it learned from."""

    weights: NDArray[np.float64]
    n: int

    @property
    def name(self) -> str:
        """What goes into `Difficulty.classifier`: kind, dreams seen, and a hash of the coefficients."""
        return f"logistic-{self.n}-{zlib.crc32(self.weights.round(9).tobytes()):08x}"

    def predict(self, text: str, behavior: str, band: str) -> float:
        """P(an answer fails), within [0.01, 0.99].

        >>> round(fit([]).predict("use grep", "listening", "subtle"), 2)
        0.7
        """
        places, values = _features(text, behavior, band)
        chance = float(expit(_prior(band) + float(self.weights[places] @ values)))
        return min(0.99, max(0.01, chance))


def fit(history: Sequence[Graded]) -> Classifier:
    """Fit on `history`, oldest first, by Newton's method (iteratively reweighted least squares).

    Deterministic; rows without judged answers are passed over; without rows the prior alone is the answer.
    """
    rows = [row for row in history if row.n > 0][-ROWS:]
    if not rows:
        return Classifier(np.zeros(_WIDTH), 0)
    x = np.zeros((len(rows), _WIDTH))
    for i, row in enumerate(rows):
        places, values = _features(row.text, row.behavior, row.band)
        np.add.at(x[i], places, values)
    offset = np.array([_prior(row.band) for row in rows])
    trials = np.array([min(float(row.n), EFFECTIVE) for row in rows])
    share = np.array([row.failures / row.n for row in rows])
    used = np.flatnonzero(np.any(x != 0, axis=0))  # buckets nothing fell into keep their zero
    x = x[:, used]
    ridge = np.where(used < _FIXED + NAMES * _FIXED, OWN_RIDGE, WORDS_RIDGE)
    beta = np.zeros(len(used))
    for _ in range(25):
        p = expit(offset + x @ beta)
        gradient = x.T @ (trials * (share - p)) - ridge * beta
        hessian = (x * (trials * p * (1 - p))[:, None]).T @ x
        hessian[np.diag_indices_from(hessian)] += ridge
        step = np.linalg.solve(hessian, gradient)
        largest = float(np.abs(step).max())
        beta += step * min(1.0, 2.0 / max(largest, 1e-12))  # damped: a full Newton step may overshoot
        if largest < 1e-6:
            break
    weights = np.zeros(_WIDTH)
    weights[used] = beta
    return Classifier(weights, len(rows))


def _prior(band: str) -> float:
    return float(logit(PRIOR.get(band, 0.5)))


def _features(text: str, behavior: str, band: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Places and values of the non-zero features (a place may come twice; its values add up)."""
    words = _WORD.findall(text.lower())
    grams = [*words, *(f"{a} {b}" for a, b in pairwise(words))]
    name = _FIXED * (1 + zlib.crc32(behavior.encode("utf-8", "replace")) % NAMES)
    places, values = [0, name], [1.0, 1.0]
    if band in BANDS:
        slot = 1 + BANDS.index(band)
        places += [slot, name + slot]
        values += [1.0, 1.0]
    # every text's words weigh the same together, however long it is
    weight = 3.0 / max(1.0, len(grams) ** 0.5)
    for gram in grams:
        digest = zlib.crc32(gram.encode("utf-8", "replace"))
        places.append(_FIXED + NAMES * _FIXED + digest % BUCKETS)
        values.append(weight if digest & 0x8000_0000 else -weight)  # signed hashing: collisions cancel on average
    return np.array(places), np.array(values)

"""Can a straight line tell two classes apart? A cross-validated linear probe and its permutation null.

Ridge regression on centred labels (Hoerl & Kennard 1970) is the probe, the area under the ROC curve its score. For
fixed features each fold's predictions are a fixed matrix times the labels, so a permutation costs one product.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.model_selection import GroupKFold


@dataclass(frozen=True, slots=True, eq=False)
class ProbeAuc:
    """The AUC, its p-value, mean and 95 % quantile of the null, number of items, and their out-of-fold scores (n,)."""

    auc: float
    p: float
    null_mean: float
    null_high: float
    n: int
    scores: NDArray[np.float64]


def probe_auc(
    x: ArrayLike,
    labels: Sequence[bool],
    groups: Sequence[Hashable],
    rng: np.random.Generator,
    *,
    folds: int = 5,
    permutations: int = 1000,
    ridge: float = 1.0,
) -> ProbeAuc:
    """The AUC of predicting `labels` from features `x` (n, p), for groups (templates) that the probe never saw.

    Folds keep groups whole; features are standardised inside each fold. Scores leave out the mean of the training
    labels, which differs between folds and would push the AUC below one half. Groups of one label exchange theirs
    among themselves, in groups of both labels are permuted within; p = (1 + hits) / (permutations + 1).

    >>> rng = np.random.default_rng(0)
    >>> labels = [True, False] * 20
    >>> x = np.where(labels, 1.0, -1.0)[:, None] + 0.1 * rng.normal(size=(40, 3))
    >>> found = probe_auc(x, labels, [i // 2 for i in range(40)], rng)
    >>> found.auc, found.p < 0.01
    (1.0, True)

    Raises ValueError when lengths differ, a class is missing, or there are fewer than 2 groups.
    """
    features, y = np.asarray(x, dtype=float), np.asarray(labels, dtype=bool)
    places: dict[Hashable, int] = {}
    group = np.array([places.setdefault(g, len(places)) for g in groups], dtype=np.intp)
    if features.ndim != 2 or not len(features) == len(y) == len(group):
        raise ValueError(f"features {features.shape}, {len(y)} labels, {len(group)} groups: give one row each")
    if len(places) < 2 or y.all() or not y.any():
        raise ValueError("a probe needs both classes and at least 2 groups")
    hat = _hat(features, group, min(folds, len(places)), ridge)
    scores = hat @ y
    shuffled = np.stack([_permuted(y, group, rng) for _ in range(permutations)], axis=1)
    auc = float(_auc(scores[:, None], y[:, None])[0])
    null = _auc(hat @ shuffled, shuffled)
    hits = int(np.count_nonzero(null >= auc - 1e-12))
    return ProbeAuc(
        auc, (1 + hits) / (permutations + 1), float(null.mean()), float(np.quantile(null, 0.95)), len(y), scores
    )


def _hat(x: NDArray[np.float64], group: NDArray[np.intp], folds: int, ridge: float) -> NDArray[np.float64]:
    """The matrix (n, n) that takes labels to out-of-fold scores; ridge regression in its dual form, for n << p."""
    hat = np.zeros((len(x), len(x)))
    for train, test in GroupKFold(folds).split(x, groups=group):
        mean, spread = x[train].mean(axis=0), x[train].std(axis=0)
        spread[spread < 1e-12 * np.maximum(1.0, np.abs(mean))] = 1.0  # a feature that does not vary stays at 0
        seen, new = (x[train] - mean) / spread, (x[test] - mean) / spread
        weights = np.linalg.solve(seen @ seen.T + ridge * np.eye(len(train)), seen @ new.T).T
        hat[np.ix_(test, train)] = weights - weights.mean(axis=1, keepdims=True)  # centres the training labels
    return hat


def _permuted(y: NDArray[np.bool_], group: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.bool_]:
    count, positive = np.bincount(group), np.bincount(group, weights=y)
    permuted = np.empty_like(y)
    # sorting by (group, chance) keeps groups in place and shuffles inside them
    permuted[np.argsort(group, kind="stable")] = y[np.lexsort((rng.random(len(y)), group))]
    pure = (positive == 0) | (positive == count)
    exchanged = positive > 0
    exchanged[pure] = rng.permutation(exchanged[pure])
    return np.where(pure[group], exchanged[group], permuted)


def _auc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The area for each column: the rank sum of Mann & Whitney (1947), ties count one half."""
    positive = labels.sum(axis=0)
    ranks = (rankdata(scores, axis=0) * labels).sum(axis=0)
    area: NDArray[np.float64] = (ranks - positive * (positive + 1) / 2) / (positive * (len(labels) - positive))
    return area

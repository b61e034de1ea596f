"""Similarity of two representations of the same items: centred kernel alignment without its small-sample bias."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def debiased_cka(x: ArrayLike, y: ArrayLike) -> float:
    """CKA of features (n, p) and (n, q) of n >= 4 items, from the unbiased HSIC; 1.0 alike, about 0 unrelated.

    Linear CKA of Kornblith et al. 2019 with the HSIC of Song et al. 2012 (JMLR 13:1393), as in Nguyen et al. 2021
    (ICLR). The usual CKA of noise is close to 1 when there are more features than items; this one may be slightly
    below 0. 0.0 when one of them does not vary.

    >>> x = np.random.default_rng(0).normal(size=(20, 50))
    >>> round(debiased_cka(x, 3 * x), 6)
    1.0

    Raises ValueError when the numbers of items differ or are below 4.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b) or len(a) < 4:
        raise ValueError(f"CKA compares features of the same 4 or more items; these have shapes {a.shape}, {b.shape}")
    k, m = _kernel(a), _kernel(b)
    scale = _hsic(k, k) * _hsic(m, m)
    return _hsic(k, m) / math.sqrt(scale) if scale > 0 else 0.0


def _kernel(features: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = features - features.mean(axis=0)  # changes nothing but the rounding
    gram: NDArray[np.float64] = centred @ centred.T
    np.fill_diagonal(gram, 0.0)
    return gram


def _hsic(k: NDArray[np.float64], m: NDArray[np.float64]) -> float:
    """Song's unbiased estimator, for kernels with an empty diagonal."""
    n = len(k)
    whole = float(k.sum()) * float(m.sum()) / ((n - 1) * (n - 2))
    rows = 2 * float(k.sum(axis=0) @ m.sum(axis=0)) / (n - 2)
    return (float((k * m).sum()) + whole - rows) / (n * (n - 3))

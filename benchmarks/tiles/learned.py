"""Boosted regression trees: the learned cost model of a tuner that samples, as XGBoost is for Ansor and DietCode."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Trees"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_TREES = 120
_DEPTH = 5
_RATE = 0.15
_BINS = 32
_WEIGHT = 2.0
"""Keeps leaves of few samples near 0."""


class _Tree(NamedTuple):
    """Feature and bin that each inner node cuts at, level by level, and the value of each leaf."""

    features: tuple[Ints, ...]
    cuts: tuple[Ints, ...]
    leaves: Floats


class Trees:
    """Predicts a number from rows of features; fitted to squared errors."""

    def __init__(self, features: Floats, targets: Floats) -> None:
        steps = np.linspace(0, 1, _BINS + 1)[1:-1]
        self._edges = [np.unique(np.quantile(column, steps)) for column in features.T]
        codes = self._codes(features)
        self._mean = float(targets.mean())
        left = targets - self._mean
        self._trees: list[_Tree] = []
        for _ in range(_TREES):
            tree, nodes = _grown(codes, left)
            self._trees.append(tree)
            left = left - tree.leaves[nodes]

    def predict(self, features: Floats) -> Floats:
        """The number for each row."""
        codes = self._codes(features)
        found = np.full(len(features), self._mean)
        rows = np.arange(len(features))
        for tree in self._trees:
            node = np.zeros(len(features), dtype=np.int64)
            for feature, cut in zip(tree.features, tree.cuts, strict=True):
                node = 2 * node + (codes[rows, feature[node]] > cut[node])
            found += tree.leaves[node]
        return found

    def _codes(self, features: Floats) -> Ints:
        columns = zip(self._edges, features.T, strict=True)
        return np.stack([np.searchsorted(edges, column) for edges, column in columns], axis=1)


def _grown(codes: Ints, left: Floats) -> tuple[_Tree, Ints]:
    """A tree of full depth for what is left to explain, and the leaf of each sample."""
    node = np.zeros(len(codes), dtype=np.int64)
    rows, width = np.arange(len(codes)), codes.shape[1] * _BINS
    slots = codes + np.arange(codes.shape[1]) * _BINS
    features, cuts = [], []
    for level in range(_DEPTH):
        nodes = 1 << level
        flat = (node[:, None] * width + slots).ravel()
        shape = nodes, codes.shape[1], _BINS
        weights = np.repeat(left, codes.shape[1])
        sums = np.bincount(flat, weights, nodes * width).reshape(shape).cumsum(axis=2)
        counts = np.bincount(flat, minlength=nodes * width).reshape(shape).cumsum(axis=2)
        rest, others = sums[:, :, -1:] - sums, counts[:, :, -1:] - counts
        gain = sums**2 / (counts + _WEIGHT) + rest**2 / (others + _WEIGHT)
        best = gain.reshape(nodes, -1).argmax(axis=1)
        features.append(best // _BINS)
        cuts.append(best % _BINS)
        node = 2 * node + (codes[rows, features[-1][node]] > cuts[-1][node])
    leaves = 1 << _DEPTH
    total, count = np.bincount(node, left, leaves), np.bincount(node, minlength=leaves)
    return _Tree(tuple(features), tuple(cuts), _RATE * total / (count + _WEIGHT)), node

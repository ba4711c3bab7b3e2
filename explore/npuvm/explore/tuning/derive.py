"""Which tiles of a chip are measured, and what all others take: formulas, corrected by how far off they are nearby.

Measured tiles are spread over those that the chooser can have a use for, by the formulas' account. No shape takes part.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.core_cost import REFERENCE
from npuvm.compiler.cube.costs import CandidateCosts, reference_cost
from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.tiles.library import STEPS

__all__ = ["derived_cycles", "spread"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_REACHES = (1.0, 2.0, 4.0)
"""How far what one tile is off by says something of others, in standard deviations of what they are told apart by."""

_NOISES = (1e-2, 1e-3, 1e-4)
"""Variance of what no neighbour knows, as a share of what neighbours have in common."""

_SLOPE = 0.1
"""Variance of the slopes of a linear trend, as the same share."""


def spread(costs: CandidateCosts, count: int) -> Ints:
    """Numbers of `count` of the candidates, far from each other in the logarithms of their sizes; all where there are no more.

    The first one is in the middle, each further one as far from those before as can be.
    """
    every = np.arange(len(costs.table))
    if count >= len(every):
        return every
    pool = np.unique(np.concatenate(costs.useful()))
    pool = pool if len(pool) > count else every
    places = _normal(_sizes(costs.table, costs.depths)[pool], slice(None))
    taken = [int((places**2).sum(axis=1).argmin())]
    apart = np.full(len(places), np.inf)
    while len(taken) < count:
        apart = np.minimum(apart, ((places - places[taken[-1]]) ** 2).sum(axis=1))
        taken.append(int(apart.argmax()))
    return np.asarray(pool[taken])


def derived_cycles(problem: TileProblem, measured: str, costs: CandidateCosts, at: Ints, cycles: Ints) -> Ints:
    """Cycles of all candidates where those with the numbers `at` take `cycles`; columns are as in `TileMeter.cycles`.

    The logarithm of measured cycles over those of the formulas is taken for a Gaussian process over sizes of tiles, and what
    later tiles and main memory take of a first tile's cycles. Its reach and noise are those under which measurements are the
    likeliest.
    """
    tiles = np.concatenate([costs.table, costs.depths[:, None]], axis=1).T.astype(np.float64)
    found = np.empty((len(costs.table), 2 * len(STEPS)))
    for step, times in enumerate(STEPS):
        first, later, *_ = reference_cost(problem, measured).cycles(tiles, tiles[2] * times, REFERENCE, False)
        fetched = np.log(times * _fetched(problem, tiles) / first)
        features = np.column_stack([_sizes(costs.table, costs.depths), np.log(later / first), fetched])
        for column, formula in ((step, first), (len(STEPS) + step, later)):
            known = np.log(cycles[:, column] / formula[at])
            found[:, column] = formula * np.exp(_interpolated(_normal(features, at), at, known))
    whole = np.maximum(np.rint(found), 1).astype(np.int64)
    whole[at] = cycles
    return whole


def _sizes(table: Ints, depths: Ints) -> Floats:
    """What tiles are told apart by: logarithms of m, n, and k at both levels, and accumulators."""
    return np.column_stack([np.log(table[:, [0, 1, 2, 5]]), depths])


def _fetched(problem: TileProblem, tiles: Floats) -> Floats:
    """Cycles in which main memory gives the operands of a step at L1; the rows of the right one are whole lines."""
    m, n, k, *_ = tiles
    line = problem.chip.memory.l2.line_bytes
    nbytes = m * k * problem.item + k * np.ceil(n * problem.item / line) * line
    return np.asarray(nbytes / float(problem.chip.hbm_bytes_per_cycle))


def _normal(features: Floats, at: Ints | slice) -> Floats:
    """Features with mean 0 and standard deviation 1 over the rows `at`; one that is the same in all of them is left out."""
    some = features[at]
    deviations = some.std(axis=0)
    varied = deviations > 0
    return np.asarray((features - some.mean(axis=0))[:, varied] / deviations[varied])


def _interpolated(features: Floats, at: Ints, known: Floats) -> Floats:
    """The mean of a Gaussian process at all rows, where it is `known` at some."""
    mean = known.mean()
    values = known - mean
    if not values.any():
        return np.full(len(features), mean)
    some = features[at]
    apart = ((features[:, None] - some) ** 2).sum(axis=2)
    trend = _SLOPE * (1 + features @ some.T)
    best, likeliest = values, -np.inf
    for reach, noise in product(_REACHES, _NOISES):
        likeness = np.exp(-apart / (2 * reach**2)) + trend
        within = likeness[at] + noise * np.eye(len(at))
        weights = np.linalg.solve(within, values)
        # The scale of all variances is that under which the values are likeliest.
        likelihood = -len(at) * np.log(values @ weights) - np.linalg.slogdet(within)[1]
        if likelihood > likeliest:
            best, likeliest = likeness @ weights, likelihood
    return np.asarray(best + mean)

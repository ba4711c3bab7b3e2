"""Pareto fronts of what was evaluated, and the volume that they dominate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from npuvm.explore.evaluation import objective_values
from npuvm.explore.results.entry import Entry
from npuvm.explore.space import Space

__all__ = [
    "Vector",
    "done_vector",
    "front_entries",
    "hypervolume",
    "hypervolume_history",
    "non_dominated",
    "reference_point",
    "share_found",
]

Vector: TypeAlias = tuple[float, ...]
"""A figure for each objective of a space, in its order, as it is read: more throughput is a larger number."""

Array: TypeAlias = npt.NDArray[Any]

_MARGIN = 0.1
"""Part of the range of an objective by which a reference point lies beyond the worst figure."""


def done_vector(space: Space, entry: Entry) -> Vector | None:
    """The objectives of a point that was simulated whole; None for any other."""
    values = objective_values(space, entry.evaluation) if entry.evaluation.state == "done" else None
    return None if values is None else tuple(values)


def front_entries(space: Space, entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The points that no point beats, by rising first objective, then by number; points that are equal are all there."""
    found = [(vector, entry) for entry in entries if (vector := done_vector(space, entry)) is not None]
    kept = non_dominated([vector for vector, _ in found], _signs(space))
    return tuple(entry for _, entry in sorted((found[at] for at in kept), key=lambda each: (each[0], each[1].number)))


def non_dominated(vectors: Sequence[Sequence[float]], signs: Sequence[int]) -> tuple[int, ...]:
    """Places of the vectors that no other is at least as good as everywhere and better somewhere.

    A sign is 1 where less is better and -1 where more is.
    """
    return tuple(np.flatnonzero(~_dominated(_costs(vectors, signs))).tolist())


def _costs(vectors: Sequence[Sequence[float]], signs: Sequence[int]) -> Array:
    """Vectors as rows in which less is better."""
    return np.asarray(vectors, dtype=np.float64).reshape(len(vectors), len(signs)) * np.asarray(signs, dtype=np.float64)


def _dominated(costs: Array) -> Array:
    """Which rows another row beats."""
    beaten = np.zeros(len(costs), dtype=np.bool_)
    front = np.empty_like(costs)
    count = 0
    # In this order a row is beaten by earlier ones only, and by one of the front if by any.
    for place in np.lexsort(costs.T[::-1]).tolist():
        row, so_far = costs[place], front[:count]
        if bool(((so_far <= row).all(axis=1) & (so_far < row).any(axis=1)).any()):
            beaten[place] = True
        else:
            front[count] = row
            count += 1
    return beaten


def _signs(space: Space) -> tuple[int, ...]:
    return tuple(objective.measure.sign for objective in space.objectives)


def reference_point(space: Space, entries: Iterable[Entry]) -> Vector | None:
    """A point that is worse than all that were simulated whole, by a tenth of the range of each objective.

    Where all figures are equal it is worse by a tenth of the figure. None while no point was simulated.
    """
    vectors = [vector for entry in entries if (vector := done_vector(space, entry)) is not None]
    if not vectors:
        return None
    costs = _costs(vectors, _signs(space))
    worst, ranges = costs.max(axis=0), np.ptp(costs, axis=0)
    beyond = np.where(ranges > 0, ranges, np.where(worst != 0, abs(worst), 1.0))
    return tuple(((worst + _MARGIN * beyond) * np.asarray(_signs(space))).tolist())


def hypervolume(vectors: Sequence[Sequence[float]], reference: Sequence[float], signs: Sequence[int]) -> float:
    """The volume between a reference point and the vectors: how much of what is possible they beat. Exact.

    Vectors that are not better than the reference everywhere add nothing.
    """
    return _volume(_costs(vectors, signs), _costs([reference], signs)[0])


def _volume(costs: Array, reference: Array) -> float:
    costs = np.unique(costs[(costs < reference).all(axis=1)], axis=0)
    costs = costs[~_dominated(costs)]
    if not len(costs):
        return 0.0
    if costs.shape[1] <= 2:
        return _staircase(costs, reference)
    # While, Bradstreet and Barone, "A fast way of calculating exact hypervolumes" (2012): each adds to those after it.
    return sum(_added(row, costs[at + 1 :], reference) for at, row in enumerate(costs))


def _staircase(costs: Array, reference: Array) -> float:
    """Volume of points of one or two objectives, none dominated, sorted by the first."""
    if costs.shape[1] == 1:
        return float(reference[0] - costs[0, 0])
    above = np.concatenate([reference[1:], costs[:-1, 1]])
    return float(np.sum((reference[0] - costs[:, 0]) * (above - costs[:, 1])))


def _added(row: Array, others: Array, reference: Array) -> float:
    """What a point adds to the volume of others."""
    return float(prod((reference - row).tolist())) - _volume(np.maximum(others, row), reference)


def hypervolume_history(
    space: Space, entries: Iterable[Entry], reference: Sequence[float] | None = None
) -> tuple[float, ...]:
    """The hypervolume after each evaluation, in the order of the entries; all zero while no point was simulated.

    Without `reference` it is `reference_point` of all of them.
    """
    listed = tuple(entries)
    taken = reference_point(space, listed) if reference is None else reference
    if taken is None:
        return (0.0,) * len(listed)
    signs = _signs(space)
    worst = _costs([taken], signs)[0]
    front = np.empty((0, len(signs)))
    volume, history = 0.0, []
    for entry in listed:
        vector = done_vector(space, entry)
        row = None if vector is None else _costs([vector], signs)[0]
        if row is not None and (row < worst).all() and not (front <= row).all(axis=1).any():
            volume += _added(row, front, worst)
            front = np.vstack([front[~(row <= front).all(axis=1)], row])
        history.append(volume)
    return tuple(history)


def share_found(reference: Iterable[Sequence[float]], found: Iterable[Sequence[float]]) -> float:
    """The share of the different vectors of a reference front that are among those found; 1 for a front of none."""
    wanted = {tuple(vector) for vector in reference}
    return len(wanted & {tuple(vector) for vector in found}) / len(wanted) if wanted else 1.0

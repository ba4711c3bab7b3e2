"""Searches of a space whose points are all known: which front each sampler has found after how many evaluations."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.exploring.grid import Grid

from npuvm.explore.evaluation import Evaluation, Evaluator
from npuvm.explore.results.front import (
    Vector,
    done_vector,
    front_entries,
    hypervolume,
    hypervolume_history,
    reference_point,
    share_found,
)
from npuvm.explore.space import Point, Space, Value
from npuvm.explore.study import Entry, InProcess, SamplerName, Screen, Study
from npuvm.explore.study.executors import Front
from npuvm.explore.study.screen import Foresee

__all__ = ["Known", "Search", "search", "summary"]


@dataclass(frozen=True)
class Known:
    """A space with all its points: the best, their figures, the reference of hypervolumes, the hypervolume of the front.

    `foresee` says what is known of a point before it runs.
    """

    space: Space
    grid: Grid
    foresee: Foresee
    best: tuple[Entry, ...]
    front: tuple[Vector, ...]
    reference: Vector
    volume: float

    @staticmethod
    def of(space: Space, grid: Grid) -> Known:
        """ValueError where no point was simulated whole."""
        names = [parameter.name for parameter in space.parameters]
        entries = [
            Entry(number, dict(zip(names, key, strict=True)), evaluation)
            for number, (key, evaluation) in enumerate(grid.items())
        ]
        reference = reference_point(space, entries)
        if reference is None:
            raise ValueError(f"no point of {space.name} was simulated whole")
        best = front_entries(space, entries)
        front = tuple(dict.fromkeys(vector for each in best if (vector := done_vector(space, each)) is not None))
        signs = [objective.measure.sign for objective in space.objectives]
        foresee = _once(space, Evaluator(space).foresee)
        return Known(space, grid, foresee, best, front, reference, hypervolume(front, reference, signs))


@dataclass(frozen=True)
class Search:
    """One search: of the front's hypervolume, and of its points, the share found after each evaluation.

    `whole` is whether it ended because no point was left that could be of the front.
    """

    sampler: str
    seed: int
    whole: bool
    volumes: tuple[float, ...]
    found: tuple[float, ...]


def _once(space: Space, foresee: Foresee) -> Foresee:
    """The same, looking at each point once, whatever the number of searches."""
    seen: dict[tuple[Value, ...], Mapping[str, float]] = {}

    def look(point: Point) -> Mapping[str, float]:
        key = space.key(point)
        if key not in seen:
            seen[key] = foresee(point)
        return seen[key]

    return look


def search(known: Known, sampler: SamplerName, seed: int, evaluations: int, batch: int) -> Search:
    """Search with the study that `npuvm explore` runs, points looked up in place of being simulated."""

    def look(point: Point, _front: Front) -> Evaluation:
        return known.grid[known.space.key(point)]

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "study.sqlite")
        screen = None if sampler == "grid" else Screen(known.space, known.foresee)
        with Study.open(known.space, path, sampler, seed, batch=batch) as study:
            outcome = study.run(evaluations, InProcess(lambda: look), screen=screen)
            entries = study.evaluated()
    volumes = hypervolume_history(known.space, entries, known.reference)
    found: list[float] = []
    seen: list[Vector] = []
    for entry in entries:
        vector = done_vector(known.space, entry)
        if vector is not None:
            seen.append(vector)
        found.append(share_found(known.front, seen))
    return Search(
        sampler, seed, outcome == "exhausted", tuple(volume / known.volume for volume in volumes), tuple(found)
    )


def summary(known: Known, searches: Sequence[Search], tenth: int) -> list[dict[str, Any]]:
    """By sampler, over its seeds: both shares after a tenth of the points, and evaluations to 99 % of the volume."""
    rows = []
    for sampler in dict.fromkeys(each.sampler for each in searches):
        own = [each for each in searches if each.sampler == sampler]
        at = min(tenth, *(len(each.volumes) for each in own))
        rows.append(
            {
                "sampler": sampler,
                "seeds": [each.seed for each in own],
                "evaluations": at,
                "of_grid": at / len(known.grid),
                "volume": _quartiles([each.volumes[at - 1] for each in own]),
                "front_points": _quartiles([each.found[at - 1] for each in own]),
                "evaluations_to_99_pct_volume": [_first(each.volumes, 0.99) for each in own],
                "evaluations_to_whole_front": [_first(each.found, 1.0) for each in own],
                "evaluations_to_proof": [len(each.found) if each.whole else None for each in own],
            }
        )
    return rows


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return {"quarter": low, "median": median, "three_quarters": high, "least": min(values), "most": max(values)}


def _first(values: Sequence[float], wanted: float) -> int | None:
    """The number of evaluations after which a share is reached, None for never."""
    return next((at for at, value in enumerate(values, 1) if value >= wanted - 1e-12), None)

"""Every point of a space, evaluated once and kept in a file, so that searches can be replayed on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from npuvm.explore.evaluation import Evaluation, Evaluator
from npuvm.explore.space import Point, Space, Value, load_space

__all__ = ["Grid", "fill", "load_grid"]

Grid = Mapping[tuple[Value, ...], Evaluation]
"""Evaluations by the key of their point (`Space.key`)."""


def load_grid(space: Space, path: Path) -> dict[tuple[Value, ...], Evaluation]:
    """The evaluations of a file, a line of JSON each; a last line that was cut off is left out.

    ValueError for a point that is none of the space.
    """
    found: dict[tuple[Value, ...], Evaluation] = {}
    names = {parameter.name: set(parameter.values) for parameter in space.parameters}
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else ():
        if not line.endswith("\n"):
            break
        entry = json.loads(line)
        point = entry["point"]
        if point.keys() != names.keys() or any(value not in names[name] for name, value in point.items()):
            raise ValueError(f"{path}: {point} is no point of {space.name}; allowed is a file of this space")
        found[space.key(point)] = Evaluation.from_json(entry["evaluation"])
    return found


def fill(
    space: Space, path: Path, store: Path, processes: int, told: Callable[[int, int, Evaluation], None]
) -> dict[tuple[Value, ...], Evaluation]:
    """Evaluate all points of a space that the file does not have, and add them to it; `told` of each.

    No point is left out for what is known of others, but those beyond a budget are not simulated whole. Combinations that
    are no points are not in it.
    """
    found = load_grid(space, path)
    left = [point for point in space.points() if space.key(point) not in found and space.fault(point) is None]
    total = len(found) + len(left)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and not path.read_bytes().endswith(b"\n"):
        whole = path.read_bytes().rpartition(b"\n")
        path.write_bytes(whole[0] + whole[1])
    with path.open("a", encoding="utf-8") as file:
        for point, evaluation in _evaluations(space, left, store, processes):
            file.write(json.dumps({"point": dict(point), "evaluation": evaluation.to_json()}) + "\n")
            file.flush()
            found[space.key(point)] = evaluation
            told(len(found), total, evaluation)
    return found


def _evaluations(
    space: Space, points: Sequence[Point], store: Path, processes: int
) -> Iterator[tuple[Point, Evaluation]]:
    if processes == 1:
        evaluator = Evaluator(space, store)
        for point in points:
            yield point, evaluator.evaluate(point)
        return
    with ProcessPoolExecutor(processes, initializer=_start, initargs=(space.path, store)) as pool:
        yield from zip(points, pool.map(_evaluate, map(dict, points), chunksize=4), strict=True)


_evaluator: Evaluator | None = None


def _start(path: Path, store: Path) -> None:
    global _evaluator  # one for each process of the pool
    _evaluator = Evaluator(load_space(path), store)


def _evaluate(point: Point) -> Evaluation:
    assert _evaluator is not None
    return _evaluator.evaluate(point)

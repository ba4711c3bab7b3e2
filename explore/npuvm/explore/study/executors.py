"""Where points are evaluated: in this process, in a pool of local ones, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from npuvm.explore.evaluation import Evaluation, Evaluator, code_name
from npuvm.explore.space import Point, load_space_text
from npuvm.explore.study.errors import StudyFailure, need

__all__ = [
    "Evaluate",
    "Executor",
    "Front",
    "InProcess",
    "MakeEvaluate",
    "SpaceEvaluate",
    "crashed",
    "ray_tasks",
    "same_code",
]

Front: TypeAlias = Sequence[Sequence[float]]
"""Objective vectors of points that are done."""

Evaluate: TypeAlias = Callable[[Point, Front], Evaluation]
MakeEvaluate: TypeAlias = Callable[[], Evaluate]
"""Makes what evaluates points, once in each process; it is pickled on the way there, and hashable."""


class Executor(Protocol):
    """Evaluates points, in any order. A context manager: leaving it ends the processes that it began."""

    def evaluate(self, points: Mapping[int, Point], front: Front) -> Iterator[tuple[int, Evaluation]]:
        """The evaluation of each point by its number, as they come."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class SpaceEvaluate:
    """Makes an `Evaluator` of a space that is given by its file and its text, since processes share neither."""

    path: Path
    text: str
    store: Path | None = None
    sharing: bool = True
    bounds: bool = True

    def __call__(self) -> Evaluate:
        """What evaluates points of the space."""
        space = load_space_text(self.text, self.path)
        return Evaluator(space, self.store, sharing=self.sharing, bounds=self.bounds).evaluate


class InProcess:
    """One point after another, in this process."""

    def __init__(self, make: MakeEvaluate) -> None:
        self._make = make
        self._evaluate: Evaluate | None = None

    def evaluate(self, points: Mapping[int, Point], front: Front) -> Iterator[tuple[int, Evaluation]]:
        """The evaluation of each point by its number, in the order of numbers."""
        if self._evaluate is None:
            self._evaluate = self._make()
        for number in sorted(points):
            yield number, self._evaluate(points[number], front)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def crashed(ending: str) -> Evaluation:
    """Of a point at which one process after another died."""
    error = f"every process that evaluated it died; the last ended with {ending}"
    return Evaluation("failed", {}, error=error, code=code_name())


def same_code(evaluation: Evaluation) -> Evaluation:
    """What another process made. StudyFailure where its npuvm is another one."""
    if evaluation.code not in ("", code_name()):
        raise StudyFailure(
            f"a process that evaluates points has code {evaluation.code}, the command has {code_name()}; "
            "every process needs the same npuvm, unchanged while the search goes on"
        )
    return evaluation


def ray_tasks(make: MakeEvaluate, address: str | None = None) -> Executor:
    """A `RayTasks`; StudyError where ray is not installed, or no cluster is there."""
    need("ray")
    from npuvm.explore.study.cluster import RayTasks

    return RayTasks(make, address)

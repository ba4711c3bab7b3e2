"""A pool of processes of this machine that outlives the death of any of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias

from npuvm.explore.evaluation import Evaluation
from npuvm.explore.space import Point
from npuvm.explore.study.errors import StudyFailure
from npuvm.explore.study.executors import Front, MakeEvaluate, crashed, same_code
from npuvm.explore.workers import Died, WorkerFailure, Workers

__all__ = ["ProcessPool"]

_Task: TypeAlias = tuple[Point, Front]


class ProcessPool:
    """Evaluates points in so many processes, by default one a core.

    A process that dies (killed, or out of memory) is replaced, and its point is tried once more; if that ends in the same way
    the point has failed.
    """

    def __init__(self, make: MakeEvaluate, processes: int | None = None) -> None:
        self._workers = Workers(_MakeAnswer(make), processes or os.cpu_count() or 1)

    def evaluate(self, points: Mapping[int, Point], front: Front) -> Iterator[tuple[int, Evaluation]]:
        """The evaluation of each point by its number, as they come. StudyFailure where processes cannot evaluate any."""
        try:
            for number, found in self._workers.work({number: (dict(points[number]), front) for number in points}):
                yield number, crashed(found.ending) if isinstance(found, Died) else same_code(found)
        except WorkerFailure as error:
            raise StudyFailure(str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.__exit__(kind, error, trace)


@dataclass(frozen=True)
class _MakeAnswer:
    """Makes, in a process, what evaluates the points that are sent there."""

    make: MakeEvaluate

    def __call__(self) -> Callable[[_Task], Evaluation]:
        evaluate = self.make()
        return lambda task: evaluate(*task)

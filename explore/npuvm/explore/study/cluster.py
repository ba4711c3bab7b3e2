"""Points as tasks of a Ray cluster. Imported only where ray is installed."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayError, RayTaskError

from npuvm.explore.evaluation import Evaluation
from npuvm.explore.space import Point
from npuvm.explore.study.errors import StudyError, StudyFailure
from npuvm.explore.study.executors import Evaluate, Front, MakeEvaluate, crashed, same_code
from npuvm.isa.errors import NpuvmError

__all__ = ["RETRIES", "RayTasks"]

_ADDRESS = re.compile(r"(?:ray://)?\[?(?P<host>.+?)\]?:(?P<port>\d+)")
_CONNECT_SECONDS = 5.0
"""Ray itself asks for minutes where nobody is, and then ends the process."""

RETRIES = 3
"""How often a point is tried again whose process or node died."""


class RayTasks:
    """Evaluates points on a Ray cluster that is there already: that of `address`, else of RAY_ADDRESS, else of this machine.

    A point whose process or node dies is tried again elsewhere; after `RETRIES` it has failed. StudyError where there is no
    cluster.
    """

    def __init__(self, make: MakeEvaluate, address: str | None = None) -> None:
        self._make = make
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(address or "auto")
        self._task = ray.remote(max_retries=RETRIES, num_cpus=1)(_evaluate)

    def evaluate(self, points: Mapping[int, Point], front: Front) -> Iterator[tuple[int, Evaluation]]:
        """The evaluation of each point by its number, as they come."""
        shared = ray.put((self._make, front))
        numbers = {self._task.remote(shared, dict(points[number])): number for number in sorted(points)}
        while numbers:
            ready, _ = ray.wait(list(numbers), num_returns=1)
            for each in ready:
                yield numbers.pop(each), _result(each)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ours:
            ray.shutdown()


def _connect(address: str) -> None:
    """Join a cluster. StudyError, within seconds where nobody is at the address."""
    named = os.environ.get("RAY_ADDRESS") or "auto" if address == "auto" else address  # as ray.init takes it
    try:
        if parts := _ADDRESS.fullmatch(named):
            socket.create_connection((parts["host"], int(parts["port"])), _CONNECT_SECONDS).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RayError, RuntimeError, SystemExit, ValueError) as error:
        place = "on this machine" if named == "auto" else f"at {named}"
        reason = "what is there does not answer" if isinstance(error, SystemExit) else " ".join(str(error).split())
        help_ = "`ray start --head` begins one, --ray-address or RAY_ADDRESS names one"
        raise StudyError(f"no Ray cluster {place} ({reason.rstrip('.')}); {help_}") from error


def _result(reference: Any) -> Evaluation:
    try:
        found: Evaluation | str = ray.get(reference)
    except RayTaskError:
        raise
    except RayError as error:
        return crashed(f"{type(error).__name__}: {' '.join(str(error).split())}")
    if isinstance(found, str):
        raise StudyFailure(found)
    return same_code(found)


def _evaluate(shared: tuple[MakeEvaluate, Front], point: Point) -> Evaluation | str:
    """In a process of the cluster: an evaluation, or why none can be had of any point."""
    make, front = shared
    try:
        return _made(make)(point, front)
    except NpuvmError as error:
        return str(error)


@lru_cache(maxsize=1)
def _made(make: MakeEvaluate) -> Evaluate:
    return make()
